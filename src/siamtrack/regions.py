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
    """Return the region in a line of VOT's text form.

    4 numbers are a box, an even number of at least 6 a polygon, ``mX,Y,W,H,c0,c1,...`` a mask: a window and, row by
    row, how many pixels are background, object, background and so on. NaN and a single number are None.

    Raises:
        UserError: the text is none of these.
    """
    mask = text.startswith("m")
    try:
        numbers = [float(word) for word in text.removeprefix("m").replace(",", " ").split()]
    except ValueError:
        raise UserError(f"{text[:60]!r} is not numbers") from None
    if mask and len(numbers) >= 4:
        x, y, w, h, *counts = map(int, numbers)
        values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        pixels = np.zeros(w * h, bool)
        pixels[: len(values)] = values[: w * h]
        return Mask(x, y, pixels.reshape(h, w))
    if len(numbers) == 1 or not np.isfinite(numbers).all():
        return None
    if mask or len(numbers) < 4 or len(numbers) % 2:
        raise UserError(f"{text[:60]!r} is no box, polygon or mask")
    values = np.array(numbers)
    return values if len(values) == 4 else values.reshape(-1, 2)
