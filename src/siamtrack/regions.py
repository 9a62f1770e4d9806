"""Regions of an image: boxes, polygons and masks; their text forms and overlaps. Nothing above numpy.

Coordinates are pixels of the image, 0-based floats; pixel i of a row covers [i, i + 1).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

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

Bounds = tuple[float, float] | None
"""Width and height of the image if only what is inside counts."""

Convention = Literal["pysot", "vot-toolkit"]
"""How boxes and polygons become pixels, in which two tools of one benchmark differ (:func:`overlaps`)."""

_INSIDE_OUT = 0, -1
"""First and last column of a span without pixels."""
_ROWS_AT_ONCE = 1 << 17
_CONVEX_ROWS_AT_ONCE = 1 << 14
_CONVEX_UP_TO = 1 << 14
"""Coordinates from which rounding might decide which of two edges is further inside."""


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


def label_boxes(labels: NDArray[np.uint8]) -> dict[int, Boxes]:
    """Return the enclosing box [4] of each number in a label image [H, W].

    Without 0, the background, and 255, which DAVIS and VOC use for pixels of nobody.
    """
    everything = enclosing_box(Mask(0, 0, labels > 0))
    if not np.isfinite(everything).all():
        return {}
    x, y, w, h = everything.astype(int)
    window = labels[y : y + h, x : x + w]
    numbers = np.flatnonzero(np.bincount(window.reshape(-1), minlength=256)[:255])
    return {int(number): enclosing_box(Mask(x, y, window == number)) for number in numbers if number}


def encode_mask(mask: NDArray[np.bool_] | Mask) -> str:
    """Return a mask, of the whole image [H, W] or in a window, as VOT's text.

    The text is ``m`` and x, y, w, h of the window about the object, then the lengths of runs of pixels outside and
    inside in turn, row by row, the first outside. Of an empty mask it is ``m0,0,0,0``.
    """
    whole = mask if isinstance(mask, Mask) else Mask(0, 0, mask)
    box = enclosing_box(whole)
    if not np.isfinite(box).all():
        return "m0,0,0,0"
    x, y, w, h = box.astype(int)
    flat = whole.pixels[y - whole.y :, x - whole.x :][:h, :w].ravel()
    ends = np.concatenate([np.flatnonzero(flat[1:] != flat[:-1]) + 1, [len(flat)]])
    runs = np.diff(ends, prepend=0).tolist()
    return "m" + ",".join(map(str, (x, y, w, h, *([0] if flat[0] else []), *runs)))


def decode_mask(text: str) -> Mask:
    """Return the mask of VOT's text (:func:`encode_mask`). Pixels after the last run are outside.

    Raises:
        UserError: the text is no mask, or its runs are longer than its window.
    """
    try:
        x, y, w, h, *runs = (int(part) for part in text.strip().removeprefix("m").split(","))
    except ValueError:
        raise UserError(f"{_shown(text)} is no mask; expected mX,Y,W,H and the lengths of runs, all integers") from None
    if w < 0 or h < 0 or min(runs, default=0) < 0 or sum(runs) > w * h:
        raise UserError(f"mask {_shown(text)} has runs of {sum(runs)} pixels, which do not fit its window of {w}x{h}")
    pixels = np.zeros(w * h, bool)
    pixels[: sum(runs)] = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return Mask(x, y, pixels.reshape(h, w))


def parse_region(text: str) -> Region:
    """Return the region in a line of VOT's files: 4 numbers of a box, 6 or more of a polygon, or ``m...`` of a mask.

    Numbers may be separated by commas, tabs or spaces. None for a single number, which says why there is no region, and
    where a number is NaN.

    Raises:
        UserError: the line is none of these.
    """
    if text.lstrip().startswith("m"):
        return decode_mask(text)
    try:
        values = np.array([float(part) for part in text.replace(",", " ").split()])
    except ValueError:
        raise UserError(f"region {_shown(text)} is not numbers; expected a box, a polygon or a mask") from None
    if len(values) == 1 or not np.isfinite(values).all():
        return None
    if len(values) == 4:
        return values
    if len(values) < 6 or len(values) % 2:
        raise UserError(
            f"region {_shown(text)} has {len(values)} numbers, expected 4 (x,y,w,h) or an even number from 6"
        )
    return values.reshape(-1, 2)


def format_region(region: Region, digits: int = 4) -> str:
    """Return a region as a line of VOT's files, as :func:`parse_region` reads it; ``0`` for None."""
    if region is None:
        return "0"
    if isinstance(region, Mask):
        return encode_mask(region)
    return ",".join(f"{value:.{digits}f}" for value in region.ravel())


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def overlap(a: Region, b: Region, bounds: Bounds = None, convention: Convention = "pysot") -> float:
    """Return the overlap of two regions: :func:`overlaps` of one pair."""
    return float(overlaps([a], [b], bounds, convention)[0])


