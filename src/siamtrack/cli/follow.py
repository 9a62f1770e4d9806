"""What ``track`` and ``demo`` share: one object through one source into files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from siamtrack.annotate.table import TableWriter
from siamtrack.cli.interrupt import until_interrupted
from siamtrack.cli.progress import progress_bar
from siamtrack.errors import UserError
from siamtrack.tracker import Tracker
from siamtrack.tracking.state import TrackResult
from siamtrack.video.frame import VideoFrame
from siamtrack.video.image import Image
from siamtrack.video.overlay import GREEN, GREY, draw_box, draw_mask
from siamtrack.video.source import VideoSource
from siamtrack.video.writer import VideoWriter

OnFrame = Callable[[int, Image], None]


@dataclass(frozen=True)
class Followed:
    """What came of it."""

    frames: int
    seconds: float
    """Wall time of decoding, tracking, drawing and writing."""
    score: float
    """Mean score of the frames after the first."""
    lost: int
    """In how many frames the object was lost."""
    interrupted: bool
    """Whether Ctrl-C ended it."""


def follow(
    tracker: Tracker,
    source: VideoSource,
    box: Sequence[float],
    table: Path,
    video: Path | None,
    on_frame: OnFrame | None = None,
) -> Followed:
    """Track ``box`` through ``source`` and write the boxes and, unless None, the video.

    Ctrl-C ends it and keeps what was done.

    Args:
        tracker: is initialised with the first frame.
        source: read to its end.
        box: x, y, w, h in the first frame.
        table: see :class:`~siamtrack.annotate.table.TableWriter`.
        video: see :class:`~siamtrack.video.writer.VideoWriter`.
        on_frame: also called with each frame's number and picture, with the box drawn.

    Raises:
        UserError: the box is not in the first frame, or an output is the source or cannot be written.
    """
    for output in (table, video):
        if output and output.exists() and Path(source.name).exists() and output.samefile(source.name):
            raise UserError(f"{output} is what is read; choose another name for the output")
    rows = TableWriter(table, tracker.tracking.longterm is not None, tracker.preset.model.mask)
    film = VideoWriter(video, source.size, source.fps) if video else None
    outputs = [output for output in (rows, film) if output]
    scores: list[float] = []
    lost = 0
    began = perf_counter()
    with progress_bar(Path(source.name).name, source.count) as bar, until_interrupted() as interrupted:
        try:
            for frame, result in tracker.track_frames(source, box):
                time = frame.time or 0.0
                polygon = None if result.polygon is None else result.polygon.ravel().tolist()
                rows.write(frame.index, time, result.box.tolist(), result.score, result.lost, polygon)
                if film or on_frame:
                    drawn = _draw(frame, result)
                    if film:
                        film.write(drawn, time)
                    if on_frame:
                        on_frame(frame.index, drawn)
                scores.append(result.score)
                lost += result.lost
                bar.advance(bar.task_ids[0])
                if interrupted():
                    break
        except OSError as error:
            raise UserError(f"writing stopped after {len(scores)} frames: {error.strerror or error}") from error
        finally:
            source.close()
            _close(outputs)
    seconds = perf_counter() - began
    return Followed(len(scores), seconds, float(np.mean(scores[1:] or scores)), lost, interrupted())


def _draw(frame: VideoFrame, result: TrackResult) -> Image:
    image = frame.image if result.mask is None else draw_mask(frame.image, result.mask)
    caption = f"{frame.index}  {'lost' if result.lost else f'{result.score:.2f}'}"
    return draw_box(image, result.box, caption, GREY if result.lost else GREEN)


def _close(outputs: Sequence[TableWriter | VideoWriter]) -> None:
    """Complete all outputs, even if one fails.

    Raises:
        UserError: one could not be completed.
    """
    failed = []
    for output in outputs:
        try:
            output.close()
        except OSError as error:
            failed.append(f"cannot write {output.path}: {error.strerror or error}")
    if failed:
        raise UserError("; ".join(failed))


def summary(source: VideoSource, followed: Followed, outputs: Sequence[tuple[str, Path]]) -> str:
    """Return the line that ends a run: what was done, how fast, where it is, and what went wrong."""
    speed = followed.frames / followed.seconds
    parts = [
        f"tracked {followed.frames} frames of {source.name} in {followed.seconds:.1f} s "
        f"({speed:.0f} fps), mean score {followed.score:.2f}",
        "wrote " + ", ".join(f"{path} ({what})" for what, path in outputs),
    ]
    if followed.lost:
        parts.append(f"lost in {followed.lost} frames")
    if followed.interrupted:
        parts.append("stopped by Ctrl-C")
    if source.rescaled:
        parts.append(f"{source.rescaled} frames had another size and were scaled to the first frame's")
    if source.problem:
        parts.append(f"{source.problem}; the frames before that were kept")
    return "; ".join(parts)
