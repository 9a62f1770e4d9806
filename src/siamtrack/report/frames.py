"""What happened in a sequence: overlap over time, the worst moments, and pictures of them."""

from base64 import b64encode
from collections.abc import Sequence as Several
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes, iou
from siamtrack.errors import UserError
from siamtrack.evaluate.results import FAILED, SKIPPED, SequenceResult
from siamtrack.evaluate.sequences import Sequence
from siamtrack.regions import Mask, Region, enclosing_box

PICTURE_WIDTH = 360


@dataclass(frozen=True)
class Track:
    """What a tracker answered in each of T frames of a sequence, over its R starts or repetitions."""

    overlaps: NDArray[np.float64]
    """[R, T] overlap of the box with the truth's; NaN where it was not asked or there is no truth."""
    boxes: Boxes
    """[R, T, 4] in pixels, NaN where there is none."""
    polygons: NDArray[np.float64] | None
    """[R, T, 4, 2] in pixels, NaN where there is none; None from trackers of boxes."""
    failures: NDArray[np.int64]
    """Frames in which the protocol stopped it, once each."""

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean overlap over the starts, NaN where there is none. Shape: [T]."""
        known = np.isfinite(self.overlaps)
        count = known.sum(0)
        return np.where(count > 0, np.where(known, self.overlaps, 0).sum(0) / np.maximum(count, 1), np.nan)

    def worst(self, frame: int) -> int:
        """Return which start did worst in a frame; any if none has an overlap there."""
        return int(np.argmin(np.where(np.isfinite(self.overlaps[:, frame]), self.overlaps[:, frame], np.inf)))

    def outline(self, frame: int) -> NDArray[np.float64] | None:
        """Return the corners [K, 2] of the answer in a frame of the start that did worst, None if there is none."""
        start = self.worst(frame)
        if self.polygons is not None and np.isfinite(self.polygons[start, frame]).all():
            corners: NDArray[np.float64] = self.polygons[start, frame]
            return corners
        box = self.boxes[start, frame]
        return corners_of(box) if np.isfinite(box).all() else None


def track(sequence: Sequence, results: SequenceResult) -> Track:
    """Return what a tracker answered, frame by frame; what lies outside the sequence is dropped."""
    count = len(sequence)
    boxes = np.full((len(results), count, 4), np.nan)
    asked = np.zeros((len(results), count), bool)
    turned = any(result.polygons is not None for result in results)
    polygons = np.full((len(results), count, 4, 2), np.nan) if turned else None
    failures: set[int] = set()
    for row, result in enumerate(results):
        frames: NDArray[np.int64] = result.start + np.arange(len(result)) * (-1 if result.backward else 1)
        inside: NDArray[np.bool_] = (frames >= 0) & (frames < count)
        at = frames[inside]
        boxes[row, at] = result.boxes[inside]
        answered = np.all(np.isfinite(result.boxes), axis=1)
        asked[row, at] = ((result.codes != SKIPPED) | answered)[inside]
        if polygons is not None and result.polygons is not None:
            polygons[row, at] = result.polygons[inside]
        failures |= set(frames[inside & (result.codes == FAILED)].tolist())
    overlaps = np.where(asked & present(sequence), iou(boxes, sequence.boxes), np.nan)
    return Track(overlaps, boxes, polygons, np.array(sorted(failures), np.int64))


def present(sequence: Sequence) -> NDArray[np.bool_]:
    """Return in which frames there is an object to overlap with. Shape: [T]."""
    known: NDArray[np.bool_] = np.all(np.isfinite(sequence.boxes), axis=1) & np.all(sequence.boxes[:, 2:] > 0, axis=1)
    return known


def worst_moments(overlaps: NDArray[np.float64], count: int) -> list[int]:
    """Return frames in which trackers did worst, in order: of their mean and of each in turn, the first of equals.

    Moments lie at least a tenth of the sequence apart.

    Shapes: overlaps [N, T], NaN where there is none; at most ``count`` frames.
    """
    rows = [_mean(overlaps), *overlaps] if len(overlaps) > 1 else [*overlaps]
    left = np.any(np.isfinite(overlaps), axis=0)
    gap = max(1, overlaps.shape[1] // 10)
    chosen: list[int] = []
    while len(chosen) < count and left.any():
        row = rows[len(chosen) % len(rows)]
        usable = left & np.isfinite(row)
        if not usable.any():  # this tracker has no frame left, another has
            row, usable = rows[0], left
        frame = int(np.argmin(np.where(usable, row, np.inf)))
        chosen.append(frame)
        left[max(0, frame - gap) : frame + gap + 1] = False
    return sorted(chosen)


def _mean(overlaps: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(overlaps)
    means: NDArray[np.float64] = np.where(known, overlaps, 0).sum(0) / np.maximum(known.sum(0), 1)
    return means


@dataclass(frozen=True)
class Picture:
    """A part of a frame, small."""

    jpeg: str
    """Base64."""
    width: int
    height: int
    corner: NDArray[np.float64]
    """[2] x, y of its upper left corner in the frame, in pixels of the frame."""
    scale: float
    """Pixels of the picture a pixel of the frame."""

    def points(self, corners: NDArray[np.float64]) -> str:
        """Return corners [K, 2] in pixels of the frame as the points of an SVG polygon over the picture."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in (corners - self.corner) * self.scale)


def picture(sequence: Sequence, frame: int, shown: Several[NDArray[np.float64]]) -> Picture | None:
    """Return the part of a frame around outlines, None if its file cannot be read.

    It has the proportions of the frame and is at least a third as wide.

    Shapes: each outline [K, 2] in pixels of the frame.
    """
    try:
        image = sequence.frame(frame)
    except (UserError, OSError):
        return None
    height, width = image.shape[:2]
    full = np.array([width, height], float)
    points = np.clip(np.concatenate([*shown]), 0, full) if shown else np.array([[0, 0], full])
    low, high = points.min(0), points.max(0)
    share = float(np.clip(((high - low) * 1.5 / full).max(), 1 / 3, 1))
    size = np.maximum(np.round(full * share), 1)
    left, top = np.clip(np.round((low + high - size) / 2), 0, full - size).astype(int)
    part = image[top : top + int(size[1]), left : left + int(size[0])]
    scale = PICTURE_WIDTH / part.shape[1]
    small = cv2.resize(
        part,
        (PICTURE_WIDTH, max(1, round(part.shape[0] * scale))),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 72])
    corner = np.array([left, top], float)
    return Picture(b64encode(data.tobytes()).decode(), small.shape[1], small.shape[0], corner, scale)


def outlines_of(region: Region) -> list[NDArray[np.float64]]:
    """Return the outlines [K, 2] of a region, none where there is nothing; several where a mask is in pieces."""
    if isinstance(region, Mask):
        contours, _ = cv2.findContours(
            np.ascontiguousarray(region.pixels, np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1
        )
        return [np.asarray(each, float).reshape(-1, 2) + (region.x + 0.5, region.y + 0.5) for each in contours]
    if region is None or not np.isfinite(enclosing_box(region)).all():
        return []
    return [corners_of(region) if region.ndim == 1 else region]


def corners_of(box: Boxes) -> NDArray[np.float64]:
    """Return the corners [4, 2] of a box [4]."""
    x, y, w, h = box
    corners: NDArray[np.float64] = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
    return corners
