"""Regions of an image: boxes, polygons and masks. Nothing above numpy.

Coordinates are pixels of the image, 0-based floats; pixel i of a row covers [i, i + 1).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes, iou


class Mask(NamedTuple):
    """The pixels of an object, in a window of the image."""

    x: int
    """Left column of the window."""
    y: int
    """Top row of the window."""
    pixels: NDArray[np.bool_]
    """[h, w] True where the object is."""


Region = NDArray[np.float64] | Mask | None
"""A box [4] as x, y, w, h; a polygon [K, 2] of corners x, y; a mask; or None where there is nothing."""


def enclosing_box(region: Region) -> Boxes:
    """Return the box [4] that encloses a region, NaN for None and for an empty mask."""
    if region is None:
        return np.full(4, np.nan)
    if isinstance(region, Mask):
        rows, columns = np.flatnonzero(region.pixels.any(1)), np.flatnonzero(region.pixels.any(0))
        if not len(rows):
            return np.full(4, np.nan)
        x, y = region.x + columns[0], region.y + rows[0]
        return np.array([x, y, columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1], float)
    if region.ndim == 1:
        return region
    low, high = region.min(0), region.max(0)
    return np.concatenate([low, high - low])


def overlap(a: Region, b: Region, bounds: tuple[float, float] | None = None) -> float:
    """Return the overlap of two boxes inside ``bounds`` (width and height), NaN where either is none."""
    if a is None or b is None:
        return np.nan
    one, other = (_clipped(enclosing_box(region), bounds) for region in (a, b))
    return float(iou(one, other))


def _clipped(box: Boxes, bounds: tuple[float, float] | None) -> Boxes:
    if bounds is None:
        return box
    low, high = np.clip(box[:2], 0, bounds), np.clip(box[:2] + box[2:], 0, bounds)
    return np.concatenate([low, high - low])


def encode_mask(mask: NDArray[np.bool_]) -> str:
    """Return a mask [H, W] as VOT's text: ``m`` x, y, w, h of the window about it, then the lengths of runs of pixels
    outside and inside in turn, row by row, the first outside."""
    x, y, w, h = np.nan_to_num(enclosing_box(Mask(0, 0, mask))).astype(int)
    flat = np.concatenate([[False], mask[y : y + h, x : x + w].ravel(), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(edges, prepend=0)
    return "m" + ",".join(map(str, (x, y, w, h, *runs)))


def decode_mask(text: str) -> Mask:
    """Return the mask of VOT's text, as :func:`encode_mask` writes it."""
    x, y, w, h, *runs = (int(part) for part in text[1:].split(","))
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    filled = np.zeros(w * h, bool)
    filled[: len(pixels)] = pixels
    return Mask(x, y, filled.reshape(h, w))
