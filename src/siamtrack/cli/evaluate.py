"""``siamtrack eval``: run trackers on a data set and score them."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from siamtrack.cli import options
from siamtrack.cli.interrupt import until_interrupted
from siamtrack.cli.progress import progress_bar
from siamtrack.errors import UserError, nearest
from siamtrack.evaluate import opencv, work
from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.protocols import PROTOCOLS, check
from siamtrack.evaluate.results import TRACKED, Run, read_run, write_run
from siamtrack.evaluate.scores import Scores
from siamtrack.files import writable, write_text
from siamtrack.models.zoo import DEFAULT, sha256
from siamtrack.version import __version__
from siamtrack.workers import fair_share

_GPU_BATCH = 16


def evaluate(
    dataset: Annotated[
        str, typer.Option("--dataset", help="Name of a data set, or a folder of sequences: img/ and groundtruth.txt.")
    ],
    root: Annotated[
        Path | None, typer.Option("--root", help="Folder that the named data set was unpacked to.", show_default=False)
    ] = None,
    trackers: Annotated[
        list[str] | None,
        typer.Option("--tracker", help=f"A model's name or file, or {', '.join(opencv.NAMES)}; repeat to compare."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option("--protocol", help=f"{', '.join(PROTOCOLS)} (default: the data set's own)", show_default=False),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the runs, OUT/DATASET/TRACKER; unfinished ones go on.")
    ] = Path("results"),
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the scores to this JSON file.")] = None,
    only: Annotated[
        list[str] | None, typer.Option("--sequence", help="Only this sequence; repeat for several.")
    ] = None,
    frames: Annotated[int | None, typer.Option("--frames", min=2, help="At most so many frames of a sequence.")] = None,
    realtime: Annotated[
        float | None,
        typer.Option(
            "--realtime", min=0.001, help="Frames come at so many a second; those that come late are dropped."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=1024, help="Processes that share the sequences and cores.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", help="Address of a Ray cluster, 'auto', or 'local' for this machine's GPUs."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", min=1, help=f"Sequences a tracker follows together (default: {_GPU_BATCH} on a GPU, else 1)"
        ),
    ] = None,
    settings: options.Tracking = None,
    device: options.Device = "cpu",
    runtime: options.RuntimeName = "auto",
    threads: options.Threads = None,
) -> None:
    """Run trackers on a data set by a protocol of the field, and score them.

    What was run is kept in OUT/DATASET/TRACKER: the same command goes on where it was stopped, and shows the scores
    again when all is done. A sequence that fails is named and left out, for all trackers.
    """
    if json_file:
        writable(json_file)
    if out.suffix:
        raise UserError(f"--out {out} is a folder for the runs, not a file; --json FILE writes the scores")
    data = options.read_data(dataset, root, tuple(only or ()), frames)
    chosen = protocol or data.protocol
    if chosen not in PROTOCOLS:
        raise UserError(f"unknown protocol {chosen!r}{nearest(chosen, PROTOCOLS)}; known are {', '.join(PROTOCOLS)}")
    check(data, chosen)
    if batch is None:
        batch = 1 if device == "cpu" else _GPU_BATCH
    tracking = options.tracking_values(settings)
    each = fair_share(threads, workers, cluster)
    recipes: dict[Path, work.TrackerRecipe] = {}
    facts: dict[Path, tuple[str, dict[str, Any]]] = {}
    for model in dict.fromkeys(trackers or [DEFAULT]):
        label = _label(model)
        variant = [
            label,
            *([chosen] if chosen != data.protocol else []),
            *([f"realtime{realtime:g}"] if realtime else []),
        ]
        folder = out / _slug(Path(dataset).resolve().name if root is None else data.name) / _slug("-".join(variant))
        if folder in recipes:
            raise UserError(
                f"--tracker {recipes[folder].model} and {model} would both be kept in {folder}; give each its --out"
            )
        place = str(Path(model).absolute()) if Path(model).is_file() else model  # workers may live in another folder
        recipes[folder] = work.TrackerRecipe(place, device, each, tracking, runtime)
        known: dict[str, Any] = {"root": str((root or Path(dataset)).absolute()), "only": list(only or ())}
        known |= {"frames": frames, "model": model, **_digest(model), "settings": tracking, "device": device}
        facts[folder] = (
            label,
            known
            | {"runtime": runtime, "threads": threads, "batch": batch, "realtime": realtime, "version": __version__},
        )
    made = {folder: recipe() for folder, recipe in recipes.items()}  # what is wrong shows before anything is written
    for folder, (label, known) in facts.items():
        write_run(folder, label, data.name, chosen, known)
    jobs = work.plan(recipes, data.sequences, chosen, realtime, batch, workers if cluster else workers or 1)
    planned = sum(job.frames(place) for job in jobs for place in range(len(job)))
    with progress_bar("evaluating", planned) as bar, until_interrupted() as interrupted:
        failures = work.execute(
            jobs,
            workers,
            cluster,
            {"CPU": each or 1, "GPU": 0 if device == "cpu" else 1},
            made,
            lambda count: bar.advance(bar.task_ids[0], count),
            interrupted,
        )
    finished = _report(data, [read_run(folder) for folder in recipes], json_file)
    if failures:
        raise UserError(_sentence(failures))
    if interrupted():
        of = f"{finished} of {len(data.sequences)} sequences"
        print(f"stopped by {interrupted.by} after {of}; the same command goes on")
        raise typer.Exit(130)


def _label(model: str) -> str:
    """Return what a tracker is called: a model's name; of a file, also its folder's, for many are called ``best``."""
    path = Path(model)
    if not path.suffix:
        return model
    stem = path.stem.removesuffix(".search").removesuffix(".template")
    return f"{path.parent.name}-{stem}" if path.parent.name else stem


def _slug(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", text)


def _digest(model: str) -> dict[str, str]:
    """Return what tells a weight file from another of the same name, trained later."""
    path = Path(model)
    return {"sha256": sha256(path)} if path.suffix and path.is_file() else {}


def _sentence(failures: list[work.Failure]) -> str:
    reasons = list(dict.fromkeys((failure.sequence, failure.reason) for failure in failures))
    shown = "; ".join(f"{sequence}: {reason}" for sequence, reason in reasons[:5])
    more = f"; and {len(reasons) - 5} more" if len(reasons) > 5 else ""
    return f"{len({sequence for sequence, _ in reasons})} sequences were left out: {shown}{more}"


def _report(data: Dataset, runs: list[Run], json_file: Path | None) -> int:
    """Print and write the scores over the sequences that all runs have; return how many those are."""
    common = tuple(each for each in data.sequences if all(each.name in run.results for run in runs))
    if not common:
        return 0
    data = replace(data, sequences=common)
    scored = {run.tracker: (PROTOCOLS[run.protocol].score(data, run), run) for run in runs}
    notes = dict.fromkeys(note for scores, _ in scored.values() for note in scores.notes)
    leading = next((figure for scores, _ in scored.values() for figure in scores.mean), None)
    if leading is None:
        for sentence in (
            *notes,
            "nothing can be scored here; 'siamtrack submit' writes archives for the servers",
        ):
            print(f"note: {sentence}")
        return len(common)
    ranked = dict(
        sorted(scored.items(), key=lambda item: -np.nan_to_num(item[1][0].mean.get(leading, np.nan), nan=-np.inf))
    )
    times = {name: _update_ms(run, data) for name, (_, run) in ranked.items()}
    Console().print(_table({name: scores for name, (scores, _) in ranked.items()}, times))
    for note in notes:
        print(f"note: {note}")
    for run in runs:
        print(f"kept in {run.folder}")
    if json_file:
        report = {
            "dataset": runs[0].dataset,
            "protocol": runs[0].protocol,
            "mean": {
                name: {**scores.mean, "sequences": len(common), "update_ms": times[name]}
                for name, (scores, _) in ranked.items()
            },
            "attributes": {name: scores.attributes for name, (scores, _) in ranked.items()},
            "sequences": {name: scores.sequences for name, (scores, _) in ranked.items()},
        }
        write_text(json_file, json.dumps(_without_nan(report), indent=1) + "\n")
        print(f"wrote {json_file}")
    return len(common)


def _update_ms(run: Run, data: Dataset) -> float | None:
    """Return the median time of an update over all frames; None if it is unknown."""
    results = [result for sequence in data.sequences for result in run.results[sequence.name]]
    times = np.concatenate([result.seconds[result.codes == TRACKED] for result in results])
    times = times[np.isfinite(times)]
    return float(np.median(times)) * 1e3 if len(times) else None


def _without_nan(value: Any) -> Any:
    """Return nested values with None for NaN, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _table(scores: dict[str, Scores], times: dict[str, float | None]) -> Table:
    """Return a column a tracker, best first; a row a sequence with its first two figures, then the data set's."""
    some = next(iter(scores.values()))
    figures = list(some.mean)
    narrow = len(scores) > 3  # then two figures a tracker do not fit into 80 columns
    shown = [key for key in figures if all(key in each for each in some.sequences.values())][: 1 if narrow else 2]
    columns = [Column(escape(name), justify="right", min_width=6 if narrow else 11, overflow="fold") for name in scores]
    table = Table(Column("sequence", no_wrap=True), *columns, box=box.SIMPLE, title=f"{', '.join(shown)} per sequence")
    for sequence in some.sequences:
        cells = (each.sequences[sequence] for each in scores.values())
        table.add_row(escape(sequence), *(" ".join(f"{cell[key]:.3f}" for key in shown) for cell in cells))
    table.add_section()
    for key in figures:
        table.add_row(escape(key), *(f"{each.mean[key]:.3f}" for each in scores.values()))
    table.add_row("median update, ms", *("" if time is None else f"{time:.1f}" for time in times.values()))
    return table
