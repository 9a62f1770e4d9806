"""The same work in several processes of this machine, or on a Ray cluster. They talk by files of the study's folder."""

import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path

from siamtrack.errors import UserError
from siamtrack.workers import deaf_children

Stop = Callable[[], bool]
"""Whether to stop; asked after each sequence."""
Task = Callable[[int, Stop], None]
"""What a worker does, given its number. It must be picklable, and stop when asked to."""

_PATIENCE = 0.3  # seconds between looks at the workers


def run_workers(task: Task, folder: Path, count: int, watch: Stop) -> None:
    """Run ``task`` in ``count`` processes; in this one if it is one.

    Args:
        task: what to do.
        folder: where a file ``stop`` tells the workers to stop.
        count: number of workers.
        watch: called again and again; when it returns True, the workers are told to stop.

    Raises:
        UserError: a worker raised it, or was killed. The others are stopped.
    """
    if count == 1:
        task(0, watch)
        return
    _stop_file(folder).unlink(missing_ok=True)
    with ProcessPoolExecutor(count, get_context("spawn")) as pool:
        try:
            with deaf_children(signal.SIGINT):  # SIGTERM is how the pool ends them
                futures = [pool.submit(_work, task, index, folder) for index in range(count)]
            while not all(future.done() for future in futures):
                failed = any(future.done() and future.exception() for future in futures)
                if watch() or failed:
                    _stop_file(folder).touch()
                time.sleep(_PATIENCE)
            for future in futures:
                future.result()
        except BrokenProcessPool:
            for worker in active_children():  # the pool forgets to end one that is just starting, and waits for it
                worker.kill()
            if watch():  # a SIGTERM was sent to all
                return
            raise UserError("a worker was killed, perhaps for lack of memory; run again with fewer --workers") from None
        finally:
            _stop_file(folder).touch()


def run_on_cluster(task: Task, folder: Path, count: int, watch: Stop, address: str, threads: int, on_gpu: bool) -> None:
    """Run ``task`` in ``count`` workers of a Ray cluster that share ``folder`` and the data set's files.

    Args:
        task: what to do.
        folder: the same on all machines of the cluster.
        count: number of workers.
        watch: see :func:`run_workers`.
        address: of the cluster's head, as for ``ray.init``.
        threads: cores that a worker reserves.
        on_gpu: whether a worker reserves a GPU.

    Raises:
        UserError: Ray is not installed, there is no cluster or no room in it, or a worker raised it.
    """
    if not find_spec("ray"):
        raise UserError("--cluster needs Ray; pip install 'siamtrack[cluster]'")
    import ray

    _stop_file(folder).unlink(missing_ok=True)
    try:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if host:  # where nobody answers, Ray itself would wait for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, log_to_driver=False, logging_level="error")
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"--cluster {address}: no Ray cluster answers there ({reason})") from None
    try:
        room = ray.cluster_resources()
        if room.get("CPU", 0) < threads or room.get("GPU", 0) < on_gpu:
            gpu = " and a GPU" if on_gpu else ""
            raise UserError(f"--cluster {address}: it has no room for a worker of {threads} cores{gpu}; see --threads")
        work = ray.remote(num_cpus=threads, num_gpus=int(on_gpu), max_retries=0)(_work)
        pending = [work.remote(task, index, folder) for index in range(count)]
        while pending:
            if watch():
                _stop_file(folder).touch()
            done, pending = ray.wait(pending, timeout=_PATIENCE)
            ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise (UserError(str(error.cause)) if isinstance(error.cause, UserError) else error) from None
    finally:
        _stop_file(folder).touch()
        ray.shutdown()


def _work(task: Task, index: int, folder: Path) -> None:
    parent = parent_process()
    task(index, lambda: _stop_file(folder).exists() or (parent is not None and not parent.is_alive()))


def _stop_file(folder: Path) -> Path:
    return folder / "stop"
