"""``siamtrack track``: follow an object through a video and write its boxes."""

from pathlib import Path
from typing import Annotated

import typer

from siamtrack.boxes import parse_box
from siamtrack.cli import options
from siamtrack.cli.follow import follow, summary
from siamtrack.errors import UserError
from siamtrack.models.zoo import DEFAULT
from siamtrack.tracker import Tracker
from siamtrack.video.frame import parse_moment
from siamtrack.video.source import VideoSource


def track(
    source: Annotated[str, typer.Argument(help="Video file or URL, folder or glob of images, or number of a camera.")],
    box: Annotated[str, typer.Option("--box", help="The object in the first frame: x,y,w,h in pixels.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File for the boxes, .jsonl or .csv (default: SOURCE.boxes.jsonl here)."),
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
    model: options.Model = DEFAULT,
    settings: options.Tracking = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Follow the object in a box through a video.

    Writes a row a frame (frame, time in seconds, x, y, w, h, score) and an H.264 video with the box drawn.
    Ctrl-C stops and keeps what was done.
    """
    corners = parse_box(box)
    first, last = (None if text is None else parse_moment(text) for text in (start, end))
    if no_video and video:
        raise UserError(f"--no-video and --video {video} contradict each other; give one of them")
    tracker = Tracker(model, device=device, threads=threads, tracking=options.tracking_values(settings))
    frames = VideoSource(source, first, last)
    stem = _stem(frames.name)
    table = out or Path(f"{stem}.boxes.jsonl")
    film = None if no_video else video or Path(f"{stem}.tracked.mp4")
    followed = follow(tracker, frames, corners, table, film)
    outputs = [("boxes", table), *([("video", film)] if film else [])]
    print(summary(frames, followed, outputs))
    if followed.interrupted:
        raise typer.Exit(130)
    if frames.problem:
        raise typer.Exit(2)


def _stem(name: str) -> str:
    """Return a name for output files: that of the source, without the suffix of a file and the signs of a glob."""
    path = Path(name)
    text = path.resolve().name if path.is_dir() else path.stem
    cleaned = "".join("_" if sign in '*?[]:"<>|' else sign for sign in text)
    return cleaned.strip("_.") or "frames"
