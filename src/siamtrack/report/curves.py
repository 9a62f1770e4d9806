"""Plots as pieces of SVG that stand inside an HTML page.

Trackers are told apart by colour and dashes, in the order of their ranking; the legend is the page's, so that names of
any length fit. Text and axes have the colour of the text around the plot, in light and dark pages alike.
"""

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from siamtrack.evaluate.scores import Curve

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Of Okabe and Ito's palette for the colour-blind, those that show on white and on black."""
DASHES = ("none", "6 2.5", "1.5 2", "7 2 1.5 2")
"""SVG dash patterns, in line widths of about a pixel; the next one after each round of colours."""

_INK = "#010203"  # becomes the colour of the text around the plot
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.axisbelow": True,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "grid.alpha": 0.15,
    "grid.color": _INK,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.5,
    "text.color": _INK,
    "text.parse_math": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def colour(index: int) -> str:
    """Return the colour of the tracker at a place of the ranking (from 0)."""
    return COLOURS[index % len(COLOURS)]


def dashes(index: int) -> str:
    """Return the SVG dash pattern of the tracker at a place of the ranking (from 0)."""
    return DASHES[index // len(COLOURS) % len(DASHES)]


def lines(curves: Mapping[int, Curve]) -> str:
    """Return a plot of one curve of several trackers, keyed by place in the ranking."""
    first = next(iter(curves.values()))
    with _axes(4.6, 3.3) as (axes, svg):
        for index, curve in curves.items():
            axes.plot(curve.x, curve.y, **_line(index))
        axes.set(xlabel=first.x_label, ylabel=first.y_label)
        finite = np.concatenate([curve.y[np.isfinite(curve.y)] for curve in curves.values()])
        top = 1.0 if len(finite) and 0.5 < finite.max() <= 1 else None  # shares fill the plot, small ones are enlarged
        axes.set_ylim(0, top)
        axes.margins(x=0)
    return svg[0]


def scatter(points: Mapping[int, tuple[float, float]], x_label: str, y_label: str) -> str:
    """Return a plot of a numbered point (x, y) a tracker, keyed by place in the ranking. x is positive, logarithmic."""
    with _axes(4.6, 3.3) as (axes, svg):
        for index, (x, y) in points.items():
            axes.plot([x], [y], "o", markersize=9, color=colour(index))
            axes.annotate(f"{index + 1}", (x, y), (7, 3), textcoords="offset points")
        low, high = (f([x for x, _ in points.values()]) for f in (min, max))
        axes.set_xscale("log")
        axes.set_xlim(low / 2.2, high * 2.2)
        ticks = [base * 10.0**power for power in range(-4, 7) for base in (1, 2, 5)]
        shown = [tick for tick in ticks if low / 2.2 <= tick <= high * 2.2]
        axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
        axes.set_xticks([], minor=True)
        axes.margins(y=0.2)
        axes.set(xlabel=x_label, ylabel=y_label)
    return svg[0]


def radar(names: Sequence[str], values: Mapping[int, NDArray[np.float64]]) -> str:
    """Return a radar plot: a spoke a name (at least 3), a closed line a tracker, keyed by place in the ranking.

    Shapes: names N, values [N] each; NaN leaves a gap.
    """
    angles = np.linspace(0, 2 * np.pi, len(names) + 1)
    with _axes(6.4, 4.4, projection="polar") as (axes, svg):
        for index, each in values.items():
            axes.plot(angles, np.append(each, each[0]), **_line(index))
        axes.set_xticks(angles[:-1], [_short(name, 26) for name in names])
        for label, angle in zip(axes.get_xticklabels(), angles, strict=False):
            side = np.cos(angle)
            label.set_horizontalalignment("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
        axes.tick_params(axis="x", pad=2)
        axes.set_ylim(bottom=0)
        axes.spines["polar"].set_alpha(0.3)
        axes.tick_params(axis="y", labelsize=7)
    return svg[0]


def bars(names: Sequence[str], values: Mapping[int, NDArray[np.float64]], label: str) -> str:
    """Return groups of bars: a group a name, a bar a tracker, keyed by place in the ranking. Shapes: as for radar."""
    with _axes(4.6, 3.3) as (axes, svg):
        width = 0.8 / len(values)
        for place, (index, each) in enumerate(values.items()):
            offset = (place - (len(values) - 1) / 2) * width
            axes.bar(np.arange(len(names)) + offset, each, width * 0.9, color=colour(index))
        axes.set_xticks(range(len(names)), [_short(name, 26) for name in names])
        axes.set_ylabel(label)
        axes.grid(False, axis="x")
    return svg[0]


def timeline(
    overlaps: Mapping[int, NDArray[np.float64]],
    absent: NDArray[np.bool_],
    failures: Mapping[int, NDArray[np.int64]],
    moments: Sequence[int],
    points: int,
) -> str:
    """Return the overlap of each tracker over the frames of a sequence, keyed by place in the ranking.

    Args:
        overlaps: [T] each, NaN leaves a gap.
        absent: [T] frames to grey.
        failures: frames in which each tracker was stopped.
        moments: frames to point at.
        points: at most so many points of a line; a point is the mean of neighbouring frames if there are more.
    """
    count = len(absent)
    step = -(-count // points)
    with _axes(12.5, 2.1, margins={"left": 0.045, "right": 0.995, "bottom": 0.22, "top": 0.96}) as (axes, svg):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], absent.astype(int), [0]])))
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            axes.axvspan(begin - 0.5, end - 0.5, color=_INK, alpha=0.12, linewidth=0)
        for moment in moments:
            axes.axvline(moment, color=_INK, alpha=0.5, linewidth=0.8, linestyle=":")
        for index, values in overlaps.items():
            x, y = thin(values, step)
            # A point between two gaps has no line: give it a dot.
            alone = np.isfinite(y) & ~np.isfinite(np.append(y[1:], np.nan)) & ~np.isfinite(np.insert(y[:-1], 0, np.nan))
            axes.plot(x, y, **_line(index))
            axes.plot(x[alone], y[alone], ".", color=colour(index), markersize=3)
            if len(failures[index]):
                axes.plot(failures[index], np.zeros(len(failures[index])), "x", color=colour(index), clip_on=False)
        axes.set(xlim=(-0.5, max(count - 0.5, 0.5)), ylim=(0, 1.02), xlabel="frame", ylabel="overlap")
        axes.set_yticks([0, 0.5, 1])
    return svg[0]


