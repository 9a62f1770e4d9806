"""The figures by name, and one HTML page that explains all of them that a folder holds."""

import base64
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

from jinja2 import Environment, StrictUndefined

from siamtrack.analysis import centre_bias, channels, correlation, layers, plots, shift
from siamtrack.analysis.experiment import Experiment
from siamtrack.analysis.section import Section
from siamtrack.errors import UserError
from siamtrack.files import write_text
from siamtrack.version import __version__

FIGURES: dict[str, ModuleType] = {
    "centre-bias": centre_bias,
    "shift": shift,
    "layers": layers,
    "correlation": correlation,
    "channels": channels,
}
"""Each has ``measure(experiment)``, ``draw(numbers)`` and ``describe(numbers)``; in the order of the page."""


@dataclass(frozen=True)
class _Shown:
    """A figure of the page."""

    name: str
    section: Section
    svg: str
    """base64"""
    facts: dict[str, Any]


def make(name: str, experiment: Experiment, command: str) -> Path:
    """Measure and draw one figure; write its numbers (.json), the figure (.svg, .png), and the page anew.

    Args:
        name: a key of :data:`FIGURES`.
        experiment: what to measure with; its ``out`` receives the files.
        command: what the person typed, kept beside the numbers.

    Raises:
        UserError: something cannot be measured or written.
        Stopped: the person stopped it.
    """
    figure = FIGURES[name]
    numbers = figure.measure(experiment)
    facts = {
        "command": command,
        "version": __version__,
        "device": experiment.device,
        "sequences": [clip.name for clip in experiment.clips],
        "frames": sum(len(clip.frames) for clip in experiment.clips),
    }
    plots.write(figure.draw(numbers), experiment.out / name)
    write_text(
        experiment.out / f"{name}.json",
        json.dumps({"figure": name, **facts, "numbers": numbers}, allow_nan=False) + "\n",
    )
    return write_page(experiment.out)


def write_page(folder: Path) -> Path:
    """Write ``index.html`` with the figures that ``folder`` holds; it needs no other file and no network.

    Raises:
        UserError: the numbers of a figure cannot be read.
    """
    shown = []
    for name, figure in FIGURES.items():
        path = folder / f"{name}.json"
        if not path.is_file():
            continue
        try:
            read = json.loads(path.read_text(encoding="utf-8"))
            section = figure.describe(read["numbers"])
            svg = base64.b64encode((folder / f"{name}.svg").read_bytes()).decode()
            facts = {key: read[key] for key in ("command", "version", "device", "sequences", "frames")}
        except (ValueError, KeyError, TypeError, OSError):
            raise UserError(
                f"{path} or its .svg is not as this version writes it; delete both and make it anew"
            ) from None
        shown.append(_Shown(name, section, svg, facts))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("siamtrack.analysis").joinpath("page.html.j2").read_text("utf-8"))
    page = folder / "index.html"
    write_text(page, template.render(figures=shown))
    return page
