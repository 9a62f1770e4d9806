"""``siamtrack report``: compare the runs of several trackers."""

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from siamtrack.cli.progress import progress_bar
from siamtrack.errors import UserError
from siamtrack.files import writable, write_text
from siamtrack.report import tables
from siamtrack.report.comparison import compare, read_runs


class Format(StrEnum):
    """Forms of a report, each with the suffix of its files."""

    html = "html"
    md = "md"
    tex = "tex"
    csv = "csv"


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, or folders that hold runs.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write (default: report.html; tables go to the terminal).")
    ] = None,
    format: Annotated[
        Format | None, typer.Option("--format", help="One page, or the tables alone (default: as --out ends, or html).")
    ] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Name of the data set, if not the runs'.")] = None,
    root: Annotated[Path | None, typer.Option("--root", help="Its folder, if it is not where the runs say.")] = None,
    frames: Annotated[bool, typer.Option("--frames/--no-frames", help="Whether to show the worst moments.")] = True,
) -> None:
    """Compare runs over one data set under one protocol: one HTML page, or tables.

    The page has ranked tables, curves, attributes, speed, and for each sequence the overlap over time and pictures of
    the worst moments; it needs no network and no other file.
    """
    suffix = out.suffix.lower().lstrip(".") if out else ""
    if out and not format and suffix not in list(Format):
        raise UserError(f"--out {out}: the name must end in .{', .'.join(Format)}, or give --format")
    form = format or (Format(suffix) if suffix in list(Format) else Format.html)
    if form is Format.html:
        out = out or Path("report.html")
        if not (find_spec("matplotlib") and find_spec("jinja2")):
            raise UserError("a page needs matplotlib and jinja2; pip install 'siamtrack[report]', or use --format md")
    if out:
        writable(out)
    comparison = compare(read_runs(runs), dataset, root)
    if form is Format.html:
        from siamtrack.report.page import render

        with progress_bar("reporting", len(comparison.dataset.sequences), "sequences") as bar:
            text = render(comparison, frames, lambda: bar.advance(bar.task_ids[0]))
    else:
        write = {Format.md: tables.markdown, Format.tex: tables.latex, Format.csv: tables.comma_separated}[form]
        text = write(comparison)
    if out:
        write_text(out, text)
        print(f"wrote {out}")
    else:
        print(text, end="")