def thin(values: NDArray[np.float64], step: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the middle frames and means of each ``step`` frames; NaN does not count, but where all are NaN.

    Shapes: values [T]; results [ceil(T / step)].
    """
    padded = np.full(-(-len(values) // step) * step, np.nan)
    padded[: len(values)] = values
    blocks = padded.reshape(-1, step)  # [points, step]
    known = np.isfinite(blocks)
    count = known.sum(1)
    means = np.where(count > 0, np.where(known, blocks, 0).sum(1) / np.maximum(count, 1), np.nan)
    frames = np.arange(len(blocks), dtype=np.float64) * step + (step - 1) / 2
    return frames, means


def _line(index: int) -> dict[str, Any]:
    """Return matplotlib's form of a tracker's line."""
    pattern = dashes(index)
    style = "solid" if pattern == "none" else (0, tuple(float(part) for part in pattern.split()))
    return {"color": colour(index), "linestyle": style}


def _short(text: str, length: int) -> str:
    text = " ".join(text.replace("_", " ").split())
    return text if len(text) <= length else text[: length - 1] + "…"


@contextmanager
def _axes(
    width: float, height: float, projection: str | None = None, margins: dict[str, float] | None = None
) -> Iterator[tuple[Axes, list[str]]]:
    """Yield axes of a figure of so many inches and a list that receives its SVG when they are drawn.

    The margins are shares of the figure; found from what is drawn, which takes longer, if None.
    """
    svg: list[str] = []
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the person has set for plots of their own
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height), layout=None if margins else "constrained")
        if margins:
            figure.subplots_adjust(**margins)
        yield figure.add_subplot(projection=projection), svg
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg.append(_inline(text.getvalue()))


def _inline(svg: str) -> str:
    """Return an SVG file as an element of an HTML page: no prologue, no metadata, no addresses, no size of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r' (xmlns(:\w+)?|width|height|version)="[^"]*"', "", svg[: svg.index(">")]) + svg[svg.index(">") :]
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"\d+\.\d+", lambda n: f"{float(n[0]):.1f}", path[0]), svg)
    svg = re.sub(r"\s*\n\s*", " ", svg).replace(_INK, "currentColor").replace("xlink:href", "href")
    # The names of parts must be unique in the page; most are not used at all.
    used = set(re.findall(r"#([\w-]+)", svg))
    prefix = "p" + hashlib.sha256(svg.encode()).hexdigest()[:8]
    svg = re.sub(r' id="([^"]*)"', lambda name: f' id="{prefix}{name[1]}"' if name[1] in used else "", svg)
    return re.sub(r"(url\(|href=\")#", rf"\1#{prefix}", svg)