def overlaps(
    a: Sequence[Region] | NDArray[np.float64],
    b: Sequence[Region] | NDArray[np.float64],
    bounds: Bounds = None,
    convention: Convention = "pysot",
) -> NDArray[np.float64]:
    """Return VOT's overlap of pairs of regions: pixels in both over pixels in either. Shape: [T].

    Corners are rounded to pixels and polygons filled line by line, with the pixels on their edges. By convention:

    - ``pysot`` (the region code of VOT's toolkits up to 2018, single precision): corners are counted from the corner
      of both regions' joint bounding box and halves are rounded up; a box is the polygon of its corners
      (x, y) .. (x + w, y + h), so that it is one pixel wider and higher than w, h; a line of a polygon that is just
      one corner has no pixel; 0 where the bounding boxes, to whole pixels, do not overlap.
    - ``vot-toolkit`` (the toolkit in Python): halves are rounded to even; a box starts at the rounded x, y and is the
      rounded w, h wide and high; lines of one pixel count.

    Args:
        a: T regions, or boxes [T, 4], or polygons [T, K, 2].
        b: the regions that they are paired with.
        bounds: what lies outside the image does not count.
        convention: see above.

    Returns:
        NaN where one of the two is None or NaN, 0 where neither has a pixel.
    """
    kinds_a, kinds_b = _kinds(a), _kinds(b)
    result = np.full(len(kinds_a), np.nan)
    known = (kinds_a != _NONE) & (kinds_b != _NONE)
    masked = known & ((kinds_a == _MASK) | (kinds_b == _MASK))
    boxes = known & (kinds_a == _BOX) & (kinds_b == _BOX)
    for where, function in ((boxes, _box_overlaps), (known & ~masked & ~boxes, _polygon_overlaps)):
        pairs = np.flatnonzero(where)
        if len(pairs):
            result[pairs] = function(_picked(a, pairs), _picked(b, pairs), bounds, convention)
    for index in np.flatnonzero(masked).tolist():
        result[index] = _mask_overlap(a[index], b[index], bounds, convention)
    return result


_NONE, _BOX, _POLYGON, _MASK = range(4)
_Shapes = list[NDArray[np.float64]] | NDArray[np.float64]


def _kinds(regions: Sequence[Region] | NDArray[np.float64]) -> NDArray[np.int8]:
    if isinstance(regions, np.ndarray):
        finite = np.isfinite(regions.reshape(len(regions), -1)).all(1)
        return np.where(finite, _BOX if regions.ndim == 2 else _POLYGON, _NONE).astype(np.int8)
    return np.array([_kind(region) for region in regions], np.int8)


def _kind(region: Region) -> int:
    if isinstance(region, Mask):
        return _MASK
    if region is None or not np.isfinite(region).all():
        return _NONE
    return _BOX if region.ndim == 1 else _POLYGON


def _picked(regions: Sequence[Region] | NDArray[np.float64], indices: NDArray[np.intp]) -> _Shapes:
    if isinstance(regions, np.ndarray):
        picked: NDArray[np.float64] = regions[indices]
        return picked
    return [np.asarray(regions[index], float) for index in indices]


