"""Many videos, each with its targets: what is left to do, and doing it in step, in processes or on a cluster."""

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from siamtrack.annotate.table import TableRows, check_suffix
from siamtrack.errors import UserError
from siamtrack.files import writable, write_text
from siamtrack.manifest import VideoRow, read_rows
from siamtrack.models import zoo
from siamtrack.multi import MultiTracker, Target, earliest, numbered
from siamtrack.runtimes.load import Runtime
from siamtrack.tracking.core import Latency
from siamtrack.tracking.state import TrackResult
from siamtrack.version import __version__
from siamtrack.video.ahead import ReadAhead
from siamtrack.video.frame import VideoFrame
from siamtrack.video.source import VideoSource, stem_of
from siamtrack.workers import cores, outcomes, portions

LEDGER = "track-many.jsonl"
"""File in the folder for results that tells which are finished, and what they were made of."""
_DECODERS = 16  # threads that decode a film at most; each holds a frame


@dataclass(frozen=True)
class Settings:
    """What the trackers of all videos have in common."""

    model: str = zoo.DEFAULT
    device: str = "cpu"
    threads: int | None = None
    tracking: Mapping[str, Any] = field(default_factory=dict)
    drop_after: int | None = None
    runtime: Runtime = "auto"
    latency: Latency = "immediate"

    def tracker(self) -> MultiTracker:
        """Return a new tracker.

        Raises:
            UserError: it cannot be made.
        """
        return MultiTracker(
            self.model,
            device=self.device,
            runtime=self.runtime,
            threads=self.threads,
            tracking=self.tracking,
            latency=self.latency,
            drop_after=self.drop_after,
        )


@dataclass(frozen=True)
class Video:
    """A video of a manifest."""

    source: str
    targets: tuple[Target, ...]
    out: Path
    """File for the boxes."""

    def digest(self, settings: Settings) -> str:
        """Return what tells these results from those of another video, other targets or another tracker."""
        source, model = Path(self.source), Path(settings.model)
        stamp = (source.stat().st_size, source.stat().st_mtime_ns) if source.is_file() else None
        weights = zoo.sha256(model) if model.suffix and model.is_file() else settings.model
        made_of: list[Any] = [self.source, stamp, [asdict(each) for each in self.targets], weights, __version__]
        made_of += [dict(settings.tracking), settings.drop_after]
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class Outcome:
    """What became of a video."""

    table: str = ""
    """The boxes, as text of a file."""
    frames: int = 0
    problem: str | None = None
    """What went wrong; what came before it is in the table."""


