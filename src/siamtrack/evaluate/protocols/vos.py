"""Video object segmentation: region J, contour F (DAVIS: Perazzi et al., CVPR 2016, section 4; YouTube-VOS: Xu et al.,
2018).
"""

from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import UserError
from siamtrack.evaluate.answers import Notes, by_attribute, frames_of, matched, mean_of, started
from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.results import Result, Run
from siamtrack.evaluate.scores import Curve, Scores
from siamtrack.evaluate.sequences import Sequence
from siamtrack.regions import decode_mask
from siamtrack.video.image import read_labels

NEAR = 0.008
"""How far contours may be apart, as a share of the image's diagonal, rounded up to pixels."""
RECALL_AT = 0.5
QUARTERS = 4
_remembered = lru_cache(maxsize=100)(read_labels)  # several objects and trackers need the same


def score(dataset: Dataset, run: Run) -> Scores:
    """Return J, F and their mean, with recall and decay, per object and as the mean over objects.

    j: the overlap of masks, 1 where both are empty. f: the mean of contours (:func:`contour`). For both, the mean over
    frames; ``_recall``: the share of frames above .5; ``_decay``: the mean over the first quarter of frames less that
    over the last. Frames count that have a label image, without the frame of the start; of DAVIS (2016 and 2017) not
    the last either, as in its toolkit.

    Where objects are in the groups ``seen`` and ``unseen`` (YouTube-VOS), also g, the mean of j_seen, f_seen, j_unseen
    and f_unseen, comes first.

    Raises:
        UserError: the run has no result of any sequence, or a label image cannot be read.
    """
    notes = Notes()
    figures: dict[str, dict[str, float]] = {}
    sequences: list[Sequence] = []
    courses: list[NDArray[np.float64]] = []
    without_last = dataset.name.lower().startswith("davis")
    read = cache(read_labels)
    video = None
    for sequence, results in matched(dataset, run, notes):
        if sequence.video != video:
            read.cache_clear()
            video = sequence.video
        if sequence.masks is None:
            raise UserError(f"{dataset.name} has no masks, which protocol vos needs; choose another protocol")
        each = []
        for result in results:
            if result.masks is None:
                notes.add("no masks in the result, which count as empty", sequence.name)
            chosen = np.array([mask is not None for mask in sequence.masks], bool)
            if sequence.counts is not None:
                chosen &= sequence.counts
            begin = np.flatnonzero(started(result))
            chosen[: begin[0] + 1 if len(begin) else 1] = False
            if without_last:
                chosen[-1:] = False
            codes = result.masks or (None,) * len(sequence)
            pairs = ((codes[index], sequence.masks[index]) for index in np.flatnonzero(chosen).tolist())
            each.append(np.array([_compare(code, path, sequence, read) for code, path in pairs]).reshape(-1, 2))
        values = np.mean(each, 0)  # [frames that count, 2]
        if not len(values):
            notes.add("no label image counts, left out", sequence.name)
            continue
        figures[sequence.name] = _figures(values)
        sequences.append(sequence)
        places = np.linspace(0, 1, len(values))
        courses.append(np.interp(np.linspace(0, 1, 101), places, values.mean(1)))
    if not figures:
        return Scores({}, {}, notes=notes.sentences())
    mean = mean_of(list(figures.values()))
    groups = sorted({sequence.group for sequence in sequences})
    if set(groups) <= {"seen", "unseen"}:
        parts: dict[str, float] = {}
        for group in groups:
            those = mean_of([figures[sequence.name] for sequence in sequences if sequence.group == group])
            parts |= {f"j_{group}": those["j"], f"f_{group}": those["f"]}
        mean = {"g": float(np.mean(list(parts.values()))), **parts, **mean}
        if len(groups) < 2:
            notes.say(f"all objects are {groups[0]}, so g is the mean of two figures only")
    attributes = by_attribute(sequences, lambda those: mean_of([figures[sequence.name] for sequence in those]))
    course = Curve(np.linspace(0, 1, 101), np.mean(courses, 0), "share of the sequence", "J&F")
    return Scores(mean, figures, attributes, {"course": course}, notes.sentences())


