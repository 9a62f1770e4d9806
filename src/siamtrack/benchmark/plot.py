"""The results as a picture: where a frame's time goes, and what more targets cost."""

import io
from collections.abc import Sequence

import matplotlib
import matplotlib.patches
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from siamtrack.benchmark.measure import Row

_PARTS = {
    "upload": "#56B4E9",
    "crop": "#0072B2",
    "network": "#E69F00",
    "boxes": "#009E73",
    "rest": "#CC79A7",
}  # Okabe and Ito
_WHOLE = "#888888"


def draw(rows: Sequence[Row], kind: str) -> bytes:
    """Return the picture of rows that have times, as ``svg`` or ``png``."""
    single = [row for row in rows if row.label.targets == min(each.label.targets for each in rows)]
    many = any(row.label.targets > 1 for row in rows)
    height = 1.6 + 0.42 * len(single)
    with matplotlib.rc_context({"svg.fonttype": "none", "font.size": 9, "axes.axisbelow": True}):
        figure = Figure(figsize=(12, max(height, 4.5)) if many else (8, height), layout="constrained")
        axes = figure.subplots(1, 2 if many else 1, squeeze=False)[0]
        handles = _draw_parts(axes[0], single, 6 if many else 1)
        figure.legend(handles=handles, loc="outside lower left", ncols=6, fontsize=8, frameon=False)
        if many:
            _draw_targets(axes[1], rows)
            figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=8,
                          frameon=False)  # fmt: skip
        out = io.BytesIO()
        figure.savefig(out, format=kind, dpi=150)
    return out.getvalue()


def _draw_parts(axes: Axes, rows: Sequence[Row], slots: int) -> list[matplotlib.patches.Patch]:
    """Draw a bar a row, as thick as if there were ``slots`` of them at least; return what the colours mean."""
    shown: dict[str, str] = {}
    for place, row in enumerate(rows):
        start = 0.0
        for name, seconds in row.parts._asdict().items() if row.parts else ():
            if seconds:
                shown[name] = _PARTS[name]
                axes.barh(place, 1000 * seconds, 0.6, left=start, color=_PARTS[name])
                start += 1000 * seconds
        if not row.parts:
            shown["not split"] = _WHOLE
            axes.barh(place, 1000 * row.median, 0.6, color=_WHOLE)
        axes.plot([1000 * row.median, 1000 * row.slowest], [place] * 2, "k|-", markersize=8, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [_name(row) for row in rows])
    middle, half = (len(rows) - 1) / 2, max(len(rows), slots) / 2
    axes.set_ylim(middle + half, middle - half)
    axes.set_xlim(left=0)
    axes.grid(axis="x", alpha=0.3)
    targets = rows[0].label.targets
    axes.set_title(f"{targets} target{'s' * (targets > 1)}")
    axes.set_xlabel("milliseconds an update; the marks are the median and the 95th percentile")
    handles = [matplotlib.patches.Patch(color=shown[name], label=name) for name in (*_PARTS, "not split")
               if name in shown]  # fmt: skip
    return handles


def _draw_targets(axes: Axes, rows: Sequence[Row]) -> None:
    counts = sorted({row.label.targets for row in rows})
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(_name(row), []).append(row)
    for name, line in lines.items():
        x, y = [row.label.targets for row in line], [row.targets_a_second for row in line]
        axes.plot(x, y, marker="o", markersize=3, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    axes.set_title("many targets")
    axes.set_xlabel("targets")
    axes.set_ylabel("targets found in a second")


def _name(row: Row) -> str:
    label = row.label
    if label.runtime == "opencv":
        return label.model
    return f"{label.model}, {label.runtime}" + (f", {label.device}" if label.device != "cpu" else "")
