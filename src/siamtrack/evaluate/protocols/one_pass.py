"""One-pass evaluation: start in the first frame, never start again (OTB; Wu et al., PAMI 2015, section 5)."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes, centers, iou
from siamtrack.evaluate.answers import Notes, by_attribute, frames_of, matched, mean_of, started
from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.results import Result, Run
from siamtrack.evaluate.scores import Curve, Scores
from siamtrack.evaluate.sequences import Sequence

SUCCESS_THRESHOLDS = np.linspace(0, 1, 21)
PRECISION_THRESHOLDS = np.arange(51.0)
"""Pixels."""
NORM_THRESHOLDS = np.arange(51) / 100
"""Shares of the truth's width and height."""
PRECISION_AT = 20
"""Where both precision curves are read: at 20 pixels, and at .20."""

Counting = Literal["visible", "pysot"]
"""Which frames count: those with a truth, or all of them as in PySOT's toolkit (:func:`score`)."""


class Frames(NamedTuple):
    """What is measured in frames."""

    overlap: NDArray[np.float64]
    """[T]"""
    distance: NDArray[np.float64]
    """[T] pixels between the centres."""
    norm_distance: NDArray[np.float64]
    """[T] the same, as shares of the truth's width and height."""
    total: int
    """What sums over frames are divided by; T unless frames that do not count are divided by too."""


class Lines(NamedTuple):
    """The three curves of frames."""

    success: NDArray[np.float64]
    """[21] share of frames with an overlap above each of :data:`SUCCESS_THRESHOLDS`."""
    precision: NDArray[np.float64]
    """[51] share of frames with a distance of at most each of :data:`PRECISION_THRESHOLDS`."""
    norm_precision: NDArray[np.float64]
    """[51] the same for the distance in shares."""

    def figures(self) -> dict[str, float]:
        """Return the figures that are read from the curves."""
        return {
            "auc": float(self.success.mean()),
            "precision": float(self.precision[PRECISION_AT]),
            "norm_precision": float(self.norm_precision[PRECISION_AT]),
        }


def visible(truth: Boxes) -> NDArray[np.bool_]:
    """Return in which frames there is a box: finite and not empty. Shapes: [T, 4]; result [T]."""
    present: NDArray[np.bool_] = np.all(np.isfinite(truth), axis=1) & np.all(truth[:, 2:] > 0, axis=1)
    return present


