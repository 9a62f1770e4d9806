"""``siamtrack import``: results of other tools as runs."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from siamtrack.errors import UserError
from siamtrack.evaluate.datasets import READERS, read_dataset
from siamtrack.evaluate.foreign import find_trackers, read_results
from siamtrack.evaluate.foreign.coordinates import Coordinates
from siamtrack.evaluate.results import read_run, sequence_file, write_run, write_sequence
from siamtrack.version import __version__


def import_results(
    folder: Annotated[Path, typer.Argument(help="A tracker's folder of results, or one of several trackers.")],
    dataset: Annotated[str, typer.Option("--dataset", help=f"Name of the data set: {', '.join(READERS)}.")],
    root: Annotated[Path, typer.Option("--root", help="Folder of the data set.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of runs; each tracker becomes a folder in it.")],
    form: Annotated[
        Literal["pysot", "got10k", "vot"] | None,
        typer.Option("--format", help="The tool that wrote them; whichever fits if not given."),
    ] = None,
    tracker: Annotated[str | None, typer.Option("--tracker", help="Only this tracker of several; or its name.")] = None,
    experiment: Annotated[
        str | None, typer.Option("--experiment", help="Of the VOT toolkit's results; baseline if not given.")
    ] = None,
    one_based: Annotated[
        bool | None, typer.Option("--one-based/--zero-based", help="Whether the boxes count pixels from 1 or from 0.")
    ] = None,
    corners: Annotated[
        Literal["inclusive", "exclusive"] | None,
        typer.Option("--corners", help="The boxes are x1,y1,x2,y2, with or without pixel x2,y2."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--sequence", help="Only this sequence; repeat for several.")
    ] = None,
    nan_is_lost: Annotated[
        bool, typer.Option("--nan-is-lost", help="Lines of NaN say that the tracker found nothing.")
    ] = False,
) -> None:
    """Make runs of results of PySOT, the GOT-10k toolkit or the VOT toolkit, to score and report them like one's own.

    Nothing is guessed: boxes that look like corners, or like counted from 1, are refused until one says what they are.
    """
    data = read_dataset(dataset, root, tuple(only or ()))
    if tracker is not None and Path(tracker).name != tracker:
        raise UserError(f"--tracker {tracker} becomes the name of a folder in {out}; give it without '/'")
    found = find_trackers(folder, data, form, experiment)
    if tracker is not None and len(found) == 1:
        found = {tracker: next(iter(found.values()))}
    elif tracker is not None:
        if tracker not in found:
            raise UserError(f"{folder} has no results of tracker {tracker!r}; there are {', '.join(found)}")
        found = {tracker: found[tracker]}
    for name, layout in found.items():
        facts: dict[str, Any] = {
            "root": str(root.resolve()),
            "only": list(only or ()),
            "frames": None,
            "realtime": layout.experiment == "realtime",
            "imported": str(layout.folder.resolve()),
            "experiment": layout.experiment,
            "one_based": one_based,
            "corners": corners,
            "nan_is_lost": nan_is_lost,
            "version": __version__,
        }
        run = read_results(name, layout, data, Coordinates(one_based, corners), nan_is_lost, facts)
        write_run(out / name, run.tracker, run.dataset, run.protocol, run.facts)
        for stale in read_run(out / name).results.keys() - run.results.keys():  # of an earlier import
            sequence_file(out / name, stale).unlink()
        for sequence, results in run.results.items():
            write_sequence(out / name, sequence, results)
        of = f" experiment {layout.experiment}," if layout.experiment else ""
        print(f"{out / name}:{of} {run.protocol}, {len(run.results)} of {len(data.sequences)} sequences")
        missing = [sequence.name for sequence in data.sequences if sequence.name not in run.results]
        if missing:
            print(f"  no results of {', '.join(missing)}; means are over the other {len(run.results)}")