@dataclass(frozen=True)
class Job:
    """Videos of one tracker."""

    settings: Settings
    videos: Sequence[Video]
    together: int = 1
    """How many are followed at a time, a frame of each; where one ends the next begins."""

    def __len__(self) -> int:
        return len(self.videos)

    def perform(self, kept: dict[Any, Any], on_frame: Callable[[], None]) -> Iterator[tuple[int, Outcome]]:
        """Follow the targets of all videos; what is wrong with one does not stop the others."""
        if "tracker" not in kept:
            kept["tracker"] = self.settings.tracker()
        tracker: MultiTracker = kept["tracker"]
        rows = [_rows(video, tracker) for video in self.videos]
        going: dict[int, list[str]] = {}  # the tables' lines
        counts = [0] * len(self.videos)
        threads = max(1, min(_DECODERS, cores() // self.together))
        with closing(ReadAhead(_opening(self.videos, threads), 1)) as opened:
            streams = enumerate((_frames(opened.take()), numbered(video.targets)) for video in self.videos)
            for place, frame, results in tracker.in_step(streams, self.together):
                assert isinstance(place, int)
                lines = going.setdefault(place, [rows[place].head()])
                if isinstance(frame, VideoFrame):
                    lines += [_row(rows[place], frame, each, result) for each, result in results.items()]
                    counts[place] += 1
                    on_frame()
                else:
                    problem = None if frame is None else str(frame)
                    yield place, Outcome("".join(going.pop(place)), counts[place], problem)

    def failed(self, reason: str) -> Outcome:
        """Say why there is nothing."""
        return Outcome(problem=reason)


def read_manifest(path: Path, out: Path, suffix: str = ".jsonl") -> list[Video]:
    """Return the videos of a manifest, whose rows are those of :class:`~siamtrack.manifest.VideoRow`.

    Rows of one video and one file for the boxes belong together.

    Args:
        path: the manifest.
        out: folder for the boxes.
        suffix: of the files whose names the manifest does not tell.

    Raises:
        UserError: it cannot be read, a row cannot be used, or two videos would be written to one file.
    """
    found: dict[Path, tuple[str, list[Target]]] = {}
    for row in read_rows(path, VideoRow):
        local = "://" not in row.video
        source = str(path.absolute().parent / row.video) if local else row.video
        file = out / check_suffix(row.out or Path(f"{stem_of(source)}.boxes{suffix}"))
        before, targets = found.setdefault(file, (source, []))
        if before != source:
            raise UserError(f"{path}: {before} and {source} would both be written to {file}; give each its 'out'")
        targets.append(row.target())
    for source, targets in found.values():
        try:
            numbered(targets)
        except UserError as error:
            raise UserError(f"{path}: {source}: {error}") from None
    return [Video(source, tuple(targets), file) for file, (source, targets) in found.items()]


def unfinished(videos: Iterable[Video], settings: Settings, out: Path) -> list[Video]:
    """Return the videos whose boxes are missing in ``out``, or were made of something else than now.

    Large files come first, so that workers end together, and videos that go in step are about as long.
    """
    made = {}
    if (out / LEDGER).is_file():
        for line in (out / LEDGER).read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                made[entry["out"]] = entry["digest"]
            except (ValueError, KeyError, TypeError):  # cut short when the machine went down
                continue
    left = [
        video for video in videos if not video.out.is_file() or made.get(_name(video, out)) != video.digest(settings)
    ]
    return sorted(left, key=lambda video: -Path(video.source).stat().st_size if Path(video.source).is_file() else 0)


def execute(
    videos: list[Video],
    settings: Settings,
    out: Path,
    together: int = 1,
    workers: int | None = None,
    cluster: str | None = None,
    on_video: Callable[[Outcome], None] = lambda outcome: None,
    stopped: Callable[[], bool] = lambda: False,
) -> list[tuple[Video, str]]:
    """Follow the targets of ``videos`` and write their boxes as each is finished; return what went wrong with which.

    Of a video that breaks the boxes before that are written, and it counts as unfinished.

    Args:
        videos: in the order in which they are begun.
        settings: of the trackers.
        out: folder for the ledger.
        together: how many videos a tracker follows in step; where one ends the next begins.
        workers: see :func:`siamtrack.workers.outcomes`.
        cluster: likewise.
        on_video: is told of each that ended.
        stopped: asked often; once true, work ends and unfinished videos are dropped.

    Raises:
        UserError: a file cannot be written, or there is no such cluster.
    """
    known = workers if cluster else workers or 1
    jobs = [Job(settings, some, together) for some in portions(videos, together, known)]
    needs = {"CPU": settings.threads or 1, "GPU": 0 if settings.device == "cpu" else 1}
    failures = []
    done = outcomes(jobs, workers, cluster, needs, None, lambda count: None, stopped)
    with closing(done), (out / LEDGER).open("a", encoding="utf-8") as ledger:
        for job, place, outcome in done:
            video = job.videos[place]
            if outcome.frames:
                write_text(writable(video.out), outcome.table)
            if outcome.problem:
                failures.append((video, outcome.problem))
            else:
                ledger.write(json.dumps({"out": _name(video, out), "digest": video.digest(settings)}) + "\n")
                ledger.flush()
            on_video(outcome)
    return failures


def _name(video: Video, out: Path) -> str:
    return video.out.relative_to(out).as_posix() if video.out.is_relative_to(out) else str(video.out)


def _row(rows: TableRows, frame: VideoFrame, target: int, result: TrackResult) -> str:
    polygon = None if result.polygon is None else result.polygon.ravel().tolist()
    box = result.box.tolist()
    return rows.row(frame.index, frame.time or 0.0, box, result.score, result.lost, polygon, target)


def _rows(video: Video, tracker: MultiTracker) -> TableRows:
    ids = len(video.targets) > 1 or video.targets[0].id is not None
    return TableRows(video.out.suffix, ids, tracker.tracking.longterm is not None, tracker.preset.model.mask)


def _opening(videos: Iterable[Video], threads: int) -> Generator[VideoSource | UserError]:
    """Open one video after the other, while those before are followed; each is decoded by ``threads`` threads."""
    for video in videos:
        try:
            source: VideoSource | UserError = VideoSource(video.source, earliest(video.targets), threads=threads)
        except Exception as error:  # a defect of what decodes it, too, is of this video only
            source = _problem(error)
        yield source


def _frames(source: VideoSource | UserError | None) -> Iterator[VideoFrame]:
    """Yield the frames of a video that was opened.

    Raises:
        UserError: it could not be, or breaks.
    """
    if not isinstance(source, VideoSource):
        raise source or UserError("it was not opened")
    try:
        yield from source
    except Exception as error:
        raise _problem(error) from error
    finally:
        source.close()
    if source.problem:
        raise UserError(source.problem)


def _problem(error: Exception) -> UserError:
    known = isinstance(error, UserError | OSError)
    return UserError(str(error) if known else f"{type(error).__name__}: {error}")
