"""GOT-10k: average overlap and success rates (Huang et al., PAMI 2019, section 3.3)."""

import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes, iou
from siamtrack.evaluate.answers import Notes, by_attribute, frames_of, matched, sized
from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.protocols.one_pass import above, visible
from siamtrack.evaluate.results import Result, Run
from siamtrack.evaluate.scores import Curve, Scores
from siamtrack.evaluate.sequences import Sequence

THRESHOLDS = np.linspace(0, 1, 101)


def score(dataset: Dataset, run: Run) -> Scores:
    """Return AO, SR.50 and SR.75, per sequence, over all frames, and as the mean over classes.

    ao: the mean overlap. sr50, sr75: the share of frames whose overlap is above .50 and .75. These are over all frames
    of all sequences together, as the ``got10k`` package has it. mao, msr50, msr75: the mean over classes of the mean
    over a class's sequences, as in the paper.

    Frames that the data set says do not count (cover 0) do not, nor does the first. Boxes are cut at the image before,
    as the package does it: one that begins left of or above the image is moved there and keeps its width and height.
    Of several repetitions all frames count.

    Raises:
        UserError: the run has no result of any sequence.
    """
    notes = Notes()
    overlaps: dict[str, NDArray[np.float64]] = {}
    sequences: list[Sequence] = []
    labelled: dict[str, list[NDArray[np.float64]]] = {}
    for sequence, results in matched(dataset, run, notes):
        chosen = visible(sequence.boxes) if sequence.counts is None else sequence.counts.copy()
        chosen[:1] = False
        sequence = sized(sequence)
        if sequence.size is None:
            notes.add("the size of the images is not known, boxes are not cut at their border", sequence.name)
        if not chosen.any():
            notes.add("no frame counts, left out", sequence.name)
            continue
        truth = _cut(sequence.boxes, sequence.size)
        each = np.stack([iou(_cut(result.boxes, sequence.size), truth) for result in results])  # [repetitions, T]
        overlaps[sequence.name] = each[:, chosen].ravel()
        sequences.append(sequence)
        for label, flags in sequence.labels.items():
            labelled.setdefault(label, []).append(each[:, chosen & flags].ravel())
    if not overlaps:
        return Scores({}, {}, notes=notes.sentences())
    figures = {name: _figures(values) for name, values in overlaps.items()}
    pooled = np.concatenate(list(overlaps.values()))
    classes: dict[str, list[dict[str, float]]] = {}
    for sequence in sequences:
        classes.setdefault(sequence.group, []).append(figures[sequence.name])
    mean = _figures(pooled)
    for key in tuple(mean):
        mean[f"m{key}"] = float(np.mean([np.mean([each[key] for each in those]) for those in classes.values()]))
    attributes = by_attribute(
        sequences, lambda those: _figures(np.concatenate([overlaps[sequence.name] for sequence in those]))
    )
    for label, parts in labelled.items():
        if sum(map(len, parts)):
            attributes[label] = _figures(np.concatenate(parts))
    success = above(pooled, THRESHOLDS) / len(pooled)
    curves = {"success": Curve(THRESHOLDS, success, "overlap threshold", "success")}
    return Scores(mean, figures, attributes, curves, notes.sentences())


def overlap(sequence: Sequence, result: Result) -> NDArray[np.float64]:
    """Return the overlap in T frames of a result, NaN where there is no truth. Shape: [T]."""
    truth = sequence.boxes[frames_of(result)]
    values = iou(_cut(result.boxes, sequence.size), _cut(truth, sequence.size))
    return np.where(visible(truth), values, np.nan)


def _figures(overlaps: NDArray[np.float64]) -> dict[str, float]:
    return {
        "ao": float(overlaps.mean()),
        "sr50": float((overlaps > 0.5).mean()),
        "sr75": float((overlaps > 0.75).mean()),
    }


def _cut(boxes: Boxes, size: tuple[int, int] | None) -> Boxes:
    if size is None:
        return boxes
    corner = np.clip(boxes[:, :2], 0, size)
    return np.concatenate([corner, np.clip(boxes[:, 2:], 0, np.array(size) - corner)], 1)
