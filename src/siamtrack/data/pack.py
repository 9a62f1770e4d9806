"""Windows of pictures as uint8: decoded when they are asked for, or kept in memory, in a file, or on the device."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siamtrack import files
from siamtrack.data.index import Index
from siamtrack.data.pictures import PictureReader
from siamtrack.data.windows import Ints, Windows
from siamtrack.errors import UserError

_ANGLES = np.arange(32) * (np.pi / 16)
_DIRECTIONS = np.round(np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], -1), 15)
ELLIPSE = 0.5 + _DIRECTIONS / 2
"""[P, 2] points of the ellipse in the unit square."""


@dataclass(frozen=True)
class Pixels:
    """N windows and K masks, each in the top left corner of a square of S pixels."""

    images: Tensor
    """[N, 3, S, S] uint8 BGR; beyond the window 0."""
    fills: Tensor
    """[N, 3] float, mean colour of each window's picture, in whole steps."""
    masks: Tensor
    """[K, 1, S, S] uint8, 255 where the object is."""
    outlines: NDArray[np.float32]
    """[K, P, 2] points of each mask's convex hull, as shares of the hull's upright box."""

    def to(self, device: torch.device) -> "Pixels":
        """Return the same on ``device``; a copy from pinned memory goes on in the background."""
        images, fills, masks = (each.to(device, non_blocking=True) for each in (self.images, self.fills, self.masks))
        return Pixels(images, fills, masks, self.outlines)


class Store(Protocol):
    """Where windows come from."""

    def fetch(self, windows: Ints, masks: Ints, pinned: bool = False) -> Pixels:
        """Return windows and masks, by their numbers in ascending order, in the host's memory.

        Raises:
            UserError: a picture or mask is missing, unreadable, or not of the size that the index gives.
        """


class Decoder:
    """Decodes windows when they are asked for."""

    def __init__(self, index: Index, windows: Windows) -> None:
        self._index, self._windows, self._reader = index, windows, PictureReader(index.root)

    def fetch(self, windows: Ints, masks: Ints, pinned: bool = False) -> Pixels:  # noqa: D102 - of Store
        pixels = empty_pixels(len(windows), len(masks), self._windows.canvas, pinned)
        shown = -1
        for row, number in enumerate(windows.tolist()):
            picture = int(self._windows.picture[number])
            if picture != shown:
                image, shown = self._reader.picture(self._index.pictures[picture]), picture
                fill = np.floor(cv2.mean(image)[:3])
            pixels.fills[row] = torch.from_numpy(fill)
            self._put(pixels.images.numpy()[row], image, number)
        for row, number in enumerate(masks.tolist()):
            thing = int(self._windows.masked[number])
            image = self._reader.mask(self._index.pictures[int(self._index.picture[thing])], self._index.mask[thing])
            pixels.outlines[row] = outline(image)
            self._put(pixels.masks.numpy()[row], image, int(self._windows.of_object[thing]))
        return pixels

    def _put(self, canvas: NDArray[np.uint8], image: NDArray[np.uint8], number: int) -> None:
        """Write the window of ``image`` [H, W] or [H, W, 3] into ``canvas`` [C, S, S]."""
        x, y, w, h = self._windows.part[number].tolist()
        width, height = self._windows.size[number].tolist()
        cut = image[y : y + h, x : x + w]
        if (w, h) != (width, height):
            cut = cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA)
        place(canvas, np.atleast_3d(cut).transpose(2, 0, 1))


