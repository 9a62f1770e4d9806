"""Tables of scores, best and second best marked, as Markdown, LaTeX and CSV (the page has its own form)."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamtrack.evaluate.scores import lower_is_better
from siamtrack.report.comparison import Comparison, figures, update_ms

BEST, SECOND = 1, 2


@dataclass(frozen=True)
class Table:
    """R rows of C numbers."""

    title: str
    corner: str
    """Heading of the rows' names."""
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: NDArray[np.float64]
    """[R, C], NaN where there is none."""
    marks: NDArray[np.int8]
    """[R, C] BEST, SECOND or 0."""
    digits: tuple[int, ...]
    """Decimals a column."""

    def cell(self, row: int, column: int) -> str:
        """Return a number as text, empty for NaN."""
        value = self.values[row, column]
        return f"{value:.{self.digits[column]}f}" if np.isfinite(value) else ""


def mark(values: ArrayLike, lower: bool) -> NDArray[np.int8]:
    """Return which values are best and second best; equal ones share the place, NaN has none, one alone has none.

    Shapes: values [N], result [N] with BEST, SECOND or 0.
    """
    values = np.asarray(values, float)
    marks = np.zeros(len(values), np.int8)
    known = np.isfinite(values)
    if known.sum() < 2:
        return marks
    ordered = np.unique(values[known])[:: 1 if lower else -1]
    marks[values == ordered[0]] = BEST
    if len(ordered) > 1:
        marks[values == ordered[1]] = SECOND
    return marks


def overall(comparison: Comparison) -> Table:
    """Return the figures over the data set: a row a tracker, best first."""
    names = figures(scores.mean for scores in comparison.scores)
    directions = [lower_is_better(name, comparison.protocol) for name in names]
    speed = [update_ms(run) for run in comparison.runs]
    count = [float(len(scores.sequences)) for scores in comparison.scores]
    values = np.array(
        [
            [*(scores.mean.get(name, nan) for name in names), ms, number]
            for scores, ms, number in zip(comparison.scores, speed, count, strict=True)
        ]
    )
    digits = (*(3 for _ in names), 1, 0)
    shown = np.stack([values[:, column].round(places) for column, places in enumerate(digits)], 1)
    marks = [mark(shown[:, column], lower) for column, lower in enumerate([*directions, True])]
    return Table(
        title=f"{comparison.dataset.name}, {comparison.protocol}, {len(comparison.dataset.sequences)} sequences",
        corner="tracker",
        rows=comparison.trackers,
        columns=(
            *(_heading(n, low) for n, low in zip(names, directions, strict=True)),
            "median update, ms ↓",
            "sequences",
        ),
        values=values,
        marks=np.stack([*marks, np.zeros(len(values), np.int8)], 1),
        digits=digits,
    )


def by_attribute(comparison: Comparison) -> list[Table]:
    """Return a table a figure: a row an attribute, a column a tracker. None where the data set has no labels."""
    return _tables(comparison, "attribute", [scores.attributes for scores in comparison.scores])


def by_sequence(comparison: Comparison) -> list[Table]:
    """Return a table a figure: a row a sequence, a column a tracker."""
    return _tables(comparison, "sequence", [scores.sequences for scores in comparison.scores])


def _tables(comparison: Comparison, corner: str, parts: list[Mapping[str, Mapping[str, float]]]) -> list[Table]:
    rows = figures(parts)
    tables = []
    for name in figures(each for part in parts for each in part.values()):
        lower = lower_is_better(name, comparison.protocol)
        values = np.array([[part.get(row, {}).get(name, nan) for part in parts] for row in rows])
        tables.append(
            Table(
                title=_heading(name, lower),
                corner=corner,
                rows=tuple(rows),
                columns=comparison.trackers,
                values=values,
                marks=np.stack([mark(each, lower) for each in values.round(3)]),
                digits=(3,) * len(comparison.trackers),
            )
        )
    return tables


def _heading(figure: str, lower: bool) -> str:
    return f"{figure.replace('_', ' ')} {'↓' if lower else '↑'}"


