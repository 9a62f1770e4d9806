"""A page about a run: its curves, final numbers and settings in one HTML file that needs nothing beside it."""

import io
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import matplotlib
import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from siamtrack.files import write_text
from siamtrack.models import zoo
from siamtrack.train.log import read_log
from siamtrack.version import __version__

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito, for the colour-blind
_STYLE: Any = {"svg.fonttype": "none", "font.size": 9, "text.parse_math": False, "axes.grid": True, "grid.alpha": 0.3}
# A plot a row: title, kind of the rows, how its names end (those in the log are shown), whether logarithmic.
_PLOTS: tuple[tuple[str, str, tuple[str, ...], bool], ...] = (
    ("Losses", "train", ("loss", "cls", "loc", "giou", "mask"), True),
    ("Mean overlap of the positives' boxes", "train", ("iou",), False),
    ("Validation", "validation", ("auc", "precision"), False),
    ("Learning rate", "train", ("lr",), True),
    ("Norm of the gradient, before it is clipped", "train", ("gradient",), True),
    ("Pairs a second", "train", ("pairs_per_second",), False),
    ("Skipped steps", "train", ("skipped",), False),
)


def write_summary(folder: Path, preset: zoo.Preset, device: str, parts: int) -> Path:
    """Write ``summary.html`` of the run in ``folder`` from its log, and return its path.

    Args:
        folder: the run's.
        preset: what was trained.
        device: what trained it.
        parts: in how many parts a batch was computed, over processes and time.

    Raises:
        UserError: it cannot be written.
    """
    rows = read_log(folder)
    done = {kind: [row for row in rows if row["kind"] == kind] for kind in ("train", "validation")}
    plots = []
    for title, kind, ends, logarithmic in _PLOTS:
        names = [name for name in _names(done[kind]) if name in ends or name.rpartition("_")[2] in ends]
        if names:
            plots.append({"title": title, "svg": Markup(_plot(done[kind], names, logarithmic))})
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("siamtrack.train").joinpath("summary.html.j2").read_text("utf-8"))
    page = template.render(
        name=preset.name,
        version=__version__,
        steps=max((row["step"] for row in rows), default=0),
        device=device,
        parts=parts,
        skipped=int(sum(row.get("skipped", 0) for row in done["train"])),
        validations=done["validation"],
        best=_best(done["validation"]),
        scores=_names(done["validation"]),
        last={name: value for row in done["train"] for name, value in row.items() if name not in ("step", "kind")},
        plots=plots,
        settings=yaml.safe_dump(dict(preset.values), sort_keys=False, width=110),
    )
    write_text(folder / "summary.html", page)
    return folder / "summary.html"


def _names(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is in ``rows``, in the order of the log."""
    return list(dict.fromkeys(name for row in rows for name in row if name not in ("step", "kind")))


def _best(validations: Sequence[dict[str, Any]]) -> int | None:
    """Return the step of the best validation: by held-out tracks, else by sequences."""
    key = "held_auc" if "held_auc" in _names(validations) else "sequences_auc"
    return max(validations, key=lambda row: row[key])["step"] if validations else None


def _plot(rows: Sequence[dict[str, Any]], names: Sequence[str], logarithmic: bool) -> str:
    """Return curves over the steps as a piece of SVG."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.add_subplot()
        for number, name in enumerate(names):
            known = [(row["step"], row[name]) for row in rows if name in row]
            axes.plot(*zip(*known, strict=True), label=name, color=_COLOURS[number % len(_COLOURS)], marker=".")
        if logarithmic and any(row.get(name, 0) > 0 for row in rows for name in names):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("step")
        if len(names) > 1:
            axes.legend()
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
