"""Evaluation as a queue of jobs: in this process, in worker processes, or on a Ray cluster.

Results are written as jobs finish, by this process; jobs whose results are there are not done again. A job that
fails, or whose worker dies, is reported, and the others go on.
"""

import os
import signal
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
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
from siamtrack.tracker import Tracker

_POLL = 0.2  # seconds


@dataclass(frozen=True)
class TrackerRecipe:
    """How each worker makes its tracker: a model's name or file, or one of OpenCV's trackers."""

    model: str = DEFAULT
    device: str = "cpu"
    threads: int | None = None
    tracking: Mapping[str, Any] = field(default_factory=dict)

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
        return Tracker(self.model, device=self.device, threads=self.threads, tracking=self.tracking)


@dataclass(frozen=True)
class Job:
    """The smallest piece of work: a sequence, the objects of a video, or a batch of sequences."""

    run: Path
    """Folder of the run that the results belong to."""
    make: Callable[[], FollowsOne]
    """Makes the tracker of the run; can be pickled."""
    protocol: str
    sequences: tuple[Sequence, ...]
    fps: float | None = None
    """Frames a second of a realtime experiment."""

    @property
    def frames(self) -> int:
        """How many frames are seen or skipped."""
        if PROTOCOLS[self.protocol].run is running.multi_start:
            return sum(len(running.frames_from(each, anchor)) for each in self.sequences for anchor in each.anchors)
        return sum(map(len, self.sequences))


class Failure(NamedTuple):
    """A sequence without result."""

    run: Path
    sequence: str
    reason: str


Outcome = list[SequenceResult | str]
"""What became of each sequence of a job: a result, or why there is none."""


def plan(
    runs: Mapping[Path, Callable[[], FollowsOne]],
    sequences: Iterable[Sequence],
    protocol: str,
    fps: float | None = None,
    batch: int = 1,
) -> list[Job]:
    """Return what is left to do, long sequences first, and for each all runs, so that these are timed alike.

    Args:
        runs: folder of each run, and what makes its tracker.
        sequences: of the data set.
        protocol: a key of :data:`~siamtrack.evaluate.protocols.PROTOCOLS`.
        fps: frames a second of a realtime experiment.
        batch: how many sequences siamtrack's trackers follow together, in protocols that start once.
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
        for first in range(0, len(left), size):
            chosen = left[first : first + size]
            members = tuple(sequence for _, video in chosen for sequence in video)
            jobs.append((chosen[0][0], Job(run, make, protocol, members, fps)))
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
        workers: how many at a time. 1: in this process. None: 1, on a cluster as many as it has room for.
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
    queue = deque(jobs)
    if cluster:
        outcomes = _on_cluster(queue, cluster, workers, dict(resources or {}), on_frames, stopped)
    elif workers and workers > 1:
        outcomes = _in_processes(queue, workers, on_frames, stopped)
    else:
        outcomes = _here(queue, dict(trackers or {}), on_frames, stopped)
    failures = []
    with closing(outcomes):
        for job, outcome in outcomes:
            for sequence, result in zip(job.sequences, outcome, strict=True):
                if isinstance(result, str):
                    failures.append(Failure(job.run, sequence.name, result))
                else:
                    write_sequence(job.run, sequence.name, result)
    return failures


def perform(job: Job, trackers: dict[Path, FollowsOne], on_frame: Callable[[], None]) -> Outcome:
    """Do a job with the tracker of its run in ``trackers``, which is made if it is not there yet."""
    try:
        if job.run not in trackers:
            trackers[job.run] = job.make()
        tracker, protocol = trackers[job.run], PROTOCOLS[job.protocol]
        if len(job.sequences) > 1 and not protocol.join and isinstance(tracker, Tracker):
            done = one_pass_in_step(tracker.core, job.sequences, on_frame)
            return [str(each) if isinstance(each, UserError) else each for each in done]
        results = [protocol.run(tracker, sequence, on_frame, job.fps) for sequence in job.sequences]
        return [*(protocol.join(results) if protocol.join else results)]
    except UserError as error:
        reason = str(error)
    except Exception as error:  # a defect, of siamtrack or of what it calls; the other sequences may be well
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"
    return [reason] * len(job.sequences)


Outcomes = Generator[tuple[Job, Outcome]]


def _here(
    queue: deque[Job],
    trackers: dict[Path, FollowsOne],
    on_frames: Callable[[int], None],
    stopped: Callable[[], bool],
) -> Outcomes:

    def on_frame() -> None:
        on_frames(1)
        if stopped():
            raise KeyboardInterrupt

    for job in queue:
        try:
            yield job, perform(job, trackers, on_frame)
        except KeyboardInterrupt:
            return


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes started in this block never hear Ctrl-C, which a terminal sends to all: this one tells them to stop.

    It hears a Ctrl-C of the meantime afterwards.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


class _Worker:
    """A process that does jobs, on a share of the cores."""

    def __init__(self, cores: list[int]) -> None:
        context = get_context("spawn")
        self.cores = cores
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, cores), daemon=True)
        with deaf_children():
            self._process.start()
        theirs.close()

    def begin(self, job: Job) -> None:
        with suppress(OSError):  # it has died, which the other end of the pipe tells
            self.pipe.send(job)

    def end(self) -> str:
        """Make sure that the process ends, and return how it did."""
        self.pipe.close()  # on which an idle one ends by itself
        self._process.join(_POLL)
        self._process.kill()
        self._process.join()
        code = self._process.exitcode or 0
        return f"exited with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"


def _serve(pipe: Connection, cores: list[int]) -> None:
    """Do the jobs that come through ``pipe``: answers are numbers of frames that are done, and outcomes."""
    if cores:
        os.sched_setaffinity(0, cores)
    trackers: dict[Path, FollowsOne] = {}
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the process that wanted the work has gone
        while True:
            job = pipe.recv()
            told = _Told(pipe.send)
            outcome = perform(job, trackers, told.one)
            told.rest()
            pipe.send(outcome)


class _Told:
    """Tells of frames a few times a second."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell, self._count, self._last = tell, 0, time.monotonic()

    def one(self) -> None:
        """Count a frame."""
        self._count += 1
        if time.monotonic() - self._last > _POLL:
            self.rest()

    def rest(self) -> None:
        """Tell now."""
        self._tell(self._count)
        self._count, self._last = 0, time.monotonic()


