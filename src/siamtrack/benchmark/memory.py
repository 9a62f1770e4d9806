"""Memory of a process that loads one model and follows targets."""

import multiprocessing
import re
import resource
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from siamtrack.benchmark.scene import Scene
from siamtrack.benchmark.weights import open_tracker
from siamtrack.runtimes.load import Runtime, out_of_memory

_UPDATES = 3


class Memory(NamedTuple):
    """The largest use, in MiB."""

    host: float
    """Resident memory, shared libraries included."""
    device: float | None
    """What torch took of a GPU; None without one."""


def peak_memory(
    model: str,
    runtime: Runtime,
    device: str,
    threads: int | None,
    folder: Path,
    size: tuple[int, int],
    targets: Sequence[int] = (1,),
) -> dict[int, Memory]:
    """Return what a new process needs at most to follow targets in frames of ``size``, width and height.

    It is one process that follows all the numbers of ``targets``, the smallest first; what it needed is that for the
    numbers so far. Numbers for which there is not enough are left out.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_follow, model, runtime, device, threads, folder, size, sorted(targets)).result()


def _follow(
    model: str,
    runtime: Runtime,
    device: str,
    threads: int | None,
    folder: Path,
    size: tuple[int, int],
    targets: Sequence[int],
) -> dict[int, Memory]:
    tracker, _ = open_tracker(model, runtime, device, threads, folder)
    frame = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    scene = Scene("noise", Path(), [frame])
    needed = {}
    for count in targets:
        frames = [frame] * count
        try:
            state = tracker.core.init(frames, scene.boxes(count))
            for _ in range(_UPDATES):
                state, found = tracker.core.step(frames, state)
                tracker.core.result(found, 0)
        except Exception as error:
            if not out_of_memory(error):
                raise
            break
        needed[count] = Memory(_resident(), _on_gpu(device))
    return needed


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
    reserved: Callable[[str], int] = sys.modules["torch"].cuda.max_memory_reserved
    return reserved(device) / 2**20 or None  # nothing where another runtime drives the GPU
