"""Batches of pairs by the number of the step, prepared ahead."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from siamtrack.data.augment import Augmenter, Batch
from siamtrack.data.index import Index
from siamtrack.data.pack import (
    Decoder,
    Pixels,
    Store,
    load_pixels,
    load_shelf,
    open_shelf,
    pixels_bytes,
    shelf_bytes,
    shelf_path,
)
from siamtrack.data.pairs import Pairs, PairSampler, SamplingConfig
from siamtrack.data.windows import Ints, Windows, lay_windows
from siamtrack.errors import UserError
from siamtrack.files import cache_folder

Cache = Literal["auto", "device", "memory", "disk", "none"]
"""Where decoded pictures are kept; ``auto`` is the first of the others that has room."""


@dataclass(frozen=True)
class _Prepared:
    """What a worker made for a batch: pairs and, unless all is on the device, what they show."""

    pairs: Pairs
    needs: tuple[Ints, Ints] | None
    pixels: Pixels | None


class PairLoader:
    """Gives batches by number, while workers prepare the next ones.

    Batch ``step x accumulate + part`` is what this process draws as its part of a step; without accumulation its number
    is that of the step. The pairs of part k of process r depend on the seed, the step, and k x ranks + r alone: not on
    the number of workers, on where pictures are kept, or on which batches were asked for before; and N processes draw
    what one that accumulates N parts does. To go on in the middle of an epoch, ask for the batch after the last.

    Args:
        index: the training data.
        sampling: which pairs are drawn, and how they vary.
        template_size: pixels of the template's side.
        search_size: pixels of the search region's side.
        batch: pairs in a batch.
        seed: decides all that is random.
        device: where batches are made.
        with_masks: whether batches have masks.
        canvas: no window of a picture is kept larger than this many pixels a side.
        cache: where decoded windows are kept.
        folder: where those on disk are; ``~/.cache/siamtrack`` unless given.
        rank: number of this process among those of the run.
        ranks: number of the run's processes.
        accumulate: number of batches that a process has in a step.
        processes: number of the run's processes on this machine, which share its memory.
        workers: threads that prepare batches.
        tell: called with the share of the pictures that are decoded, while the cache is filled.

    Raises:
        UserError: pictures cannot be used, ``sampling`` does not fit the index, or the cache has no room.
    """

    def __init__(
        self,
        index: Index,
        sampling: SamplingConfig,
        template_size: int,
        search_size: int,
        *,
        batch: int,
        seed: int,
        device: torch.device | str = "cpu",
        with_masks: bool = False,
        canvas: int = 384,
        cache: Cache = "auto",
        folder: Path | None = None,
        rank: int = 0,
        ranks: int = 1,
        accumulate: int = 1,
        processes: int = 1,
        workers: int = 4,
        tell: Callable[[float], None] = lambda share: None,
    ) -> None:
        self._device, self._count, self._seed = torch.device(device), batch, seed
        self._rank, self._ranks, self._accumulate = rank, ranks, accumulate
        windows = lay_windows(index, sampling, template_size, search_size, canvas)
        self._sampler = PairSampler(index, sampling, template_size, search_size, windows.area)
        self._augmenter = Augmenter(windows, template_size, search_size, with_masks)
        folder = folder or cache_folder()
        self.cache = choose_cache(cache, index, windows, self._device, folder, processes)
        """Where windows are kept: ``device``, ``memory``, ``disk`` or ``none``."""
        self._store: Store = Decoder(index, windows)
        self._all: Pixels | None = None
        if self.cache == "device":
            self._all = load_pixels(self._store, windows, self._device, tell)
        elif self.cache == "memory":
            self._store = load_shelf(index, windows, tell)
        elif self.cache == "disk":
            self._store = open_shelf(index, windows, folder, tell)
        self._pool = ThreadPoolExecutor(workers, "pairs")
        self._ahead = workers + 1
        self._prepared: dict[int, Future[_Prepared]] = {}
        self._made: dict[int, Batch] = {}  # the next batch
        self._stream: Any = None  # on which batches are made beside what the device computes with others
        if self._device.type == "cuda":
            self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            self._stream.wait_stream(torch.cuda.current_stream(self._device))

    def batch(self, number: int) -> Batch:
        """Return batch ``number``, and have the following ones prepared.

        On a GPU the next batch is made beside whatever is computed with this one.

        Raises:
            UserError: a picture that is decoded now cannot be read.
        """
        for other in [other for other in self._prepared if not number <= other <= number + self._ahead]:
            self._prepared.pop(other).cancel()
        made = self._made.pop(number, None)
        self._made.clear()
        for following in range(number + (made is not None), number + self._ahead + 1):
            if following not in self._prepared:
                self._prepared[following] = self._pool.submit(self._prepare, following)
        batch = made or self._make(number)
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for field in fields(batch):
                getattr(batch, field.name).record_stream(current)
            if self._prepared[number + 1].done():
                self._made[number + 1] = self._make(number + 1)
        return batch

    def pairs(self, number: int) -> Pairs:
        """Return what batch ``number`` shows."""
        step, part = divmod(number, self._accumulate)
        origin = [self._seed, step, part * self._ranks + self._rank]
        return self._sampler.draw(np.random.default_rng(origin), self._count)

    def close(self) -> None:
        """End the workers."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _prepare(self, number: int) -> _Prepared:
        pairs = self.pairs(number)
        if self._all is not None:
            return _Prepared(pairs, None, None)
        needs = self._augmenter.needs(pairs)
        return _Prepared(pairs, needs, self._store.fetch(*needs, pinned=self._stream is not None))

    def _make(self, number: int) -> Batch:
        ready = self._prepared.pop(number).result()
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            if ready.pixels is None:
                assert self._all is not None
                return self._augmenter.batch(ready.pairs, self._all)
            return self._augmenter.batch(ready.pairs, ready.pixels.to(self._device), ready.needs)