class Shelf:
    """Windows one behind the other in an array of bytes, in memory or in a mapped file."""

    def __init__(self, windows: Windows, content: NDArray[np.uint8]) -> None:
        self._windows = windows
        count, masks = len(windows.picture), len(windows.masked)
        area = windows.size.prod(1)
        self._starts = np.concatenate([[0], np.cumsum(3 * area)])
        self._mask_starts = self._starts[-1] + np.concatenate([[0], np.cumsum(area[windows.of_object[windows.masked]])])
        bounds = np.cumsum([self._mask_starts[-1], -self._mask_starts[-1] % 4, 12 * count, masks * ELLIPSE.size * 4])
        self.content = content
        self._fills = content[bounds[1] : bounds[2]].view(np.float32).reshape(count, 3)
        self._outlines = content[bounds[2] : bounds[3]].view(np.float32).reshape(masks, *ELLIPSE.shape)

    def fetch(self, windows: Ints, masks: Ints, pinned: bool = False) -> Pixels:  # noqa: D102 - of Store
        pixels = empty_pixels(len(windows), len(masks), self._windows.canvas, pinned)
        pixels.fills.numpy()[:] = self._fills[windows]
        pixels.outlines[:] = self._outlines[masks]
        for canvas, number in zip(pixels.images.numpy(), windows.tolist(), strict=True):
            place(canvas, self._image(number))
        for canvas, number in zip(pixels.masks.numpy(), masks.tolist(), strict=True):
            place(canvas, self._mask(number))
        return pixels

    def put(self, windows: Ints, masks: Ints, pixels: Pixels) -> None:
        """Store what was fetched elsewhere."""
        self._fills[windows], self._outlines[masks] = pixels.fills.numpy(), pixels.outlines
        for canvas, number in zip(pixels.images.numpy(), windows.tolist(), strict=True):
            kept = self._image(number)
            kept[:] = canvas[:, : kept.shape[1], : kept.shape[2]]
        for canvas, number in zip(pixels.masks.numpy(), masks.tolist(), strict=True):
            kept = self._mask(number)
            kept[:] = canvas[:, : kept.shape[1], : kept.shape[2]]

    def _image(self, number: int) -> NDArray[np.uint8]:
        width, height = self._windows.size[number].tolist()
        return self.content[self._starts[number] : self._starts[number + 1]].reshape(3, height, width)

    def _mask(self, number: int) -> NDArray[np.uint8]:
        width, height = self._windows.size[self._windows.of_object[self._windows.masked[number]]].tolist()
        return self.content[self._mask_starts[number] : self._mask_starts[number + 1]].reshape(1, height, width)


def shelf_bytes(windows: Windows) -> int:
    """Return how many bytes a shelf of these windows has."""
    area = windows.size.prod(1)
    pixels = int(3 * area.sum() + area[windows.of_object[windows.masked]].sum())
    return pixels + -pixels % 4 + 12 * len(area) + 4 * ELLIPSE.size * len(windows.masked)


def pixels_bytes(windows: Windows) -> int:
    """Return how many bytes all windows have as squares."""
    return (3 * len(windows.picture) + len(windows.masked)) * windows.canvas**2


def load_shelf(index: Index, windows: Windows, tell: Callable[[float], None]) -> Shelf:
    """Return all windows in memory.

    Args:
        index: where the pictures are.
        windows: what is kept.
        tell: called with the share that is done.
    """
    return _fill(Shelf(windows, np.empty(shelf_bytes(windows), np.uint8)), index, windows, tell)


def open_shelf(index: Index, windows: Windows, folder: Path, tell: Callable[[float], None]) -> Shelf:
    """Return all windows in a file of ``folder``, which is made if it is not there yet.

    Its name says what it holds: a changed index, canvas or reach has a file of its own.

    Raises:
        UserError: the file cannot be written.
    """
    path = shelf_path(index, windows, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder} ({error.strerror}); set train.data.cache_folder") from None
    with _alone(path):
        if not path.is_file():
            with files.atomic(path) as temporary:
                _reserve(temporary, shelf_bytes(windows))
                content = np.memmap(temporary, np.uint8, "r+")
                _fill(Shelf(windows, content), index, windows, tell)
                content.flush()
    return Shelf(windows, np.memmap(path, np.uint8, "r"))


def shelf_path(index: Index, windows: Windows, folder: Path) -> Path:
    """Return the file that holds these windows."""
    return folder / f"{_fingerprint(index, windows)}.pixels"


