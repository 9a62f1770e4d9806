"""Anchors: the boxes that the network's offsets refer to."""

import numpy as np
from numpy.typing import NDArray

from siamtrack.models.config import AnchorConfig


def anchor_shapes(config: AnchorConfig) -> NDArray[np.float64]:
    """Return the widths and heights of the anchors of one cell, ratio by ratio, scale by scale.

    The base area stride^2 is divided by the ratio before rounding down, as in PySOT.

    Shape: [A, 2] as w, h in pixels of the search region.
    """
    shapes = []
    for ratio in config.ratios:
        width = np.floor(np.sqrt(config.stride**2 / ratio))
        height = np.floor(width * ratio)
        shapes += [(width * scale, height * scale) for scale in config.scales]
    return np.array(shapes, float)


def anchor_grid(config: AnchorConfig, cells: int) -> NDArray[np.float64]:
    """Return every anchor as cx, cy, w, h relative to the centre of the search region.

    Shape: [A m m, 4] with m = ``cells``; anchor-major, then row by row, as the channels of the response.
    """
    shapes = anchor_shapes(config)
    offsets = (np.arange(cells) - cells // 2) * float(config.stride)
    cx, cy = np.meshgrid(offsets, offsets)  # [m, m], x fastest
    grid = np.zeros((len(shapes), cells, cells, 4))
    grid[..., 0], grid[..., 1] = cx, cy
    grid[..., 2:] = shapes[:, None, None]
    return grid.reshape(-1, 4)