def choose_cache(
    cache: Cache, index: Index, windows: Windows, device: torch.device, folder: Path, processes: int
) -> Cache:
    """Return where windows are kept: ``cache``, or for ``auto`` the first place that has room.

    Half of what is free on the device is left to training, and half of the free memory to everything else.

    Raises:
        UserError: there is no room where ``cache`` says.
    """
    need = {
        "device": pixels_bytes(windows) * (processes if device.type == "cpu" else 1),
        "memory": shelf_bytes(windows) * processes,
        "disk": shelf_bytes(windows),
    }
    room = {"device": free_memory(device) // 2, "memory": free_memory(torch.device("cpu")) // 2,
            "disk": _free_disk(folder)}  # fmt: skip
    if cache in ("auto", "disk") and shelf_path(index, windows, folder).is_file():
        room["disk"] = need["disk"]
    fitting: list[Cache] = [place for place in ("device", "memory", "disk") if need[place] <= room[place]]
    if cache == "auto":
        return fitting[0] if fitting else "none"
    if cache != "none" and cache not in fitting:
        side = int(windows.canvas * (room[cache] / need[cache]) ** 0.5)
        other = " or ".join([*fitting, "none"])
        raise UserError(
            f"train.data.cache {cache} needs {_size(need[cache])} for {len(windows.picture)} windows of "
            f"{windows.canvas} pixels and has {_size(room[cache])}; set it to {other}, or train.data.canvas to {side}"
        )
    return cache


def free_memory(device: torch.device) -> int:
    """Return how many bytes of a device's memory are free; on a CPU also within the limit of a container."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = []
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        free.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text() for name in ("memory.max", "memory.current"))
        free.append(int(limit) - int(used))
    except (OSError, ValueError):  # there is no limit
        pass
    return min(free)


def _free_disk(folder: Path) -> int:
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(there).free if os.access(there, os.W_OK) else 0


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
