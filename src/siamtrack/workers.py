"""A queue of jobs: in this process, in worker processes, or on a Ray cluster.

A job has one part or more, such as videos that are followed together, whose outcomes come as they end. A job that
fails, or whose worker dies, is reported, and the others go on.
"""

import os
import signal
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from siamtrack.errors import UserError

_POLL = 0.2  # seconds
_ROUNDS, _TYPICAL = 4, 8  # times the items that go together are in a job; workers of a cluster


class Job(Protocol):
    """A piece of work; can be pickled, and its outcomes too."""

    def __len__(self) -> int:
        """Return how many parts it has."""
        ...

    def perform(self, kept: dict[Any, Any], on_frame: Callable[[], None]) -> Iterator[tuple[int, Any]]:
        """Do it; yield the number and the outcome of each part as it ends.

        Args:
            kept: what earlier jobs of the same worker left for later ones, such as a network that is loaded.
            on_frame: is called after each frame; may raise to stop the work.

        Raises:
            UserError: the rest cannot be done.
        """
        ...

    def failed(self, reason: str) -> Any:
        """Return the outcome of a part that failed."""
        ...


Outcomes = Generator[tuple[Any, int, Any]]
"""Of each part that ended its job, its number and its outcome."""
T = TypeVar("T")


def portions(items: Sequence[T], together: int, workers: int | None) -> list[Sequence[T]]:
    """Return what goes into one job each, where a worker does so many items together and begins others as some end.

    Items that are done one by one are a job each. Otherwise a job is so long that its places are full for most of the
    time, and so short that all workers have one.

    Args:
        items: in the order in which they are begun.
        together: how many a worker does at a time.
        workers: how many there are; None if that is not known.
    """
    size = -(-len(items) // (workers or _TYPICAL)) or 1
    if workers != 1:
        size = min(size, _ROUNDS * together)
    if workers is None:
        size = max(size, together)
    if together == 1:
        size = 1
    return [items[first : first + size] for first in range(0, len(items), size)]


def outcomes(
    jobs: Iterable[Job],
    workers: int | None = None,
    cluster: str | None = None,
    resources: Mapping[str, float] | None = None,
    kept: Mapping[Any, Any] | None = None,
    on_frames: Callable[[int], None] = lambda count: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Outcomes:
    """Do ``jobs``; yield the outcome of each part as it ends. Close it to end the workers.

    Args:
        jobs: in the order in which they are begun.
        workers: how many at a time. 1: in this process. None: 1, on a cluster as many as it has room for.
        cluster: address of a Ray cluster, whose machines have siamtrack and the data at the same places.
        resources: CPUs and GPUs that a worker takes of the cluster, as ``{"CPU": 1, "GPU": 0}``.
        kept: what the first job finds; for work in this process.
        on_frames: is told how many more frames are done; not by a cluster.
        stopped: asked often; once true, work ends and unfinished jobs are dropped.

    Raises:
        UserError: there is no such cluster.
    """
    queue = deque(jobs)
    if cluster:
        return _on_cluster(queue, cluster, workers, dict(resources or {}), stopped)
    if workers and workers > 1:
        return _in_processes(queue, workers, on_frames, stopped)
    return _here(queue, dict(kept or {}), on_frames, stopped)


def _attempt(job: Job, kept: dict[Any, Any], on_frame: Callable[[], None]) -> Iterator[tuple[int, Any]]:
    left = set(range(len(job)))
    try:
        for part, outcome in job.perform(kept, on_frame):
            left.discard(part)
            yield part, outcome
        return
    except UserError as error:
        reason = str(error)
    except Exception as error:  # a defect, of siamtrack or of what it calls; the other jobs may be well
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"
    for part in sorted(left):
        yield part, job.failed(reason)


def _here(
    queue: deque[Job],
    kept: dict[Any, Any],
    on_frames: Callable[[int], None],
    stopped: Callable[[], bool],
) -> Outcomes:

    def on_frame() -> None:
        on_frames(1)
        if stopped():
            raise KeyboardInterrupt

    try:
        for job in queue:
            for part, outcome in _attempt(job, kept, on_frame):
                yield job, part, outcome
                if stopped():
                    return
    except KeyboardInterrupt:
        return


@contextmanager
def deaf_children(*signals: signal.Signals) -> Iterator[None]:
    """Processes started in this block never hear these signals, and this one tells them to stop.

    A terminal sends Ctrl-C to all, and systemd SIGTERM. This process hears one of the meantime afterwards.
    """
    resource_tracker.ensure_running()  # or the first process starts it, which lets Ctrl-C through again
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


class _Worker:
    """A process that does jobs, on a share of the cores."""

    def __init__(self, cores: list[int]) -> None:
        context = get_context("spawn")
        self.cores = cores
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, cores), daemon=True)
        with deaf_children(signal.SIGINT, signal.SIGTERM):
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
    """Do the jobs that come through ``pipe``: answers are numbers of frames that are done, parts with their outcomes,
    and None at a job's end."""
    if cores:
        os.sched_setaffinity(0, cores)
    kept: dict[Any, Any] = {}
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the process that wanted the work has gone
        while True:
            job = pipe.recv()
            told = _Told(lambda count: pipe.send(_Frames(count)))
            for ended in _attempt(job, kept, told.one):
                told.rest()
                pipe.send(ended)
            pipe.send(None)


