"""Crops: square windows of a frame, resized to what the network takes.

Coordinates are continuous: pixel i covers [i, i + 1), its middle is i + 0.5.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.tracking.network import Patches

Frame = NDArray[np.uint8]


class Window(NamedTuple):
    """The square of the frame that a crop shows: B windows of whole pixels."""

    center: NDArray[np.float64]
    """[B, 2] x, y in pixels of the frame."""
    side: NDArray[np.float64]
    """[B] in pixels of the frame."""


def context_side(size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the side of the square with context that the template shows: sqrt((w + p)(h + p)), p = (w + h) / 2.

    Source: SiamFC (Bertinetto et al., 2016), section 2.4. Shapes: size [B, 2] as w, h; result [B].
    """
    context = size.sum(-1) / 2
    side: NDArray[np.float64] = np.sqrt((size[..., 0] + context) * (size[..., 1] + context))
    return side


def crop(
    frames: Sequence[Frame],
    center: NDArray[np.float64],
    side: NDArray[np.float64],
    output: int,
    fill: NDArray[np.uint8],
) -> tuple[Patches, Window]:
    """Cut one square out of each frame and resize it.

    The square is moved and rounded to whole pixels, as in PySOT; the window that results is returned, so that
    the tracker can calculate with what the network really saw.

    Shapes: frames B times [H, W, 3]; center [B, 2] and side [B] in pixels of the frame; fill [B, 3], the
    colour outside the frame; result: patches [B, output, output, 3], window.
    """
    sides = np.maximum(np.rint(side), 1).astype(int)
    corners = np.floor(center - sides[:, None] / 2 + 0.5).astype(int)
    patches = np.empty((len(sides), output, output, 3), np.uint8)
    for index, (frame, (left, top), length) in enumerate(zip(frames, corners.tolist(), sides.tolist(), strict=True)):
        square = _square(frame, left, top, length, fill[index])
        cv2.resize(square, (output, output), dst=patches[index], interpolation=cv2.INTER_LINEAR)
    return patches, Window(corners + sides[:, None] / 2, sides.astype(float))


def _square(frame: Frame, left: int, top: int, side: int, fill: NDArray[np.uint8]) -> Frame:
    """Return ``frame[top : top + side, left : left + side]`` with ``fill`` where that lies outside."""
    height, width = frame.shape[:2]
    x1, y1 = min(max(left, 0), width), min(max(top, 0), height)
    x2, y2 = max(min(left + side, width), x1), max(min(top + side, height), y1)
    inside = frame[y1:y2, x1:x2]
    if inside.shape[:2] == (side, side):
        return inside
    if not inside.size:
        return np.full((side, side, 3), fill)
    before, after = (y1 - top, x1 - left), (top + side - y2, left + side - x2)
    borders = (before[0], after[0], before[1], after[1])
    square: Frame = cv2.copyMakeBorder(inside, *borders, cv2.BORDER_CONSTANT, value=fill.tolist())
    return square
