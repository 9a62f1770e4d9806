"""``siamtrack track``: follow objects through a video and write their boxes."""

from pathlib import Path
from typing import Annotated

import typer

from siamtrack.boxes import parse_box
from siamtrack.cli import options
from siamtrack.cli.follow import follow, summary
from siamtrack.errors import UserError
from siamtrack.manifest import read_targets
from siamtrack.models.zoo import DEFAULT
from siamtrack.multi import MultiTracker, Target, earliest
from siamtrack.video.frame import parse_moment
from siamtrack.video.source import VideoSource, stem_of


def track(
    source: Annotated[str, typer.Argument(help="Video file or URL, folder or glob of images, or number of a camera.")],
    box: Annotated[
        list[str] | None,
        typer.Option("--box", help="The object in the first frame: x,y,w,h in pixels; repeat for several."),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option("--boxes", help="File of objects, .csv, .json or .yaml: x, y, w, h, if need be start, end, id."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File for the boxes: .jsonl, .csv, .txt for MOT (default: SOURCE.boxes.jsonl)."),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option("--video", help="MP4 file with the box drawn (default: SOURCE.tracked.mp4 here)."),
    ] = None,
    no_video: Annotated[bool, typer.Option("--no-video", help="Write no video.")] = False,
    start: Annotated[
        str | None,
        typer.Option("--start", help="First frame (120) or time (4.5s, 1:02); the box belongs to it."),
    ] = None,
    end: Annotated[str | None, typer.Option("--end", help="Frame or time before which to stop.")] = None,
    drop_after: options.DropAfter = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Objects that go through the network together at most.")
    ] = None,
    model: options.Model = DEFAULT,
    settings: options.Tracking = None,
    device: options.Device = "cpu",
    runtime: options.RuntimeName = "auto",
    pipelined: options.Pipelined = False,
    threads: options.Threads = None,
) -> None:
    """Follow objects in boxes through a video.

    Writes a row a frame and object (frame, time in seconds, x, y, w, h, score, and where the model knows it
    whether the object is lost; with several objects also their id) and
    an H.264 video with the boxes drawn. Ctrl-C or SIGTERM stops and keeps what was done.
    """
    if bool(box) == bool(boxes):
        raise UserError("say what to follow: give --box x,y,w,h once or more, or --boxes FILE, and not both")
    targets = read_targets(boxes) if boxes else [Target(parse_box(text)) for text in box or []]
    first, last = (None if text is None else parse_moment(text) for text in (start, end))
    if no_video and video:
        raise UserError(f"--no-video and --video {video} contradict each other; give one of them")
    tracker = MultiTracker(
        model,
        device=device,
        runtime=runtime,
        threads=threads,
        tracking=options.tracking_values(settings),
        latency="pipelined" if pipelined else "immediate",
        batch=batch,
        drop_after=drop_after,
    )
    frames = VideoSource(source, earliest(targets) if first is None else first, last)
    stem = stem_of(frames.name)
    table = out or Path(f"{stem}.boxes.jsonl")
    film = None if no_video else video or Path(f"{stem}.tracked.mp4")
    followed = follow(tracker, frames, targets, table, film)
    outputs = [("boxes", table), *([("video", film)] if film else [])]
    print(summary(frames, followed, outputs, tracker.runtime))
    if followed.interrupted:
        raise typer.Exit(130)
    if frames.problem:
        raise typer.Exit(2)