def above(values: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many of T values are above each of K thresholds, which rise. Shapes: [T], [K]; result [K]."""
    places = np.bincount(np.searchsorted(thresholds, values, "left"), minlength=len(thresholds) + 1)
    count: NDArray[np.int64] = len(values) - np.cumsum(places)[: len(thresholds)]
    return count


def within(values: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many of T values, NaN not, are at most each of K thresholds, which rise. Shapes: as in above."""
    places = np.bincount(np.searchsorted(thresholds, values, "left"), minlength=len(thresholds) + 1)
    count: NDArray[np.int64] = np.cumsum(places)[: len(thresholds)]
    return count


def measure(predicted: Boxes, truth: Boxes, counts: NDArray[np.bool_] | None, counting: Counting) -> Frames:
    """Return what is measured in the frames that count. Shapes: [T, 4], [T, 4], [T]."""
    if counting == "visible":
        chosen = visible(truth) if counts is None else counts & visible(truth)
        predicted, truth = predicted[chosen], truth[chosen]
        apart = centers(predicted) - centers(truth)
        distance, norm_distance = _length(apart), _length(apart / truth[:, 2:])
        return Frames(_overlap(predicted, truth), distance, norm_distance, len(truth))
    total = len(truth)
    if counts is not None:
        predicted, truth = predicted[counts], truth[counts]
    overlap = np.where(visible(truth), _overlap(predicted, truth), -1)
    middle = truth[:, :2] + (truth[:, 2:] - 1) / 2
    apart = predicted[:, :2] + (predicted[:, 2:] - 1) / 2 - middle
    inside = (middle > 0).all(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = apart / truth[:, 2:]
    distance, norm_distance = (np.where(inside, _length(each), -1) for each in (apart, shares))
    return Frames(overlap, distance, norm_distance, total)


def overlap(sequence: Sequence, result: Result) -> NDArray[np.float64]:
    """Return the overlap in T frames of a result, NaN where there is no truth. Shape: [T]."""
    order = frames_of(result)
    truth = sequence.boxes[order]
    return np.where(visible(truth), _overlap(_boxes(result, sequence), truth), np.nan)


def _boxes(result: Result, sequence: Sequence) -> Boxes:
    """Return the boxes of the T frames of a result, the truth where it was started."""
    return np.where(started(result)[:, None], sequence.boxes[frames_of(result)], result.boxes)


def _overlap(predicted: Boxes, truth: Boxes) -> NDArray[np.float64]:
    """Return overlaps of at most 1, which rounding would exceed where the boxes are the same."""
    return np.minimum(iou(predicted, truth), 1)


def _length(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    length: NDArray[np.float64] = np.sqrt((vectors**2).sum(-1))
    return length


def lines(frames: Frames) -> Lines:
    """Return the curves of frames, of which there is at least one."""
    return Lines(
        above(frames.overlap, SUCCESS_THRESHOLDS) / frames.total,
        within(frames.distance, PRECISION_THRESHOLDS) / frames.total,
        within(frames.norm_distance, NORM_THRESHOLDS) / frames.total,
    )


def score_boxes(
    predicted: Boxes, truth: Boxes, counts: NDArray[np.bool_] | None = None, counting: Counting = "visible"
) -> dict[str, float]:
    """Return success AUC and precisions of a sequence. The first frame counts too, as in OTB's toolkit.

    auc: the share of frames whose overlap is above a threshold, averaged over 21 thresholds 0, .05 .. 1.
    precision: the share of frames whose centre is within 20 pixels of the truth.
    norm_precision: the share of frames whose centre is within .20 of the truth, x in widths and y in heights of it
    (Müller et al., TrackingNet, ECCV 2018, section 5).

    Args:
        predicted: [T, 4].
        truth: [T, 4].
        counts: [T] frames that count; None for all.
        counting: see :func:`score`.
    """
    return lines(measure(predicted, truth, counts, counting)).figures()


def score(dataset: Dataset, run: Run, counting: Counting = "visible") -> Scores:
    """Return success AUC and precisions, per sequence and as the mean over sequences.

    Attributes of sequences: the mean over the sequences that carry one. Labels of frames: over all frames of all
    sequences that carry one.

    Args:
        dataset: the truth.
        run: what a tracker did; of several repetitions the mean counts.
        counting: ``visible``: frames count in which there is a truth, and which the data set says count.
            ``pysot``: as PySOT's toolkit has it, all frames are divided by. Where the truth is empty the overlap is -1;
            where its centre is not right and below of the image's corner, the precisions count the frame as correct;
            frames that the data set says do not count (LaSOT) are in no numerator.

    Raises:
        UserError: the run has no result of any sequence.
    """
    notes = Notes()
    found: dict[str, Lines] = {}
    sequences: list[Sequence] = []
    labelled: dict[str, list[Frames]] = {}
    for sequence, results in matched(dataset, run, notes):
        measured = []
        for result in results:
            boxes = _boxes(result, sequence)
            measured.append(measure(boxes, sequence.boxes, sequence.counts, counting))
            for label, flags in sequence.labels.items():
                counts = flags if sequence.counts is None else flags & sequence.counts
                labelled.setdefault(label, []).append(measure(boxes, sequence.boxes, counts, "visible"))
        if not measured[0].total:
            notes.add("no frame counts, left out", sequence.name)
            continue
        if not (visible(sequence.boxes) & ~started(results[0])).any():
            notes.add("no truth but that of the start, left out", sequence.name)
            continue
        drawn = [lines(frames) for frames in measured]
        found[sequence.name] = Lines(*(np.mean(curves, 0) for curves in zip(*drawn, strict=True)))
        sequences.append(sequence)
    figures = {name: each.figures() for name, each in found.items()}
    if not figures:
        return Scores({}, {}, notes=notes.sentences())
    attributes = by_attribute(sequences, lambda those: mean_of([figures[sequence.name] for sequence in those]))
    for label, parts in labelled.items():
        overlap, distance, norm_distance = (np.concatenate(values) for values in list(zip(*parts, strict=True))[:3])
        if len(overlap):
            attributes[label] = lines(Frames(overlap, distance, norm_distance, len(overlap))).figures()
    mean = Lines(*(np.mean(curves, 0) for curves in zip(*found.values(), strict=True)))
    curves = {
        "success": Curve(SUCCESS_THRESHOLDS, mean.success, "overlap threshold", "success"),
        "precision": Curve(PRECISION_THRESHOLDS, mean.precision, "distance threshold, pixels", "precision"),
        "norm_precision": Curve(
            NORM_THRESHOLDS, mean.norm_precision, "distance threshold, shares of the object's size", "precision"
        ),
    }
    return Scores(mean.figures(), figures, attributes, curves, notes.sentences())
