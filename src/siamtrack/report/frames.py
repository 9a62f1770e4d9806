"""What happened in a sequence: overlap over time, the worst moments, and pictures of them."""

from base64 import b64encode
from collections.abc import Sequence as Several
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes
from siamtrack.errors import UserError
from siamtrack.evaluate.answers import answer, frames_of, resized
from siamtrack.evaluate.protocols import PROTOCOLS
from siamtrack.evaluate.protocols.vos import object_in
from siamtrack.evaluate.results import FAILED, SKIPPED, Result, SequenceResult
from siamtrack.evaluate.sequences import Sequence
from siamtrack.regions import Mask, Region, enclosing_box
from siamtrack.video.image import read_labels

PICTURE_WIDTH = 360


@dataclass(frozen=True)
class Track:
    """What a tracker answered in each of T frames of a sequence, over its R starts or repetitions."""

    overlaps: NDArray[np.float64]
    """[R, T] the overlap that the protocol scores, 0 where it stopped the tracker; NaN where there is none."""
    results: SequenceResult
    """R results, none beyond the sequence."""
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

    def outlines(self, frame: int) -> list[NDArray[np.float64]]:
        """Return the outlines [K, 2] of the answer in a frame of the start that did worst, none if there is none."""
        result = self.results[self.worst(frame)]
        (places,) = np.nonzero(frames_of(result) == frame)
        return outlines_of(answer(result, int(places[0]))) if len(places) else []


def track(sequence: Sequence, results: SequenceResult, protocol: str = "one-pass") -> Track:
    """Return what a tracker answered, frame by frame; what lies outside the sequence is dropped.

    Raises:
        UserError: a label image cannot be read.
    """
    count = len(sequence)
    inside = tuple(resized(result, _frames_inside(result, count)) for result in results)
    overlaps = np.full((len(inside), count), np.nan)
    failures: set[int] = set()
    for row, result in enumerate(inside):
        frames = frames_of(result)
        answered = np.all(np.isfinite(result.boxes), axis=1)
        asked = ((result.codes != SKIPPED) | answered) & present(sequence)[frames]
        values = PROTOCOLS[protocol].overlap(sequence, result)
        values[result.codes == FAILED] = 0
        overlaps[row, frames] = np.where(asked, values, np.nan)
        failures |= set(frames[result.codes == FAILED].tolist())
    return Track(overlaps, inside, np.array(sorted(failures), np.int64))


def _frames_inside(result: Result, count: int) -> int:
    """Return how many frames of a result lie in a sequence of ``count``."""
    if result.start >= count:
        return 0
    return min(len(result), result.start + 1 if result.backward else count - result.start)


def truth_of(sequence: Sequence, frame: int) -> Region:
    """Return the truth in a frame: of its label image if there is one.

    Raises:
        UserError: the label image cannot be read.
    """
    path = sequence.masks and sequence.masks[frame]
    return Mask(0, 0, object_in(sequence, read_labels(path))) if path else sequence.truth(frame)


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
