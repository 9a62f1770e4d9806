"""VOT's long-term evaluation: precision, recall and F over thresholds of confidence
(Lukežič et al., Now you see me, 2018; Kristan et al., ECCV workshops 2018, section 2.3). The figures are those of
PySOT's toolkit.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamtrack.evaluate.answers import Notes, matched, sized, started
from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.protocols.supervised import overlap
from siamtrack.evaluate.results import Run
from siamtrack.evaluate.scores import Curve, Scores
from siamtrack.evaluate.sequences import Sequence

RESOLUTION = 100
"""Number of thresholds."""


class Frames(NamedTuple):
    """What is measured in T frames of a sequence."""

    overlap: NDArray[np.float64]
    """[T] 0 where the object is not visible or was not found."""
    confidence: NDArray[np.float64]
    """[T] NaN in the frame of the start, which is in no set of answers."""
    visible: NDArray[np.bool_]
    """[T]"""


def score(dataset: Dataset, run: Run) -> Scores:
    """Return F, precision and recall, at the threshold of confidence that gives the highest F over the data set.

    precision: the mean overlap of the answers at least as confident as the threshold, 1 if there are none; an answer
    where the object is not visible has overlap 0. recall: the sum of their overlaps over the number of frames in which
    the object is visible. Both are averaged over sequences before F = 2PR/(P+R). Overlaps are
    :func:`~siamtrack.regions.overlaps` inside the image. Of several repetitions the frames are put together.

    Per sequence, attribute and label of frames: the same threshold.

    Raises:
        UserError: the run has no result of any sequence.
    """
    notes = Notes()
    frames: dict[str, Frames] = {}
    sequences: list[Sequence] = []
    labelled: dict[str, list[Frames]] = {}
    for sequence, results in matched(dataset, run, notes):
        sequence = sized(sequence)
        if sequence.size is None:
            notes.add("the size of the images is not known, what lies outside counts", sequence.name)
        together = Frames(
            np.nan_to_num(np.concatenate([overlap(sequence, result) for result in results])),
            np.concatenate([np.where(started(result), np.nan, result.scores) for result in results]),
            np.tile(np.isfinite(sequence.boxes).all(axis=1), len(results)),
        )
        if not np.isfinite(together.confidence).any():
            notes.add("no confidences, so no answer counts", sequence.name)
        frames[sequence.name] = together
        sequences.append(sequence)
        for label, flags in sequence.labels.items():
            chosen = np.tile(flags, len(results))
            if (chosen & together.visible).any():
                labelled.setdefault(label, []).append(_chosen(together, chosen))
    levels = thresholds(np.concatenate([each.confidence for each in frames.values()]))
    precision, recall = _mean_curves(list(frames.values()), levels)
    f = f_score(precision, recall)
    best = int(np.argmax(f))
    level = levels[best : best + 1]

    def figures(those: list[Frames]) -> dict[str, float]:
        p, r = _mean_curves(those, level)
        return {"f": float(f_score(p, r)[0]), "precision": float(p[0]), "recall": float(r[0])}

    names = sorted({name for sequence in sequences for name in sequence.attributes})
    attributes = {n: figures([frames[each.name] for each in sequences if n in each.attributes]) for n in names}
    attributes |= {label: figures(parts) for label, parts in labelled.items()}
    order, finite = np.argsort(recall, kind="stable"), np.flatnonzero(np.isfinite(levels))[::-1]
    finite = finite[np.argsort(levels[finite], kind="stable")]
    return Scores(
        figures(list(frames.values())),
        {name: figures([each]) for name, each in frames.items()},
        attributes,
        {
            "precision_recall": Curve(recall[order], precision[order], "recall", "precision"),
            "f": Curve(levels[finite], f[finite], "threshold of confidence", "F"),
        },
        notes.sentences(),
    )


def thresholds(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the thresholds: minus infinity, 98 of the confidences at even places from high to low, infinity.

    Shapes: [T]; result [100].
    """
    known = np.sort(confidence[np.isfinite(confidence)])[::-1]
    if not len(known):
        return np.array([-np.inf, np.inf])
    step = len(known) // (RESOLUTION - 2)
    places = np.round(np.linspace(step - 1, len(known) - step, RESOLUTION - 2)).astype(int)
    return np.concatenate([[-np.inf], known[np.clip(places, 0, len(known) - 1)], [np.inf]])


def curves(frames: Frames, levels: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return precision and recall at each threshold. Shapes: levels [K]; result [K] each."""
    known = np.isfinite(frames.confidence)
    order = np.argsort(frames.confidence[known], kind="stable")
    confidence, overlap = frames.confidence[known][order], frames.overlap[known][order]
    below = np.searchsorted(confidence, levels, "left")  # answers that are not confident enough
    count = len(confidence) - below
    total = overlap.sum() - np.concatenate([[0], np.cumsum(overlap)])[below]
    precision = np.where(count > 0, total / np.maximum(count, 1), 1.0)
    return precision, total / max(int(frames.visible.sum()), 1)


def f_score(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 2PR/(P+R), 0 where both are 0."""
    total = precision + recall
    f: NDArray[np.float64] = 2 * precision * recall / np.where(total > 0, total, 1)
    return f


def _chosen(frames: Frames, flags: NDArray[np.bool_]) -> Frames:
    return Frames(frames.overlap[flags], frames.confidence[flags], frames.visible[flags])


def _mean_curves(parts: list[Frames], levels: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    both = [curves(each, levels) for each in parts]
    return np.mean([precision for precision, _ in both], 0), np.mean([recall for _, recall in both], 0)