class _Frames(NamedTuple):
    """A message of a worker: so many more frames are done."""

    done: int


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


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(workers: int, number: int) -> list[int]:
    """Return the cores of a worker, as many for each as there are; empty where processes cannot be pinned."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    known = sorted(os.sched_getaffinity(0))
    size = len(known) // workers
    return known[number * size : (number + 1) * size] if size else [known[number % len(known)]]


def fair_share(threads: int | None, workers: int | None, cluster: str | None) -> int | None:
    """Return how many threads a worker has: ``threads`` if given, one on a cluster, its share of this machine's cores
    among several; None, which is one a core, where there is no other worker."""
    if threads or cluster:
        return threads or 1
    if workers in (None, 1):
        return None
    return max(1, cores() // workers)


def _in_processes(
    queue: deque[Job], workers: int, on_frames: Callable[[int], None], stopped: Callable[[], bool]
) -> Outcomes:
    idle: list[_Worker] = []
    busy: dict[Any, tuple[_Worker, Job, set[int]]] = {}  # by the pipe; with the parts that are left
    try:
        for number in range(min(workers, len(queue))):
            idle.append(_Worker(share(workers, number)))
        while queue or busy:
            while idle and queue:
                job, worker = queue.popleft(), idle.pop()
                busy[worker.pipe] = worker, job, set(range(len(job)))
                worker.begin(job)
            for pipe in wait(list(busy), _POLL):
                worker, job, left = busy[pipe]
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    del busy[pipe]
                    outcome = job.failed(f"its worker {worker.end()}")
                    if queue:
                        idle.append(_Worker(worker.cores))
                    for part in sorted(left):
                        yield job, part, outcome
                else:
                    if isinstance(message, _Frames):
                        on_frames(message.done)
                    elif message is None:
                        idle.append(busy.pop(pipe)[0])
                    else:
                        part, outcome = message
                        left.discard(part)
                        yield job, part, outcome
            if stopped():
                return
    finally:
        for worker in [*idle, *(worker for worker, _, _ in busy.values())]:
            worker.end()


def _on_cluster(
    queue: deque[Job],
    address: str,
    workers: int | None,
    resources: dict[str, float],
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
        busy: dict[Any, tuple[Any, Job, set[int]]] = {}  # by the answers that are waited for; with the parts left
        while queue or busy:
            have = ray.cluster_resources()  # machines come and go
            room = min(int(have.get(kind, 0) // count) for kind, count in needs.items())
            if not room and not busy:
                raise UserError(f"the cluster at {address!r} has no room for a worker that needs {needs}")
            while len(idle) + len(busy) < min(workers or room, room, len(queue) + len(busy)):
                idle.append(hire.remote())
            while idle and queue:
                job, worker = queue.popleft(), idle.pop()
                answers = worker.perform.options(num_returns="streaming").remote(job)
                busy[answers] = worker, job, set(range(len(job)))
            ready, _ = ray.wait(list(busy), timeout=_POLL)
            for answers in ready:
                worker, job, left = busy[answers]
                try:
                    part, outcome = ray.get(next(answers))
                except StopIteration:
                    del busy[answers]
                    idle.append(worker)
                except ray.exceptions.RayActorError:
                    del busy[answers]
                    for part in sorted(left):
                        yield job, part, job.failed("its worker on the cluster died")
                else:
                    left.discard(part)
                    yield job, part, outcome
            if stopped():
                return
    finally:
        ray.shutdown()


class _ClusterWorker:
    """An actor that does jobs."""

    def __init__(self) -> None:
        self._kept: dict[Any, Any] = {}

    def perform(self, job: Job) -> Iterator[tuple[int, Any]]:
        """Do a job."""
        yield from _attempt(job, self._kept, lambda: None)
