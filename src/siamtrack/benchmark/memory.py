"""Memory of a process that loads one model and follows a target."""

import multiprocessing
import re
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from siamtrack.benchmark.weights import open_tracker
from siamtrack.runtimes.load import Runtime

_UPDATES = 3


class Memory(NamedTuple):
    """The largest use, in MiB."""

    host: float
    """Resident memory, shared libraries included."""
    device: float | None
    """What torch took of a GPU; None without one."""


def peak_memory(
    model: str, runtime: Runtime, device: str, threads: int | None, folder: Path, size: tuple[int, int]
) -> Memory:
    """Return what a new process needs at most to follow one target in frames of ``size``, width and height."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_follow, model, runtime, device, threads, folder, size).result()


def _follow(
    model: str, runtime: Runtime, device: str, threads: int | None, folder: Path, size: tuple[int, int]
) -> Memory:
    tracker, _ = open_tracker(model, runtime, device, threads, folder)
    frame = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    tracker.init(frame, (size[0] / 2, size[1] / 2, 60, 60))
    for _ in range(_UPDATES):
        tracker.update(frame)
    return Memory(_resident(), _on_gpu(device))


def _resident() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # of this program alone; the other figure starts from its parent's
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _on_gpu(device: str) -> float | None:
    if device == "cpu" or "torch" not in sys.modules:
        return None
    allocated: Callable[[str], int] = sys.modules["torch"].cuda.max_memory_allocated
    return allocated(device) / 2**20
