"""Boxes: formats, overlap, distance, polygons.

A box is (x, y, w, h): left, top, width, height in pixels of the image, 0-based floats; pixel i of a row
covers [i, i + 1). All functions take arrays with any leading shape ``...``.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamtrack.errors import UserError

Boxes = NDArray[np.float64]


def iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Return the intersection over union of boxes ``a`` and ``b``, 0 where either is empty or NaN.

    Shapes: a, b: [..., 4] as x, y, w, h, broadcast against each other; result: [...].
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    top_left = np.maximum(a[..., :2], b[..., :2])
    bottom_right = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    overlap = np.clip(bottom_right - top_left, 0, None).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - overlap
    valid = (a[..., 2:] > 0).all(-1) & (b[..., 2:] > 0).all(-1) & (overlap > 0)
    return np.where(valid, overlap / np.where(valid, union, 1), 0.0)


def centers(boxes: ArrayLike) -> NDArray[np.float64]:
    """Return the centres (x, y) of boxes. Shapes: boxes [..., 4], result [..., 2]."""
    boxes = np.asarray(boxes, float)
    return boxes[..., :2] + boxes[..., 2:] / 2


def enclosing(regions: ArrayLike) -> Boxes:
    """Return the axis-aligned boxes that enclose regions.

    Shapes: regions [..., 4] (x, y, w, h; returned as they are) or [..., 2k] with k >= 3 (polygon corners
    x1, y1, x2, y2, ...); result [..., 4]. NaN stays NaN.
    """
    regions = np.asarray(regions, float)
    if regions.shape[-1] == 4:
        return regions
    points = regions.reshape(*regions.shape[:-1], -1, 2)  # [..., k, 2]
    low, high = points.min(-2), points.max(-2)
    return np.concatenate([low, high - low], -1)


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Return the box in a text such as ``120,80,60,140``.

    Raises:
        UserError: not four finite numbers.
    """
    parts = text.split(",") if "," in text else text.split()
    try:
        values = [float(part) for part in parts]
    except ValueError:
        raise UserError(f"box {text!r} is not four numbers; give x,y,w,h such as 120,80,60,140") from None
    if len(values) != 4:
        raise UserError(f"box {text!r} has {len(values)} values, expected 4: x,y,w,h")
    return values[0], values[1], values[2], values[3]


def check_box(box: Sequence[float] | NDArray[np.float64], width: int, height: int) -> Boxes:
    """Return a copy of ``box`` as an array if it can be an object in an image of ``width`` x ``height`` pixels.

    It may reach over the border, as annotations do.

    Shape: result [4].

    Raises:
        UserError: not four finite numbers, width or height not positive, wholly outside the image, or wider or
            higher than the image by more than a pixel.
    """
    try:
        values = np.array(box, float).reshape(-1)
    except (TypeError, ValueError):
        raise UserError(f"box {box!r} is not four numbers x, y, w, h") from None
    if values.shape != (4,):
        raise UserError(f"box has {values.size} values, expected 4: x, y, w, h")
    x, y, w, h = (float(value) for value in values)
    shown = f"box {x:g},{y:g},{w:g},{h:g}"
    if not np.isfinite(values).all():
        raise UserError(f"{shown} is not finite; give four numbers x,y,w,h in pixels")
    if w <= 0 or h <= 0:
        raise UserError(f"{shown} has width {w:g} and height {h:g}; both must be above 0 (x,y,w,h, not x1,y1,x2,y2)")
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        raise UserError(f"{shown} lies outside the frame, which is {width}x{height} pixels")
    if w > width + 1 or h > height + 1:  # annotations overshoot by a pixel now and then
        raise UserError(f"{shown} is larger than the frame, which is {width}x{height} pixels")
    return values
