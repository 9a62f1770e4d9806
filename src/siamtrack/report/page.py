"""One HTML page that needs nothing beside it: tables, plots, and every sequence with its worst moments."""

from collections.abc import Callable
from importlib.resources import files
from math import isfinite, nan
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from siamtrack.evaluate.results import Run
from siamtrack.evaluate.scores import lower_is_better
from siamtrack.evaluate.sequences import Sequence
from siamtrack.report import curves, tables
from siamtrack.report import frames as views
from siamtrack.report.comparison import Comparison, figures, update_ms
from siamtrack.version import __version__

PICTURES = 160
"""At most so many pictures in a page, so that it stays small enough to send."""
PICTURES_OF_A_SEQUENCE = 4
_POINTS = 600_000  # of all timelines together
_FIGURE_OF_CURVE = {"success": "auc", "expected overlap": "eao", "precision recall": "f", "f": "f"}


def render(comparison: Comparison, pictures: bool = True, on_sequence: Callable[[], None] = lambda: None) -> str:
    """Return the page.

    Args:
        comparison: what to show.
        pictures: whether to read frames and show the worst moments of the sequences.
        on_sequence: called after each sequence.
    """
    sections, notes = _sections(comparison, pictures, on_sequence)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("siamtrack.report").joinpath("page.html.j2").read_text("utf-8"))
    return template.render(
        title=f"{comparison.dataset.name}, {comparison.protocol}",
        version=__version__,
        comparison=comparison,
        styles=[{"colour": curves.colour(i), "dashes": curves.dashes(i)} for i in range(len(comparison.runs))],
        facts=_facts(comparison),
        notes=[*tables.notes(comparison), *notes],
        overall=tables.overall(comparison),
        plots=_curves(comparison),
        attributes=tables.by_attribute(comparison),
        attribute_plot=_attribute_plot(comparison),
        speed=_speed(comparison),
        sequences=tables.by_sequence(comparison),
        section_of={section["name"]: section["id"] for section in sections},
        sections=sections,
        BEST=tables.BEST,
        SECOND=tables.SECOND,
    )


def figure_of_curve(curve: str, names: list[str]) -> str:
    """Return which of the figures says a curve in one number: of the same name, known, or the first."""
    plain = {name.lower().replace("_", " ").replace("-", " "): name for name in reversed(names)}
    key = curve.lower().replace("_", " ").replace("-", " ")
    return plain.get(key) or plain.get(_FIGURE_OF_CURVE.get(key, "")) or names[0]


def _curves(comparison: Comparison) -> list[dict[str, Any]]:
    plots = []
    names = figures(scores.mean for scores in comparison.scores)
    for curve in figures(scores.curves for scores in comparison.scores):
        chosen = {i: scores.curves[curve] for i, scores in enumerate(comparison.scores) if curve in scores.curves}
        figure = figure_of_curve(curve, names)
        values = {i: comparison.scores[i].mean.get(figure, nan) for i in chosen}
        plots.append(
            {
                "title": curve.replace("_", " "),
                "svg": Markup(curves.lines(chosen)),
                "legend": _legend(values, lower_is_better(figure, comparison.protocol)),
                "figure": figure.replace("_", " "),
            }
        )
    return plots


def _legend(values: dict[int, float], lower: bool) -> list[tuple[int, str]]:
    """Return trackers and their figures as text, best first, unknown ones last."""
    order = sorted(values, key=lambda i: (not isfinite(values[i]), values[i] if lower else -values[i]))
    return [(i, _text(values[i], 3)) for i in order]


def _attribute_plot(comparison: Comparison) -> dict[str, Any] | None:
    found = tables.by_attribute(comparison)
    if not found:
        return None
    table = found[0]
    values = {i: table.values[:, i] for i in range(len(comparison.runs)) if np.isfinite(table.values[:, i]).any()}
    if not values:
        return None
    svg = curves.radar(table.rows, values) if len(table.rows) >= 3 else curves.bars(table.rows, values, table.title)
    return {
        "title": table.title,
        "svg": Markup(svg),
        "legend": _legend({i: float(np.nanmean(each)) for i, each in values.items()}, table.title.endswith("↓")),
    }


def _speed(comparison: Comparison) -> dict[str, Any] | None:
    """Return the plot of speed against the first figure, None where no run has both."""
    names = figures(scores.mean for scores in comparison.scores)
    if not names:
        return None
    points = {
        i: (update_ms(run), scores.mean.get(names[0], nan))
        for i, (run, scores) in enumerate(zip(comparison.runs, comparison.scores, strict=True))
    }
    points = {i: point for i, point in points.items() if isfinite(point[0]) and isfinite(point[1])}
    if not points:
        return None
    figure = names[0].replace("_", " ")
    return {
        "figure": figure,
        "svg": Markup(curves.scatter(points, "median update, ms", figure)),
        "legend": [(i, f"{i + 1}: {ms:.1f} ms, {1e3 / ms:.0f}/s") for i, (ms, _) in sorted(points.items())],
    }