def _reserve(path: Path, size: int) -> None:
    """Make a file of ``size`` bytes; a full disk is found now rather than when the mapped file is written."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let only one process at a time make ``path``, where the system has file locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def load_pixels(store: Store, windows: Windows, device: torch.device, tell: Callable[[float], None]) -> Pixels:
    """Return all windows of ``store`` on ``device``."""
    count, masks, side = len(windows.picture), len(windows.masked), windows.canvas
    loaded = Pixels(
        torch.empty((count, 3, side, side), dtype=torch.uint8, device=device),
        torch.empty((count, 3), device=device),
        torch.empty((masks, 1, side, side), dtype=torch.uint8, device=device),
        np.empty((masks, *ELLIPSE.shape), np.float32),
    )
    for some, cut, pixels in _everything(store, windows, tell):
        loaded.images[some.start : some.stop] = pixels.images.to(device)
        loaded.fills[some.start : some.stop] = pixels.fills.to(device)
        loaded.masks[cut.start : cut.stop] = pixels.masks.to(device)
        loaded.outlines[cut.start : cut.stop] = pixels.outlines
    return loaded


def _fill(shelf: Shelf, index: Index, windows: Windows, tell: Callable[[float], None]) -> Shelf:
    for some, cut, pixels in _everything(Decoder(index, windows), windows, tell):
        shelf.put(_numbers(some), _numbers(cut), pixels)
    return shelf


_CHUNK = 64  # windows that a thread decodes at a time


def _everything(store: Store, windows: Windows, tell: Callable[[float], None]) -> Iterator[tuple[range, range, Pixels]]:
    """Yield all windows and masks of a store, with their numbers; threads fetch them, a few chunks ahead."""
    count, masks = len(windows.picture), len(windows.masked)
    chunks = -(-max(count, masks) // _CHUNK)
    parts = [
        tuple(range(k * total // chunks, (k + 1) * total // chunks) for total in (count, masks)) for k in range(chunks)
    ]
    workers = min(os.cpu_count() or 1, 16)
    with ThreadPoolExecutor(workers) as pool:
        ahead = [pool.submit(store.fetch, _numbers(a), _numbers(b)) for a, b in parts[: 2 * workers]]
        for number, (some, cut) in enumerate(parts):
            pixels = ahead.pop(0).result()
            if number + 2 * workers < chunks:
                a, b = parts[number + 2 * workers]
                ahead.append(pool.submit(store.fetch, _numbers(a), _numbers(b)))
            yield some, cut, pixels
            tell((number + 1) / chunks)


def _numbers(some: range) -> Ints:
    return np.arange(some.start, some.stop)


def _fingerprint(index: Index, windows: Windows) -> str:
    """Return a name for what the windows of an index hold."""
    digest = hashlib.sha256(str((index.root.absolute(), windows.canvas)).encode())
    pictures = index.pictures
    for column in (pictures.image.content, pictures.image.ends, pictures.shard.codes, index.mask.content,
                   index.mask.ends, windows.picture, windows.part, windows.masked):  # fmt: skip
        digest.update(np.ascontiguousarray(column).data)
    digest.update("\n".join(pictures.shard.values).encode())
    return digest.hexdigest()[:32]


def empty_pixels(count: int, masks: int, canvas: int, pinned: bool) -> Pixels:
    """Return room for windows and masks in the host's memory."""
    return Pixels(
        torch.empty((count, 3, canvas, canvas), dtype=torch.uint8, pin_memory=pinned),
        torch.empty((count, 3), pin_memory=pinned),
        torch.empty((masks, 1, canvas, canvas), dtype=torch.uint8, pin_memory=pinned),
        np.empty((masks, *ELLIPSE.shape), np.float32),
    )


def place(canvas: NDArray[np.uint8], image: NDArray[np.uint8]) -> None:
    """Write ``image`` [C, H, W] into the top left corner of ``canvas`` [C, S, S], and 0 elsewhere."""
    height, width = image.shape[1:]
    canvas[:, :height, :width] = image
    canvas[:, height:] = 0
    canvas[:, :height, width:] = 0


def outline(mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the points of a mask that lie farthest in each of P directions, as shares of their upright box.

    An empty mask has the outline of an ellipse. Shapes: mask [H, W], result [P, 2].
    """
    points = cv2.findNonZero((mask > 127).astype(np.uint8))
    if points is None:
        return ELLIPSE
    hull = cv2.convexHull(points)[:, 0]
    farthest = hull[(hull @ _DIRECTIONS.T).argmax(0)] + _DIRECTIONS / 2  # pixels have a size
    low, high = farthest.min(0), farthest.max(0)
    return np.asarray((farthest - low) / (high - low))