def share(workers: int, number: int) -> list[int]:
    """Return the cores of a worker, as many for each as there are; empty where processes cannot be pinned."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    size = len(cores) // workers
    return cores[number * size : (number + 1) * size] if size else [cores[number % len(cores)]]


def _in_processes(
    queue: deque[Job], workers: int, on_frames: Callable[[int], None], stopped: Callable[[], bool]
) -> Outcomes:
    idle = [_Worker(share(workers, number)) for number in range(min(workers, len(queue)))]
    busy: dict[Any, tuple[_Worker, Job]] = {}  # by the pipe
    try:
        while queue or busy:
            while idle and queue:
                job, worker = queue.popleft(), idle.pop()
                busy[worker.pipe] = worker, job
                worker.begin(job)
            for pipe in wait(list(busy), _POLL):
                worker, job = busy[pipe]
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    del busy[pipe]
                    message = [f"its worker {worker.end()}"] * len(job.sequences)
                    if queue:
                        idle.append(_Worker(worker.cores))
                else:
                    if isinstance(message, int):
                        on_frames(message)
                        continue
                    idle.append(busy.pop(pipe)[0])
                yield job, message
            if stopped():
                return
    finally:
        for worker in [*idle, *(worker for worker, _ in busy.values())]:
            worker.end()


def _on_cluster(
    queue: deque[Job],
    address: str,
    workers: int | None,
    resources: dict[str, float],
    on_frames: Callable[[int], None],
    stopped: Callable[[], bool],
) -> Outcomes:
    try:
        import ray
    except ImportError:
        raise UserError("a cluster needs Ray; pip install 'siamtrack[cluster]' on each machine") from None
    try:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if host:  # where nobody answers, Ray itself would wait for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"there is no Ray cluster at {address!r} ({reason})") from None
    try:
        needs = {kind: count for kind, count in {"CPU": 1.0, **resources}.items() if count}
        hire = ray.remote(num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0))(_ClusterWorker)
        idle: list[Any] = []
        busy: dict[Any, tuple[Any, Job]] = {}  # by the answer that is waited for
        while queue or busy:
            have = ray.cluster_resources()  # machines come and go
            room = min(int(have.get(kind, 0) // count) for kind, count in needs.items())
            if not room and not busy:
                raise UserError(f"the cluster at {address!r} has no room for a worker that needs {needs}")
            while len(idle) + len(busy) < min(workers or room, room, len(queue) + len(busy)):
                idle.append(hire.remote())
            while idle and queue:
                job, worker = queue.popleft(), idle.pop()
                busy[worker.perform.remote(job)] = worker, job
            done, _ = ray.wait(list(busy), timeout=_POLL)
            for answer in done:
                worker, job = busy.pop(answer)
                try:
                    outcome = ray.get(answer)
                    idle.append(worker)
                except ray.exceptions.RayActorError:
                    outcome = ["its worker on the cluster died"] * len(job.sequences)
                on_frames(job.frames)
                yield job, outcome
            if stopped():
                return
    finally:
        ray.shutdown()


class _ClusterWorker:
    """An actor that does jobs."""

    def __init__(self) -> None:
        self._trackers: dict[Path, FollowsOne] = {}

    def perform(self, job: Job) -> Outcome:
        """Do a job."""
        return perform(job, self._trackers, lambda: None)