def _facts(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return what the runs say of themselves: the names of facts, and a row of values a run."""
    names = figures(run.facts for run in comparison.runs)
    return names, [[_fact(run, name) for name in names] for run in comparison.runs]


def _fact(run: Run, name: str) -> str:
    value = run.facts.get(name)
    if isinstance(value, list) and len(value) > 3:
        return f"{len(value)}: {value[0]} … {value[-1]}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={each}" for key, each in value.items())
    return "" if value is None else str(value)


def _sections(
    comparison: Comparison, pictures: bool, on_sequence: Callable[[], None]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what the page says of each sequence that a tracker finished, and notes on pictures left out."""
    sequences = [s for s in comparison.dataset.sequences if any(s.name in run.results for run in comparison.runs)]
    tracks = [
        {
            i: views.track(s, run.results[s.name], comparison.protocol)
            for i, run in enumerate(comparison.runs)
            if run.results.get(s.name)
        }
        for s in sequences
    ]
    means = [_mean_overlap(each) for each in tracks]
    each = min(PICTURES_OF_A_SEQUENCE, max(1, PICTURES // max(1, len(sequences)))) if pictures else 0
    worst_first = sorted(range(len(sequences)), key=lambda number: np.nan_to_num(means[number], nan=np.inf))
    pictured = set(worst_first[: PICTURES // each] if each else ())
    points = int(np.clip(_POINTS // max(1, sum(map(len, tracks))), 60, 400))
    sections, unread = [], []
    for number, (sequence, found) in enumerate(zip(sequences, tracks, strict=True)):
        overlaps = {i: one.mean for i, one in found.items()}
        lowest = np.array([np.where(np.isfinite(one.overlaps), one.overlaps, np.inf).min(0) for one in found.values()])
        lowest[np.isinf(lowest)] = np.nan
        wanted = views.worst_moments(lowest, each) if number in pictured and found else []
        moments = []
        for frame in wanted:
            moment = _moment(sequence, frame, found)
            if moment is None:
                unread.append(str(sequence.paths[frame]))
            else:
                moments.append(moment)
        absent = ~views.present(sequence)
        if sequence.counts is not None:
            absent |= ~sequence.counts
        svg = curves.timeline(
            overlaps,
            absent,
            {i: one.failures for i, one in found.items()},
            [moment["frame"] for moment in moments],
            points,
        )
        legend = _legend({i: _average(values) for i, values in overlaps.items()}, lower=False)
        sections.append(
            {
                "name": sequence.name,
                "id": f"s{number}",
                "frames": len(sequence),
                "attributes": sorted(sequence.attributes),
                "mean": _text(means[number], 3),
                "svg": Markup(svg),
                "step": -(-len(sequence) // points),
                "starts": max((len(one.overlaps) for one in found.values()), default=1),
                "grey": bool(absent.any()),
                "failed": any(len(one.failures) for one in found.values()),
                "legend": legend,
                "moments": moments,
            }
        )
        on_sequence()
    notes = []
    if unread:
        notes.append(f"{len(unread)} pictures are left out: images cannot be read, such as {unread[0]}.")
    if each and len(pictured) < len(sequences):
        notes.append(f"Only the {len(pictured)} sequences with the lowest overlap have pictures.")
    return sections, notes


def _moment(sequence: Sequence, frame: int, tracks: dict[int, views.Track]) -> dict[str, Any] | None:
    """Return a picture of a frame with the truth and a view a tracker, None if the frame cannot be read."""
    truth = views.outlines_of(views.truth_of(sequence, frame))
    found = {i: one.outlines(frame) for i, one in tracks.items()}
    picture = views.picture(sequence, frame, [*truth, *(outline for each in found.values() for outline in each)])
    if picture is None:
        return None
    return {
        "frame": frame,
        "picture": picture,
        "truth": [picture.points(each) for each in truth],
        "views": [
            {
                "tracker": i,
                "points": [picture.points(outline) for outline in each],
                "overlap": _text(float(tracks[i].overlaps[tracks[i].worst(frame), frame]), 2),
            }
            for i, each in found.items()
        ],
    }


def _text(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if isfinite(value) else "\N{EN DASH}"


def _average(values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else nan


def _mean_overlap(tracks: dict[int, views.Track]) -> float:
    """Return the mean over trackers of the mean overlap in a sequence, NaN if there is none."""
    values = [_average(one.mean) for one in tracks.values()]
    return _average(np.array(values)) if values else nan
