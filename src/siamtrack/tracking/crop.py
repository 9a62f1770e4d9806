"""Crops: square windows of a frame, resized to what the network takes.

Coordinates are continuous: pixel i covers [i, i + 1), its middle is i + 0.5.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.tracking.network import Patches
from siamtrack.video.image import Image


def context_side(size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the side of the square with context that the template shows: sqrt((w + p)(h + p)), p = (w + h) / 2.

    Source: SiamFC (Bertinetto et al., 2016), section 2.4. Shapes: size [B, 2] as w, h; result [B].
    """
    context = size.sum(-1) / 2
    side: NDArray[np.float64] = np.sqrt((size[..., 0] + context) * (size[..., 1] + context))
    return side


def snap(
    center: NDArray[np.float64], side: NDArray[np.float64], output: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return squares on a grid of an eighth to a quarter of a pixel of the crop (a power of two of the frame's).

    Runtimes differ in the last digits. On the grid these differences vanish before the next crop, so that all runtimes
    see the same pixels; off it they would grow from frame to frame.

    Shapes: center [B, 2] and side [B] in pixels of the frame; output: pixels of the crop's side.
    """
    grid = np.exp2(np.floor(np.log2(side / output / 4)))
    return np.rint(center / grid[:, None]) * grid[:, None], np.rint(side / grid) * grid


def crop(
    frames: Sequence[Image],
    center: NDArray[np.float64],
    side: NDArray[np.float64],
    output: int,
    fill: NDArray[np.uint8],
    legacy: bool = False,
) -> Patches:
    """Cut one square out of each frame and resize it, bilinearly.

    Pixel u of the result shows the point center + (u + 0.5 - output / 2) side / output of the frame, as in training.
    With ``legacy`` the square is first moved and rounded to whole pixels, as PySOT does.

    Shapes: frames B times [H, W, 3]; center [B, 2] and side [B] in pixels of the frame; fill [B, 3], the colour outside
    the frame; result [B, output, output, 3].
    """
    patches = np.empty((len(side), output, output, 3), np.uint8)
    cut = _cut_whole_pixels if legacy else _cut
    for index, frame in enumerate(frames):
        cut(frame, center[index], float(side[index]), fill[index].tolist(), patches[index])
    return patches


def _cut(frame: Image, center: NDArray[np.float64], side: float, fill: list[int], patch: NDArray[np.uint8]) -> None:
    """Write the window of ``frame`` into ``patch`` [S, S, 3]."""
    size = patch.shape[0]
    step = side / size
    left, top = center - side / 2 + step / 2 - 0.5  # the middle of the first pixel, counted in whole pixels
    matrix = np.array([[step, 0, left], [0, step, top]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cv2.warpAffine(frame, matrix, (size, size), patch, flags, cv2.BORDER_CONSTANT, fill)


def _cut_whole_pixels(
    frame: Image, center: NDArray[np.float64], side: float, fill: list[int], patch: NDArray[np.uint8]
) -> None:
    """Write the window of ``frame`` into ``patch`` [S, S, 3] as PySOT's get_subwindow does, pixel for pixel."""
    size, length = patch.shape[0], max(round(side), 1)
    height, width = frame.shape[:2]
    left, top = np.floor(center - length / 2).astype(int).tolist()
    x1, y1 = min(max(left, 0), width), min(max(top, 0), height)
    x2, y2 = max(min(left + length, width), x1), max(min(top + length, height), y1)
    square = frame[y1:y2, x1:x2]
    if not square.size:
        patch[:] = fill
        return
    if square.shape[:2] != (length, length):
        borders = (y1 - top, top + length - y2, x1 - left, left + length - x2)
        square = cv2.copyMakeBorder(square, *borders, cv2.BORDER_CONSTANT, value=fill)
    cv2.resize(square, (size, size), dst=patch, interpolation=cv2.INTER_LINEAR)
