"""What ``track`` and ``demo`` share: the targets of one source into files."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from siamtrack.annotate.table import TableWriter
from siamtrack.cli.interrupt import until_interrupted
from siamtrack.cli.progress import progress_bar
from siamtrack.errors import UserError
from siamtrack.multi import MultiTracker, Target, numbered
from siamtrack.tracking.state import TrackResult
from siamtrack.video.frame import VideoFrame
from siamtrack.video.image import Image
from siamtrack.video.overlay import GREEN, GREY, colour_of, draw_boxes, draw_mask
from siamtrack.video.source import VideoSource
from siamtrack.video.writer import VideoWriter

OnFrame = Callable[[int, Image], None]


@dataclass
class Followed:
    """What came of it."""

    targets: int
    """How many there were to follow."""
    frames: int = 0
    seconds: float = 0.0
    """Wall time of decoding, tracking, drawing and writing."""
    scores: float = 0.0
    """Sum of the scores of all targets in the frames after their first."""
    answers: int = 0
    """How many scores those are."""
    lost: int = 0
    """In how many frames targets were lost, in total."""
    never: tuple[int, ...] = ()
    """The targets whose first frame did not come."""
    dropped: tuple[int, ...] = ()
    """The targets that were lost for so long that they were dropped."""
    interrupted: str = ""
    """What ended it before its end: Ctrl-C or SIGTERM."""


def follow(
    tracker: MultiTracker,
    source: VideoSource,
    targets: Sequence[Target],
    table: Path,
    video: Path | None,
    on_frame: OnFrame | None = None,
) -> Followed:
    """Track ``targets`` through ``source`` and write the boxes and, unless None, the video.

    Ctrl-C or SIGTERM ends it and keeps what was done; where targets are many, without the frame under way.

    Args:
        tracker: forgets what it followed before.
        source: read to its end.
        targets: with ids, their rows have a column ``id``, and the video their ids and colours; several always do.
        table: see :class:`~siamtrack.annotate.table.TableWriter`.
        video: see :class:`~siamtrack.video.writer.VideoWriter`.
        on_frame: also called with each frame's number and picture, with the boxes drawn.

    Raises:
        UserError: a box is not in its frame, or an output is the source or cannot be written.
        KeyboardInterrupt: it was stopped before the first frame was done.
    """
    for output in (table, video):
        if output and output.exists() and Path(source.name).exists() and output.samefile(source.name):
            raise UserError(f"{output} is what is read; choose another name for the output")
    waiting = set(numbered(targets))
    ids = len(targets) > 1 or targets[0].id is not None
    rows = TableWriter(table, ids, tracker.tracking.longterm is not None, tracker.preset.model.mask)
    film = VideoWriter(video, source.size, source.fps) if video else None
    outputs = [output for output in (rows, film) if output]
    done = Followed(len(targets))
    lost_for: dict[int, int] = {}
    began = perf_counter()
    with progress_bar(Path(source.name).name, source.count) as bar, until_interrupted() as interrupted:
        try:
            for frame, results in tracker.track(source, targets, stopped=interrupted):
                time = frame.time or 0.0
                for each, result in results.items():
                    polygon = None if result.polygon is None else result.polygon.ravel().tolist()
                    rows.write(frame.index, time, result.box.tolist(), result.score, result.lost, polygon, each)
                    lost_for[each] = lost_for.get(each, 0) + 1 if result.lost else 0
                    done.lost += result.lost
                    if each in waiting:
                        waiting.remove(each)
                    else:
                        done.scores, done.answers = done.scores + result.score, done.answers + 1
                if film or on_frame:
                    drawn = _draw(frame, results, ids)
                    if film:
                        film.write(drawn, time)
                    if on_frame:
                        on_frame(frame.index, drawn)
                done.frames += 1
                bar.advance(bar.task_ids[0])
                if interrupted():
                    break
        except OSError as error:
            raise UserError(f"writing stopped after {done.frames} frames: {error.strerror or error}") from error
        finally:
            source.close()
            _close(outputs)
    if interrupted() and not done.frames:  # there is nothing to keep
        raise KeyboardInterrupt
    done.seconds, done.interrupted = perf_counter() - began, interrupted.by
    done.never = tuple(sorted(waiting))
    if tracker.drop_after:
        done.dropped = tuple(each for each, lost in lost_for.items() if lost >= tracker.drop_after)
    return done


def _draw(frame: VideoFrame, results: Mapping[int, TrackResult], ids: bool) -> Image:
    image, boxes = frame.image, []
    for each, result in results.items():
        colour = colour_of(each) if ids else GREEN
        if result.mask is not None:
            image = draw_mask(image, result.mask, colour)
        caption = f"{each if ids else frame.index}  {'lost' if result.lost else f'{result.score:.2f}'}"
        boxes.append((result.box, caption, GREY if result.lost else colour))
    return draw_boxes(image, boxes)


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


def summary(source: VideoSource, followed: Followed, outputs: Sequence[tuple[str, Path]], runtime: str) -> str:
    """Return the line that ends a run: what was done, how fast, where it is, and what went wrong."""
    speed = followed.frames / followed.seconds
    digits = 0 if speed >= 10 else 1
    what = f"{followed.targets} targets in " * (followed.targets > 1) + f"{followed.frames} frames"
    score = followed.scores / followed.answers if followed.answers else 1.0
    parts = [
        f"tracked {what} of {source.name} in {followed.seconds:.1f} s ({speed:.{digits}f} fps, {runtime}), "
        f"mean score {score:.2f}",
        "wrote " + ", ".join(f"{path} ({kind})" for kind, path in outputs),
    ]
    if followed.lost:
        parts.append(f"lost in {followed.lost} frames")
    if followed.dropped:
        parts.append(f"dropped because they stayed lost: {_listed(followed.dropped)}")
    if followed.interrupted:
        parts.append(f"stopped by {followed.interrupted}")
    elif followed.never:
        parts.append(f"the first frame of these targets did not come: {_listed(followed.never)}")
    if source.rescaled:
        parts.append(f"{source.rescaled} frames had another size and were scaled to the first frame's")
    if source.dropped:
        parts.append(f"{source.dropped} frames came too fast and were left out")
    if source.problem:
        parts.append(f"{source.problem}; the frames before that were kept")
    return "; ".join(parts)


def _listed(ids: Iterable[int]) -> str:
    known = sorted(ids)
    return ", ".join(map(str, known[:10])) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
