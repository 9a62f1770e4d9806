"""What ``track`` and ``demo`` share: one object through one source into files."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from siamtrack.annotate.table import TableWriter
from siamtrack.cli.progress import progress_bar
from siamtrack.errors import UserError
from siamtrack.tracker import Tracker
from siamtrack.tracking.state import TrackResult
from siamtrack.video.overlay import draw_box
from siamtrack.video.source import VideoSource
from siamtrack.video.writer import VideoWriter

OnFrame = Callable[[NDArray[np.uint8], TrackResult], None]


@dataclass(frozen=True)
class Followed:
    """What came of it."""

    frames: int
    seconds: float
    """Wall time of decoding, tracking, drawing and writing."""
    score: float
    """Mean score of the frames after the first."""
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
        on_frame: also called with each frame, with the box drawn, and its result.

    Raises:
        UserError: the box is not in the first frame, or an output cannot be written.
    """
    rows = TableWriter(table)
    film = VideoWriter(video, source.size, source.fps) if video else None
    scores: list[float] = []
    began = perf_counter()
    with progress_bar(source.name, source.count) as bar, _until_interrupted() as interrupted:
        try:
            for frame, result in tracker.track_frames(source, box):
                scores.append(result.score)
                rows.write(frame.index, frame.time, result.box.tolist(), result.score)
                if film or on_frame:
                    drawn = draw_box(frame.image, result.box, f"{frame.index}  {result.score:.2f}")
                    if film:
                        film.write(drawn, frame.time)
                    if on_frame:
                        on_frame(drawn, result)
                bar.advance(bar.task_ids[0])
                if interrupted():
                    break
        except OSError as error:
            raise UserError(f"writing stopped after {len(scores)} frames: {error.strerror or error}") from error
        finally:
            source.close()
            rows.close()
            if film:
                film.close()
    seconds = perf_counter() - began
    return Followed(len(scores), seconds, float(np.mean(scores[1:] or scores)), interrupted())


@contextmanager
def _until_interrupted() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed; a second Ctrl-C stops at once."""
    pressed = False

    def note(number: int, _: object) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(number, signal.default_int_handler)

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, previous)


def summary(source: VideoSource, followed: Followed, outputs: Sequence[tuple[str, Path]]) -> str:
    """Return the line that ends a run: what was done, how fast, where it is, and what went wrong."""
    speed = followed.frames / followed.seconds
    parts = [
        f"tracked {followed.frames} frames of {source.name} in {followed.seconds:.1f} s "
        f"({speed:.0f} fps), mean score {followed.score:.2f}",
        "wrote " + ", ".join(f"{path} ({what})" for what, path in outputs),
    ]
    if followed.interrupted:
        parts.append("stopped by Ctrl-C")
    if source.rescaled:
        parts.append(f"{source.rescaled} frames had another size and were scaled to the first frame's")
    if source.problem:
        parts.append(f"{source.problem}; the frames before that were kept")
    return "; ".join(parts)