def _box_overlaps(a: _Shapes, b: _Shapes, bounds: Bounds, convention: Convention) -> NDArray[np.float64]:
    """Return overlaps of boxes in closed form. Shapes: [N, 4] each; result [N]."""
    if convention == "pysot":
        corners_a, corners_b = (_box_corners(np.asarray(each, np.float32))[:, ::2] for each in (a, b))
        pixels_a, pixels_b, size, apart = _pysot_pixels(corners_a, corners_b, bounds)
        last = size - 1
        spans = [(np.sort(each, 1), each[:, 0] == each[:, 1]) for each in (pixels_a, pixels_b)]
        ends = [(each[:, 0], each[:, 1] - flat) for each, flat in spans]  # a box of one corner's width has no pixel
        (low_a, high_a), (low_b, high_b) = ((np.maximum(low, 0), np.minimum(high, last)) for low, high in ends)
    else:
        (low_a, high_a), (low_b, high_b) = (_toolkit_box(np.asarray(each, float)) for each in (a, b))
        if bounds is not None:
            last = np.array(bounds, int) - 1
            (low_a, high_a), (low_b, high_b) = (
                (np.maximum(low, 0), np.minimum(high, last)) for low, high in ((low_a, high_a), (low_b, high_b))
            )
        apart = np.zeros(len(low_a), bool)
    both = _area(np.maximum(low_a, low_b), np.minimum(high_a, high_b))
    return _ratio(both, _area(low_a, high_a) + _area(low_b, high_b) - both, apart, convention)


