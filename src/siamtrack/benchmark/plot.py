"""The results as a picture: where a frame's time goes, and what more targets cost."""

import io
from collections.abc import Sequence

import matplotlib
import matplotlib.patches
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from siamtrack.benchmark.measure import Row

_PARTS = {"crop": "#0072B2", "network": "#E69F00", "boxes": "#009E73", "rest": "#CC79A7"}  # Okabe and Ito
_WHOLE = "#888888"


def draw(rows: Sequence[Row], kind: str) -> bytes:
    """Return the picture of rows that have times, as ``svg`` or ``png``."""
    single = [row for row in rows if row.label.targets == min(each.label.targets for each in rows)]
    many = sorted({(row.label.model, row.label.runtime) for row in rows if row.label.targets > 1})
    with matplotlib.rc_context({"svg.fonttype": "none", "font.size": 9, "axes.axisbelow": True}):
        figure = Figure(figsize=(9, 1.5 + max(2.5, 0.35 * len(single))), layout="constrained")
        axes = figure.subplots(1, 2 if many else 1, squeeze=False)[0]
        _draw_parts(axes[0], single)
        if many:
            _draw_targets(axes[1], rows, many)
        out = io.BytesIO()
        figure.savefig(out, format=kind, dpi=150)
    return out.getvalue()


def _draw_parts(axes: Axes, rows: Sequence[Row]) -> None:
    names = [f"{row.label.model}\n{row.label.runtime}, {row.label.device}" for row in rows]
    for place, row in enumerate(rows):
        start, parts = 0.0, row.parts
        for name, colour in _PARTS.items() if parts else ():
            width = 1000 * getattr(parts, name)
            axes.barh(place, width, left=start, color=colour)
            start += width
        if not parts:
            axes.barh(place, 1000 * row.median, color=_WHOLE)
        axes.plot([1000 * row.slowest] * 2, [place - 0.4, place + 0.4], color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("milliseconds an update; the line is the 95th percentile")
    handles = [matplotlib.patches.Patch(color=colour, label=name) for name, colour in _PARTS.items()]
    axes.legend(handles=[*handles, matplotlib.patches.Patch(color=_WHOLE, label="whole")], loc="best", fontsize=8)


def _draw_targets(axes: Axes, rows: Sequence[Row], lines: Sequence[tuple[str, str]]) -> None:
    for model, runtime in lines:
        chosen = [row for row in rows if (row.label.model, row.label.runtime) == (model, runtime)]
        x, y = [row.label.targets for row in chosen], [row.targets_a_second for row in chosen]
        axes.plot(x, y, marker="o", markersize=3, label=f"{model}, {runtime}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.set_xlabel("targets")
    axes.set_ylabel("targets found in a second")
    axes.legend(fontsize=8)
