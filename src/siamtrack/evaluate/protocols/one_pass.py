"""One-pass evaluation: start in the first frame, never start again (OTB; Wu et al., PAMI 2015, section 5)."""

import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes, centers, iou
from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.results import Run
from siamtrack.evaluate.scores import Scores

SUCCESS_THRESHOLDS = np.linspace(0, 1, 21)
PRECISION_PIXELS = 20


def visible(truth: Boxes) -> NDArray[np.bool_]:
    """Return in which frames there is a box: finite and not empty. Shapes: [T, 4]; result [T]."""
    present: NDArray[np.bool_] = np.all(np.isfinite(truth), axis=1) & np.all(truth[:, 2:] > 0, axis=1)
    return present


def score_boxes(predicted: Boxes, truth: Boxes) -> dict[str, float]:
    """Return success AUC and precision of a sequence. The first frame, whose box is given, counts, as in OTB's toolkit.

    auc: the share of frames whose overlap is above a threshold, averaged over 21 thresholds 0, .05 .. 1.
    precision: the share of frames whose centre is within 20 pixels of the truth.

    Shapes: [T, 4] each.
    """
    present = visible(truth)
    overlap = iou(predicted[present], truth[present])
    distance = np.linalg.norm(centers(predicted[present]) - centers(truth[present]), axis=1)
    return {
        "auc": float((overlap[:, None] > SUCCESS_THRESHOLDS).mean()),
        "precision": float((distance <= PRECISION_PIXELS).mean()),
    }


def score(dataset: Dataset, run: Run) -> Scores:
    """Return success AUC and precision, per sequence and as the mean over sequences."""
    sequences = {
        sequence.name: score_boxes(run.results[sequence.name][0].boxes, sequence.boxes)
        for sequence in dataset.sequences
        if sequence.name in run.results
    }
    mean = {key: float(np.mean([each[key] for each in sequences.values()])) for key in ("auc", "precision")}
    return Scores(mean, sequences)