def _area(low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many pixels there are from first to last, both included. Shapes: [N, 2] each; result [N]."""
    area: NDArray[np.int64] = np.maximum(high - low + 1, 0).prod(1)
    return area


def _ratio(
    both: NDArray[np.int64], either: NDArray[np.int64], apart: NDArray[np.bool_], convention: Convention
) -> NDArray[np.float64]:
    """Return intersection over union, 0 where ``apart``."""
    number: type[np.floating] = np.float32 if convention == "pysot" else np.float64
    ratio = both.astype(number) / np.maximum(either, 1).astype(number)
    return np.where(apart, 0.0, ratio).astype(np.float64)


def _box_corners(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the corners of boxes, clockwise from the top left. Shapes: boxes [N, 4], result [N, 4, 2]."""
    x, y, w, h = boxes.T
    return np.stack([x, y, x + w, y, x + w, y + h, x, y + h], 1).reshape(-1, 4, 2)


def _pysot_pixels(
    a: NDArray[np.float32], b: NDArray[np.float32], bounds: Bounds
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return corners in pixels of the joint bounding box, its width and height, and where the two are apart.

    Shapes: a [N, K, 2], b [N, L, 2]; result the same, [N, 2] and [N].
    """
    low_a, low_b = np.floor(a.min(1)), np.floor(b.min(1))
    high_a, high_b = np.ceil(a.max(1)), np.ceil(b.max(1))
    if bounds is not None:
        limit = np.array(bounds, np.float32)
        low_a, low_b = np.maximum(low_a, 0), np.maximum(low_b, 0)
        high_a, high_b = np.minimum(high_a, limit), np.minimum(high_b, limit)
    apart = (np.maximum(low_a, low_b) >= np.minimum(high_a, high_b)).any(1)
    offset = np.minimum(low_a, low_b)
    size = np.maximum(np.maximum(high_a, high_b) - offset, 0).astype(np.int64) + 1
    return _rounded(a - offset[:, None]), _rounded(b - offset[:, None]), size, apart


def _rounded(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return whole numbers, halves away from 0."""
    exact = values.astype(np.float64)
    return np.trunc(exact + np.copysign(0.5, exact)).astype(np.int64)


def _toolkit_box(boxes: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and last pixel of boxes. Shapes: [N, 4]; result [N, 2] each."""
    low, size = np.rint(boxes[:, :2]).astype(np.int64), np.rint(boxes[:, 2:]).astype(np.int64)
    return low, low + size - 1


def _polygon_overlaps(a: _Shapes, b: _Shapes, bounds: Bounds, convention: Convention) -> NDArray[np.float64]:
    """Return overlaps of polygons [K, 2] and boxes [4], [N] of each; result [N]."""
    corners_a, is_box_a = _corners(a, convention)
    corners_b, is_box_b = _corners(b, convention)
    if convention == "pysot":
        pixels_a, pixels_b, size, apart = _pysot_pixels(
            corners_a.astype(np.float32), corners_b.astype(np.float32), bounds
        )
        first, last = np.zeros_like(size), size - 1
    else:
        pixels_a, pixels_b = (np.rint(corners).astype(np.int64) for corners in (corners_a, corners_b))
        first, last = np.minimum(pixels_a.min(1), pixels_b.min(1)), np.maximum(pixels_a.max(1), pixels_b.max(1))
        if bounds is not None:
            first, last = np.maximum(first, 0), np.minimum(last, np.array(bounds, int) - 1)
        apart = np.zeros(len(first), bool)
        # As the toolkit counts them, for a column at a whole number is a matter of rounding.
        pixels_a, pixels_b, last = pixels_a - first[:, None], pixels_b - first[:, None], last - first
        first = np.zeros_like(last)
    tops = np.maximum(first[:, 1], np.minimum(pixels_a[..., 1].min(1), pixels_b[..., 1].min(1)))
    ends = np.minimum(last[:, 1], np.maximum(pixels_a[..., 1].max(1), pixels_b[..., 1].max(1)))
    rows = np.where(apart, 0, np.maximum(ends - tops + 1, 0))
    both, either = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    (convex_a, sides_a), (convex_b, sides_b) = _sides(pixels_a), _sides(pixels_b)
    for pixels, is_box in ((pixels_a, is_box_a), (pixels_b, is_box_b)):
        convex_a &= ~is_box | (pixels[:, 0] <= pixels[:, 2]).all(1)  # a box without a pixel has its corners inside out
    convex = np.flatnonzero(convex_a & convex_b & (rows > 0))
    convex = convex[np.argsort(rows[convex])]
    for part in np.split(convex, np.flatnonzero(np.diff(np.cumsum(rows[convex]) // _CONVEX_ROWS_AT_ONCE)) + 1):
        if len(part):
            lines = tops[part], ends[part], last[part, 0]
            areas = [
                _convex_stretches(pixels[part], sides[part], *lines, convention)
                for pixels, sides in ((pixels_a, sides_a), (pixels_b, sides_b))
            ]
            (left_a, right_a), (left_b, right_b) = areas
            both[part] = _filled_pixels(np.maximum(left_a, left_b), np.minimum(right_a, right_b))
            either[part] = sum(_filled_pixels(*area) for area in areas) - both[part]
    rows[convex] = 0  # the others line by line
    chunks = np.flatnonzero(np.diff(np.cumsum(rows) // _ROWS_AT_ONCE)) + 1
    for part in np.split(np.arange(len(rows)), chunks):
        pair = np.repeat(part, rows[part])
        y = np.arange(len(pair)) - np.repeat(np.cumsum(rows[part]) - rows[part], rows[part]) + tops[pair]
        sides = []
        for pixels, is_box in ((pixels_a, is_box_a), (pixels_b, is_box_b)):
            left, right = _spans(pixels[pair], y, is_box[pair], convention)
            sides.append((np.maximum(left, first[pair, :1]), np.minimum(right, last[pair, :1])))
        (left_a, right_a), (left_b, right_b) = sides
        shared = np.zeros(len(pair), np.int64)
        for i in range(left_a.shape[1]):
            low, high = np.maximum(left_a[:, i : i + 1], left_b), np.minimum(right_a[:, i : i + 1], right_b)
            shared += np.maximum(high - low + 1, 0).sum(1)
        filled = sum(np.maximum(right - left + 1, 0).sum(1) for left, right in sides)
        both += np.bincount(pair, shared, len(rows)).astype(np.int64)
        either += np.bincount(pair, filled - shared, len(rows)).astype(np.int64)
    return _ratio(both, either, apart, convention)


def _sides(corners: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which polygons are convex, have 4 corners and at most two edges on the left and two on the right; and
    these edges.

    Shapes: corners [N, K, 2]; result [N], and [N, left or right, 2, x and y of the start, rise, run], where one edge is
    there twice if it is the only one of its side.
    """
    if corners.shape[1] != 4:
        return np.zeros(len(corners), bool), np.zeros((len(corners), 2, 2, 4))
    edges = np.roll(corners, -1, 1) - corners
    following = np.roll(edges, -1, 1)
    turns = np.sign(edges[..., 0] * following[..., 1] - edges[..., 1] * following[..., 0])
    usable = (turns == turns[:, :1]).all(1) & (turns[:, 0] != 0) & (np.abs(corners).max((1, 2)) < _CONVEX_UP_TO)
    back = np.roll(corners, 1, 1) - corners  # edges are followed as in _spans
    values = np.concatenate([corners, back[..., ::-1]], 2).astype(np.float64)
    sides = []
    for side in (1, -1):
        on = back[..., 1] * turns[:, :1] * side > 0
        count = on.sum(1)
        order = np.argsort(~on, 1, kind="stable")[:, :2]
        order[:, 1] = np.where(count == 1, order[:, 0], order[:, 1])
        sides.append(np.take_along_axis(values, order[..., None], 1))
        usable &= (count == 1) | (count == 2)
    return usable, np.stack(sides, 1)


def _convex_stretches(
    corners: NDArray[np.int64],
    sides: NDArray[np.float64],
    tops: NDArray[np.int64],
    ends: NDArray[np.int64],
    last: NDArray[np.int64],
    convention: Convention,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the first column of the pixels of convex polygons and the one after the last, in each line from ``tops``
    to ``ends``, between column 0 and ``last``; the second is not beyond the first where there are none.

    What :func:`_spans` says of convex polygons: the columns of the edges' lines that lie furthest inside.

    Shapes: corners [N, 4, 2], sides as by :func:`_sides`, others [N]; result [N, most lines] each.
    """
    steps = np.arange(int((ends - tops).max()) + 1, dtype=np.float64)

    def columns(edge: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y, rise, run = (edge[:, index : index + 1] for index in range(4))
        at = (tops[:, None] - y) + steps
        at /= rise
        at *= run
        at += x
        return at

    left, right = columns(sides[:, 0, 0]), columns(sides[:, 1, 0])
    np.maximum(left, columns(sides[:, 0, 1]), out=left)
    np.minimum(right, columns(sides[:, 1, 1]), out=right)
    np.trunc(left, out=left)
    np.trunc(right, out=right)
    right += left != right if convention == "pysot" else 1
    np.maximum(left, 0, out=left)
    np.minimum(right, last[:, None] + 1, out=right)
    begin = np.maximum(corners[..., 1].min(1) - tops, 0)[:, None]
    end = (np.minimum(corners[..., 1].max(1), ends) - tops)[:, None]
    np.copyto(right, 0, where=(steps < begin) | (steps > end))
    return left, right


def _filled_pixels(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of pixels in stretches [N, lines] from the first column to before another. Shape: [N]."""
    width = right - left
    np.maximum(width, 0, out=width)
    count: NDArray[np.int64] = width.sum(1).astype(np.int64)
    return count


def _corners(shapes: _Shapes, convention: Convention) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the corners [N, K, 2] of polygons and boxes, the last one repeated up to the most, and which are boxes.

    PySOT has no boxes, only the polygons of their corners.
    """
    if isinstance(shapes, np.ndarray) and shapes.ndim == 3:
        return shapes, np.zeros(len(shapes), bool)
    if isinstance(shapes, np.ndarray):
        shapes = [*shapes]
    is_box = np.array([shape.ndim == 1 for shape in shapes])
    corners = np.empty((len(shapes), max(4, *(len(shape) for shape in shapes)), 2))
    for index in np.flatnonzero(~is_box):
        corners[index, : len(shapes[index])] = shapes[index]
        corners[index, len(shapes[index]) :] = shapes[index][-1]
    if is_box.any():
        boxes = np.stack([shapes[index] for index in np.flatnonzero(is_box)])
        if convention == "pysot":
            four = _box_corners(boxes.astype(np.float32))
        else:
            low, high = _toolkit_box(boxes)
            four = _box_corners(np.concatenate([low, high - low], 1).astype(np.float32))
        corners[is_box, :4] = four
        corners[is_box, 4:] = four[:, -1:]
    return corners, is_box & (convention == "vot-toolkit")


def _spans(
    corners: NDArray[np.int64], y: NDArray[np.int64], is_box: NDArray[np.bool_], convention: Convention
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and last column of each stretch of a polygon's pixels in a line.

    Edges that reach the line cut it in columns (towards 0), of equal ones all but the last are skipped, and what lies
    between the first and second, third and fourth .. is filled, both included. By the VOT toolkit only, an edge in the
    line counts with its end, and a line with just one column is filled. Stretches do not overlap; where there are fewer
    than the most, the last is before the first. A box is filled from its first corner to its third.

    Shapes: corners [R, K, 2], y and is_box [R]; result [R, M] each.
    """
    x_from, y_from = corners[..., 0], corners[..., 1]
    x_to, y_to = np.roll(x_from, 1, 1), np.roll(y_from, 1, 1)
    line = y[:, None]
    rise = y_to - y_from
    crossed = (np.minimum(y_from, y_to) <= line) & (line <= np.maximum(y_from, y_to))
    if convention == "pysot":
        crossed &= rise != 0
    at = np.trunc(x_from + (line - y_from) / np.where(rise == 0, 1, rise) * (x_to - x_from)).astype(np.int64)
    beyond = np.iinfo(np.int64).max
    columns = np.sort(np.where(crossed, at, beyond), 1)  # [R, K], those that there are first
    count = crossed.sum(1)
    most = columns.shape[1] // 2
    left, right = np.full((len(y), most), _INSIDE_OUT[0]), np.full((len(y), most), _INSIDE_OUT[1])
    here, next_, number = np.ones(len(y), bool), np.zeros(len(y), bool), np.zeros(len(y), np.intp)
    for k in range(columns.shape[1] - 1):
        valid = here & (k + 1 < count)
        skipped = valid & (columns[:, k] == columns[:, k + 1])
        if convention == "vot-toolkit":
            skipped &= k + 2 < count
        rows = np.flatnonzero(valid & ~skipped)
        before = right[rows, np.maximum(number[rows] - 1, 0)]
        start = np.where(number[rows] > 0, np.maximum(columns[rows, k], before + 1), columns[rows, k])
        left[rows, number[rows]], right[rows, number[rows]] = start, columns[rows, k + 1]
        number[rows] += 1
        here, next_ = next_ | skipped, valid & ~skipped
    filled = (corners[:, 0, 1] <= y) & (y <= corners[:, 2, 1])
    left[is_box, 0] = np.where(filled, corners[:, 0, 0], _INSIDE_OUT[0])[is_box]
    right[is_box, 0] = np.where(filled, corners[:, 2, 0], _INSIDE_OUT[1])[is_box]
    left[is_box, 1:], right[is_box, 1:] = _INSIDE_OUT
    used = max(1, int(number.max(initial=0)))
    return left[:, :used], right[:, :used]


def _mask_overlap(a: Region, b: Region, bounds: Bounds, convention: Convention) -> float:
    low = np.floor(np.minimum(*(enclosing_box(region)[:2] for region in (a, b))))
    origin = np.maximum(low, -np.inf if bounds is None else 0)
    one, other = (_clipped(_filled(region, convention, origin), bounds) for region in (a, b))
    x, y = max(one.x, other.x), max(one.y, other.y)
    shared = one.pixels[max(y - one.y, 0) :, max(x - one.x, 0) :]
    also = other.pixels[max(y - other.y, 0) :, max(x - other.x, 0) :]
    h, w = np.minimum(shared.shape, also.shape)
    both = np.count_nonzero(shared[:h, :w] & also[:h, :w])
    either = np.count_nonzero(one.pixels) + np.count_nonzero(other.pixels) - both
    return both / either if either else 0.0


def _clipped(mask: Mask, bounds: Bounds) -> Mask:
    """Return what of a mask is inside the bounds."""
    if bounds is None:
        return mask
    left, top = max(-mask.x, 0), max(-mask.y, 0)
    width, height = (int(bound) for bound in bounds)
    inside = mask.pixels[top : max(height - mask.y, 0), left : max(width - mask.x, 0)]
    return Mask(mask.x + left, mask.y + top, inside)


def _filled(region: Region, convention: Convention, origin: NDArray[np.float64]) -> Mask:
    """Return the pixels of a box or polygon, whose corners are counted from ``origin`` [2], a whole pixel."""
    if isinstance(region, Mask):
        return region
    corners, is_box = _corners([np.asarray(region, float)], convention)
    if convention == "pysot":
        pixels = _rounded((corners - origin).astype(np.float32))
    else:
        pixels = (np.rint(corners) - origin).astype(np.int64)
    first, last = pixels[0].min(0), pixels[0].max(0)
    y = np.arange(first[1], last[1] + 1)
    left, right = _spans(np.broadcast_to(pixels, (len(y), *pixels.shape[1:])), y, np.repeat(is_box, len(y)), convention)
    columns = np.arange(first[0], last[0] + 1)
    stretches = (left[..., None] <= columns) & (columns <= right[..., None])  # [R, M, columns]
    inside: NDArray[np.bool_] = np.logical_or.reduce(stretches, axis=1)
    return Mask(int(origin[0] + first[0]), int(origin[1] + first[1]), inside)
