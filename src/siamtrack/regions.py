"""Regions of an image: boxes, polygons and masks. Nothing above numpy.

Coordinates are pixels of the image, 0-based floats; pixel i of a row covers [i, i + 1).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes


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