def markdown(comparison: Comparison) -> str:
    """Return all tables as Markdown: the best in bold, the second best in italics."""
    parts = []
    for table in _all(comparison):
        lines = [f"### {_markdown(_title(table))}", ""]
        lines.append(f"| {table.corner} | {' | '.join(map(_markdown, table.columns))} |")
        lines.append("|---|" + "---:|" * len(table.columns))
        for row, name in enumerate(table.rows):
            cells = []
            for column in range(len(table.columns)):
                around = {BEST: "**", SECOND: "*"}.get(int(table.marks[row, column]), "")
                cells.append(f"{around}{table.cell(row, column)}{around}")
            lines.append(f"| {_markdown(name)} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    parts += ["\n".join(f"- {_markdown(note)}" for note in notes(comparison))] if notes(comparison) else []
    return "\n\n".join(parts) + "\n"


def latex(comparison: Comparison) -> str:
    r"""Return all tables as LaTeX that needs no package: the best in ``\textbf``, the second best in ``\underline``."""
    parts = []
    for table in _all(comparison):
        lines = [
            rf"\begin{{table}}\centering\caption{{{_latex(_title(table))}}}",
            rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            r"\hline",
            " & ".join(map(_latex, (table.corner, *table.columns))) + r" \\ \hline",
        ]
        for row, name in enumerate(table.rows):
            cells = [_latex(name)]
            for column in range(len(table.columns)):
                command = {BEST: r"\textbf{%s}", SECOND: r"\underline{%s}"}.get(int(table.marks[row, column]), "%s")
                cells.append(command % (table.cell(row, column) or "--"))
            lines.append(" & ".join(cells) + r" \\")
        parts.append("\n".join([*lines, r"\hline", r"\end{tabular}", r"\end{table}"]))
    return "\n\n".join([*parts, *(f"% {' '.join(note.split())}" for note in notes(comparison))]) + "\n"


def comma_separated(comparison: Comparison) -> str:
    """Return one CSV table with every digit: a row for each tracker and part.

    Columns: part (all, attribute or sequence), name of the part, tracker, the figures, and, in the rows of all, the
    median update in milliseconds. Empty where there is none.
    """
    parts: list[tuple[str, str, str, Mapping[str, float]]] = []
    for run, scores in zip(comparison.runs, comparison.scores, strict=True):
        parts.append(("all", "", run.tracker, {**scores.mean, "update_ms": update_ms(run)}))
        parts += [("attribute", name, run.tracker, each) for name, each in scores.attributes.items()]
        parts += [("sequence", name, run.tracker, each) for name, each in scores.sequences.items()]
    names = [name for name in figures(values for *_, values in parts) if name != "update_ms"] + ["update_ms"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["part", "name", "tracker", *names])
    for *where, values in sorted(parts, key=lambda row: ("all", "attribute", "sequence").index(row[0])):
        numbers = (values.get(name, nan) for name in names)
        writer.writerow([*where, *(repr(float(number)) if np.isfinite(number) else "" for number in numbers)])
    return text.getvalue()


def notes(comparison: Comparison) -> list[str]:
    """Return what a reader must know: about the comparison, then about each tracker."""
    each = zip(comparison.trackers, comparison.scores, strict=True)
    return [*comparison.notes, *(f"{tracker}: {note}" for tracker, scores in each for note in scores.notes)]


def _all(comparison: Comparison) -> Iterable[Table]:
    return [overall(comparison), *by_attribute(comparison), *by_sequence(comparison)]


def _title(table: Table) -> str:
    return table.title if table.corner == "tracker" else f"{table.title} by {table.corner}"


def _markdown(text: str) -> str:
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]|#~$" else letter for letter in text)


def _latex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
        ">": r"\textgreater{}", "|": r"\textbar{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    }  # fmt: skip
    return "".join(special.get(c, f"\\{c}" if c in "{}$&#_%" else c) for c in " ".join(text.split()))
