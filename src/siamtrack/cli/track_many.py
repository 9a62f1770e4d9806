"""``siamtrack track-many``: follow the targets of many videos."""

from pathlib import Path
from typing import Annotated

import typer

from siamtrack.cli import options
from siamtrack.cli.interrupt import until_interrupted
from siamtrack.cli.progress import progress_bar
from siamtrack.errors import UserError
from siamtrack.files import writable
from siamtrack.models.zoo import DEFAULT
from siamtrack.track_many import LEDGER, Outcome, Settings, execute, read_manifest, unfinished
from siamtrack.tracking.core import Latency
from siamtrack.workers import fair_share

_GPU_TOGETHER = 16
_FORMATS = ("jsonl", "csv", "txt")


def track_many(
    manifest: Annotated[
        Path,
        typer.Argument(help="List, .csv, .jsonl, .json or .yaml: video, box, if need be start, end, id, out."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the boxes; created if need be.")] = Path("tracks"),
    suffix: Annotated[
        str, typer.Option("--format", help="Of files that the list does not name: jsonl, csv, or txt for MOT.")
    ] = "jsonl",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=1024, help="Processes that share the videos and cores.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", help="Address of a Ray cluster, 'auto', or 'local' for this machine's GPUs."),
    ] = None,
    together: Annotated[
        int | None,
        typer.Option(
            "--batch", min=1, help=f"Videos a tracker follows in step (default: {_GPU_TOGETHER} on a GPU, else 1)"
        ),
    ] = None,
    drop_after: options.DropAfter = None,
    model: options.Model = DEFAULT,
    settings: options.Tracking = None,
    device: options.Device = "cpu",
    runtime: options.RuntimeName = "auto",
    pipelined: options.Pipelined = False,
    threads: options.Threads = None,
) -> None:
    """Follow the objects of many videos, and write a file of boxes a video.

    The same command goes on where it was stopped: what is finished is left alone, a row that was changed is done again.
    A video that breaks is named at the end, and its boxes up to there are kept; exit code 2 then.
    """
    if suffix not in _FORMATS:
        raise UserError(f"--format {suffix}: expected one of {', '.join(_FORMATS)}")
    videos = read_manifest(manifest, out, f".{suffix}")
    each = fair_share(threads, workers, cluster)
    place = str(Path(model).absolute()) if Path(model).is_file() else model  # workers may live in another folder
    latency: Latency = "pipelined" if pipelined else "immediate"
    chosen = Settings(place, device, each, options.tracking_values(settings), drop_after, runtime, latency)
    ran = chosen.tracker().runtime  # what is wrong shows before anything is written
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give the name of a folder")
    for folder in {out, *(video.out.parent for video in videos)}:
        folder.mkdir(parents=True, exist_ok=True)
    writable(out / LEDGER)
    left = unfinished(videos, chosen, out)
    frames = ended = 0
    with progress_bar("tracking", len(left), "videos") as bar, until_interrupted() as interrupted:

        def on_video(outcome: Outcome) -> None:
            nonlocal frames, ended
            frames, ended = frames + outcome.frames, ended + 1
            bar.advance(bar.task_ids[0])

        batch = together or (1 if device == "cpu" else _GPU_TOGETHER)
        failures = execute(left, chosen, out, batch, workers, cluster, on_video, interrupted)
    parts = [f"tracked {frames} frames of {ended - len(failures)} videos with {ran} into {out}"]
    if len(left) < len(videos):
        parts.append(f"{len(videos) - len(left)} were finished before")
    if interrupted() and ended < len(left):
        parts.append(f"stopped by {interrupted.by} with {len(left) - ended} to go; the same command goes on")
    print("; ".join(parts))
    if failures:
        named = (why if video.source in why else f"{video.source}: {why}" for video, why in failures)
        raise UserError(f"{len(failures)} of {len(videos)} videos went wrong: {'; '.join(named)}")
    if interrupted():
        raise typer.Exit(130)
