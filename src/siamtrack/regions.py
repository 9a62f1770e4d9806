"""Regions of an image: boxes, polygons and masks. Nothing above numpy.

Coordinates are pixels of the image, 0-based floats; pixel i of a row covers [i, i + 1).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes
from siamtrack.errors import UserError


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


def parse_region(text: str) -> Region:
    """Return the region in VOT's text: 4 numbers x, y, w, h; the corners x, y of a polygon; or ``m`` and the window
    x, y, w, h of a mask, followed by the lengths of runs of pixels outside and inside in turn, row by row.

    Raises:
        UserError: it is none of these.
    """
    try:
        if text.startswith("m"):
            x, y, w, h, *runs = (int(part) for part in text[1:].split(","))
            inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
            if len(inside) > w * h:
                raise ValueError
            return Mask(x, y, np.pad(inside, (0, w * h - len(inside))).reshape(h, w))
        values = np.array([float(part) for part in text.split(",")])
    except ValueError:
        raise UserError(f"{text[:80]!r} is no region") from None
    if len(values) == 4:
        return values
    if len(values) < 6 or len(values) % 2:
        raise UserError(f"{text[:80]!r} has {len(values)} numbers, expected 4 (x,y,w,h) or 6 and more (a polygon)")
    return values.reshape(-1, 2)


def format_region(region: Region) -> str:
    """Return VOT's text of a region, ``0`` for None; :func:`parse_region` reads it."""
    if region is None:
        return "0"
    if isinstance(region, Mask):
        flat = np.concatenate([[False], region.pixels.ravel()])
        edges = np.append(np.flatnonzero(flat[1:] != flat[:-1]), region.pixels.size)
        height, width = region.pixels.shape
        return "m" + ",".join(str(value) for value in (region.x, region.y, width, height, *np.diff(edges, prepend=0)))
    return ",".join(f"{value:.4f}" for value in region.ravel())