def _compare(
    code: str | None, path: Path | None, sequence: Sequence, read: Callable[[Path | None], NDArray[np.uint8]]
) -> tuple[float, float]:
    """Return J and F of a mask as run-length code and an object in a label image."""
    found, truth = _masks(code, path, sequence, read)
    return region(found, truth), contour(found, truth)


def overlap(sequence: Sequence, result: Result) -> NDArray[np.float64]:
    """Return J in T frames of a result, NaN in those of a start and without a label image. Shape: [T].

    Raises:
        UserError: a label image cannot be read.
    """
    values = np.full(len(result), np.nan)
    codes = result.masks or (None,) * len(result)
    for index, frame in enumerate(frames_of(result).tolist()):
        path = sequence.masks and sequence.masks[frame]
        if path and not started(result)[index]:
            values[index] = region(*_masks(codes[index], path, sequence, _remembered))
    return values


def object_in(sequence: Sequence, labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the pixels of a sequence's object in a label image. Shapes: [H, W]."""
    return labels > 0 if sequence.object_number == 255 else labels == sequence.object_number


def _masks(
    code: str | None, path: Path | None, sequence: Sequence, read: Callable[[Path | None], NDArray[np.uint8]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the pixels of a mask as run-length code and of an object in a label image, [H, W] each."""
    truth = object_in(sequence, read(path))
    found = np.zeros(truth.shape, bool)
    if code is not None:
        x, y, pixels = decode_mask(code)
        left, top = max(-x, 0), max(-y, 0)
        inside = found[max(y, 0) : max(y + pixels.shape[0], 0), max(x, 0) : max(x + pixels.shape[1], 0)]
        inside |= pixels[top : top + inside.shape[0], left : left + inside.shape[1]]
    return found, truth


def region(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return J: pixels in both over pixels in either, 1 if there are none. Shapes: [H, W]."""
    either = np.count_nonzero(found | truth)
    return np.count_nonzero(found & truth) / either if either else 1.0


def contour(found: NDArray[np.bool_], truth: NDArray[np.bool_], near: float = NEAR) -> float:
    """Return F: the harmonic mean of precision and recall of contours.

    precision: the share of the found contour's pixels within a disk of the truth's contour; recall the other way
    round. The disk's radius is ``near`` of the image's diagonal, rounded up. One contour that is empty gives 0, both 1.

    Shapes: [H, W] each.
    """
    radius = int(np.ceil(near * np.linalg.norm(truth.shape)))
    edges = [edge(mask) for mask in (found, truth)]
    counts = [np.count_nonzero(each) for each in edges]
    if not all(counts):
        return float(not any(counts))
    window = _window(edges[0] | edges[1], radius)
    mine, theirs = (np.ascontiguousarray(each[window]).astype(np.uint8) for each in edges)
    steps = np.arange(-radius, radius + 1)
    disk = (steps**2 + steps[:, None] ** 2 <= radius**2).astype(np.uint8)
    precision = np.count_nonzero(mine & cv2.dilate(theirs, disk)) / counts[0]
    recall = np.count_nonzero(theirs & cv2.dilate(mine, disk)) / counts[1]
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels that differ from the one right of, below, or right below them. Shapes: [H, W]."""
    contour = np.zeros_like(mask)
    contour[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    contour[:-1] |= mask[:-1] ^ mask[1:]
    contour[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return contour


def _window(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        slice(max(rows[0] - margin, 0), rows[-1] + margin + 1),
        slice(max(columns[0] - margin, 0), columns[-1] + margin + 1),
    )


def _figures(values: NDArray[np.float64]) -> dict[str, float]:
    """Return the figures of J and F in T frames. Shape: [T, 2]."""
    mean, recall = values.mean(0), (values > RECALL_AT).mean(0)
    ends = np.round(np.linspace(1, len(values), QUARTERS + 1) + 1e-10).astype(int) - 1
    decay = values[ends[0] : ends[1] + 1].mean(0) - values[ends[-2] : ends[-1] + 1].mean(0)
    figures = {"j&f": float(mean.mean())}
    for index, name in enumerate("jf"):
        figures |= {
            name: float(mean[index]),
            f"{name}_recall": float(recall[index]),
            f"{name}_decay": float(decay[index]),
        }
    return figures
