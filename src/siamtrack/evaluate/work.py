"""Evaluation as a queue of jobs.

Results are written as jobs finish, by this process; jobs whose results are there are not done again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2

from siamtrack.errors import UserError
from siamtrack.evaluate import opencv, running
from siamtrack.evaluate.follows import FollowsOne
from siamtrack.evaluate.lockstep import one_pass_in_step
from siamtrack.evaluate.protocols import PROTOCOLS
from siamtrack.evaluate.results import SequenceResult, sequence_file, write_sequence
from siamtrack.evaluate.sequences import Sequence
from siamtrack.models.zoo import DEFAULT
from siamtrack.runtimes.load import Runtime
from siamtrack.tracker import Tracker
from siamtrack.workers import outcomes, portions


@dataclass(frozen=True)
class TrackerRecipe:
    """How each worker makes its tracker: a model's name or file, or one of OpenCV's trackers."""

    model: str = DEFAULT
    device: str = "cpu"
    threads: int | None = None
    tracking: Mapping[str, Any] = field(default_factory=dict)
    runtime: Runtime = "auto"

    def __call__(self) -> FollowsOne:
        """Return a new tracker.

        Raises:
            UserError: there is no such tracker, or it cannot be loaded.
        """
        if self.threads:
            cv2.setNumThreads(self.threads)  # so that OpenCV's trackers have no more than ours
        if self.model in opencv.NAMES:
            return opencv.OpenCVTracker(self.model)
        if self.model.startswith("opencv"):
            raise UserError(f"unknown tracker {self.model!r}; OpenCV's are {', '.join(opencv.NAMES)}")
        return Tracker(
            self.model, device=self.device, runtime=self.runtime, threads=self.threads, tracking=self.tracking
        )


@dataclass(frozen=True)
class Job:
    """A piece of work: a sequence, the objects of a video, or sequences that are tracked in step."""

    run: Path
    """Folder of the run that the results belong to."""
    make: Callable[[], FollowsOne]
    """Makes the tracker of the run; can be pickled."""
    protocol: str
    sequences: tuple[Sequence, ...]
    fps: float | None = None
    """Frames a second of a realtime experiment."""
    batch: int = 1
    """How many are tracked at a time, a frame of each; where one ends the next begins."""

    def __len__(self) -> int:
        return len(self.sequences)

    def frames(self, place: int) -> int:
        """Return how many frames of a sequence are seen or skipped."""
        sequence = self.sequences[place]
        if PROTOCOLS[self.protocol].run is running.multi_start:
            return sum(len(running.frames_from(sequence, anchor)) for anchor in sequence.anchors)
        return len(sequence)

    def perform(self, kept: dict[Path, FollowsOne], on_frame: Callable[[], None]) -> "Iterator[tuple[int, Outcome]]":
        """Do it with the tracker of its run in ``kept``, which is made if it is not there yet."""
        if self.run not in kept:
            kept[self.run] = self.make()
        tracker, protocol = kept[self.run], PROTOCOLS[self.protocol]
        if self.batch > 1 and isinstance(tracker, Tracker):
            for place, ended in one_pass_in_step(tracker.core, self.sequences, on_frame, self.batch):
                yield place, str(ended) if isinstance(ended, UserError) else ended
            return
        results = [protocol.run(tracker, sequence, on_frame, self.fps) for sequence in self.sequences]
        yield from enumerate(protocol.join(results) if protocol.join else results)

    def failed(self, reason: str) -> "Outcome":
        """Say why there is no result."""
        return reason


class Failure(NamedTuple):
    """A sequence without result."""

    run: Path
    sequence: str
    reason: str


Outcome = SequenceResult | str
"""What became of a sequence: a result, or why there is none."""


def plan(
    runs: Mapping[Path, Callable[[], FollowsOne]],
    sequences: Iterable[Sequence],
    protocol: str,
    fps: float | None = None,
    batch: int = 1,
    workers: int | None = 1,
) -> list[Job]:
    """Return what is left to do, long sequences first, and for each all runs, so that these are timed alike.

    Args:
        runs: folder of each run, and what makes its tracker.
        sequences: of the data set.
        protocol: a key of :data:`~siamtrack.evaluate.protocols.PROTOCOLS`.
        fps: frames a second of a realtime experiment.
        batch: how many sequences siamtrack's trackers follow together, in protocols that start once.
        workers: how many do it, see :func:`siamtrack.workers.portions`.
    """
    videos: dict[str, tuple[Sequence, ...]] = {}
    for sequence in sequences:
        key = sequence.video if PROTOCOLS[protocol].join else sequence.name
        videos[key] = (*videos.get(key, ()), sequence)
    ordered = sorted(videos.values(), key=lambda video: -sum(map(len, video)))
    together = batch > 1 and fps is None and PROTOCOLS[protocol].run is running.one_pass
    jobs: list[tuple[int, Job]] = []  # with their place in the order
    for run, make in runs.items():
        left = [
            (place, video)
            for place, video in enumerate(ordered)
            if not all(sequence_file(run, sequence.name).is_file() for sequence in video)
        ]
        size = batch if together and not (isinstance(make, TrackerRecipe) and make.model in opencv.NAMES) else 1
        for chosen in portions(left, size, workers):
            members = tuple(sequence for _, video in chosen for sequence in video)
            jobs.append((chosen[0][0], Job(run, make, protocol, members, fps, size)))
    return [job for _, job in sorted(jobs, key=lambda numbered: numbered[0])]


def execute(
    jobs: Iterable[Job],
    workers: int | None = None,
    cluster: str | None = None,
    resources: Mapping[str, float] | None = None,
    trackers: Mapping[Path, FollowsOne] | None = None,
    on_frames: Callable[[int], None] = lambda count: None,
    stopped: Callable[[], bool] = lambda: False,
) -> list[Failure]:
    """Do ``jobs`` and write their results.

    Args:
        jobs: in the order in which they are begun.
        workers: how many at a time, see :func:`siamtrack.workers.outcomes`.
        cluster: address of a Ray cluster, whose machines have siamtrack and the data at the same places.
        resources: CPUs and GPUs that a worker takes of the cluster, as ``{"CPU": 1, "GPU": 0}``.
        trackers: of the runs, where they are made already; for work in this process.
        on_frames: is told how many more frames are done.
        stopped: asked often; once true, work ends and unfinished sequences are dropped.

    Returns:
        What failed.

    Raises:
        UserError: a result cannot be written, or there is no such cluster.
    """
    failures = []
    done = outcomes(jobs, workers, cluster, resources, trackers, on_frames, stopped)
    with closing(done):
        for job, place, outcome in done:
            if cluster:
                on_frames(job.frames(place))
            name = job.sequences[place].name
            if isinstance(outcome, str):
                failures.append(Failure(job.run, name, outcome))
            else:
                write_sequence(job.run, name, outcome)
    return failures
