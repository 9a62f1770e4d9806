"""``siamtrack eval``: score trackers on sequences."""

import json
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from siamtrack.cli import options
from siamtrack.cli.interrupt import until_interrupted
from siamtrack.cli.progress import progress_bar
from siamtrack.errors import UserError
from siamtrack.evaluate import opencv, running
from siamtrack.evaluate.datasets import read_dataset
from siamtrack.evaluate.follows import FollowsOne
from siamtrack.evaluate.protocols import one_pass
from siamtrack.evaluate.sequences import Sequence
from siamtrack.files import writable, write_text
from siamtrack.models.zoo import DEFAULT
from siamtrack.tracker import Tracker

Results = dict[str, dict[str, dict[str, Any]]]
"""What was measured: tracker, sequence, figure."""


def evaluate(
    dataset: Annotated[Path, typer.Option("--dataset", help="Folder of sequences: img/ and groundtruth.txt each.")],
    trackers: Annotated[
        list[str] | None,
        typer.Option("--tracker", help=f"A model's name or file, or {', '.join(opencv.NAMES)}; repeat to compare."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--sequence", help="Only this sequence; repeat for several.")
    ] = None,
    frames: Annotated[int | None, typer.Option("--frames", min=2, help="At most so many frames of a sequence.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write everything to this JSON file.")] = None,
    settings: options.Tracking = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Score trackers by one-pass evaluation: success AUC and precision at 20 pixels.

    Each tracker is started once with the first box of a sequence and never again. AUC is the mean over thresholds
    0, .05 .. 1 of the share of frames whose overlap is above the threshold; frames without ground truth do not count.
    A sequence that fails is named and left out, for all trackers; Ctrl-C keeps what was measured.
    """
    if out:
        writable(out)
    sequences = read_dataset("folder", dataset, tuple(only or ()), frames).sequences
    names = list(dict.fromkeys(trackers or [DEFAULT]))
    if threads:
        cv2.setNumThreads(threads)  # so that OpenCV's trackers have no more than ours
    made = {name: _make(name, device, threads, options.tracking_values(settings)) for name in names}
    results: Results = {name: {} for name in names}
    failures: list[str] = []
    with progress_bar("evaluating", len(names) * sum(map(len, sequences))) as bar, until_interrupted() as interrupted:
        # Sequence by sequence, so that the trackers' times are taken under the same conditions.
        for sequence in sequences:
            if interrupted():
                break
            try:
                scored = {
                    name: _score(tracker, sequence, lambda: bar.advance(bar.task_ids[0]))
                    for name, tracker in made.items()
                }
            except UserError as error:
                failures.append(f"{sequence.name}: {error}")
                continue
            for name in names:
                results[name][sequence.name] = scored[name]
    if results[names[0]]:
        means = {name: _mean(list(each.values())) for name, each in results.items()}
        Console().print(_table(results, means))
        if out:
            report = {"dataset": str(dataset), "protocol": "one-pass", "mean": means, "sequences": results}
            write_text(out, json.dumps(report, indent=1))
            print(f"wrote {out}")
    if failures:
        raise UserError(f"{len(failures)} sequences were left out: {'; '.join(failures)}")
    if interrupted():
        print(f"stopped by Ctrl-C after {len(results[names[0]])} of {len(sequences)} sequences")
        raise typer.Exit(130)


def _make(name: str, device: str, threads: int | None, tracking: dict[str, Any]) -> FollowsOne:
    if name in opencv.NAMES:
        return opencv.OpenCVTracker(name)
    if name.startswith("opencv"):
        raise UserError(f"unknown tracker {name!r}; OpenCV's are {', '.join(opencv.NAMES)}")
    return Tracker(name, device=device, threads=threads, tracking=tracking)


def _score(tracker: FollowsOne, sequence: Sequence, on_frame: Any) -> dict[str, Any]:
    (run,) = running.one_pass(tracker, sequence, on_frame)
    return {
        **one_pass.score_boxes(run.boxes, sequence.boxes),
        "times_ms": (run.seconds * 1e3).round(3).tolist(),
        "boxes": run.boxes.round(3).tolist(),
    }


def _mean(results: list[dict[str, Any]]) -> dict[str, float | None]:
    """Return the means over sequences, and the median time of an update over all frames."""
    times = np.concatenate([each["times_ms"][1:] for each in results])
    return {
        "auc": float(np.mean([each["auc"] for each in results])),
        "precision": float(np.mean([each["precision"] for each in results])),
        "sequences": len(results),
        "update_ms": float(np.median(times)) if len(times) else None,
    }


def _table(results: Results, means: dict[str, dict[str, float | None]]) -> Table:
    columns = [Column(escape(name), justify="right", min_width=11, overflow="fold") for name in results]
    table = Table(Column("sequence", no_wrap=True), *columns, box=box.SIMPLE, title="success AUC, precision at 20 px")
    for sequence in next(iter(results.values())):
        cells = (each[sequence] for each in results.values())
        table.add_row(escape(sequence), *(f"{cell['auc']:.3f} {cell['precision']:.3f}" for cell in cells))
    table.add_section()
    table.add_row("mean", *(f"{mean['auc']:.3f} {mean['precision']:.3f}" for mean in means.values()))
    table.add_row(
        "median update, ms", *("" if m["update_ms"] is None else f"{m['update_ms']:.1f}" for m in means.values())
    )
    return table
