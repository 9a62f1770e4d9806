"""One-pass evaluation: start in the first frame, never start again (OTB; Wu et al., PAMI 2015, section 5)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes, centers, iou

SUCCESS_THRESHOLDS = np.linspace(0, 1, 21)
PRECISION_PIXELS = 20


@dataclass(frozen=True)
class Score:
    """How well one sequence was tracked."""

    auc: float
    """Success: the share of frames whose overlap is above a threshold, averaged over 21 thresholds 0, .05 .. 1."""
    precision: float
    """Share of frames whose centre is within 20 pixels of the truth."""
    frames: int
    """Frames that count: those with ground truth."""


def overlaps(predicted: Boxes, truth: Boxes) -> NDArray[np.float64]:
    """Return the overlap in each frame with ground truth. Shapes: [T, 4] each; result [V], V <= T."""
    present = visible(truth)
    return iou(predicted[present], truth[present])


def visible(truth: Boxes) -> NDArray[np.bool_]:
    """Return in which frames there is a box: finite and not empty. Shapes: [T, 4]; result [T]."""
    present: NDArray[np.bool_] = np.all(np.isfinite(truth), axis=1) & np.all(truth[:, 2:] > 0, axis=1)
    return present


def score(predicted: Boxes, truth: Boxes) -> Score:
    """Score a sequence. The first frame, whose box is given, counts, as in OTB's toolkit. Shapes: [T, 4] each."""
    present = visible(truth)
    overlap = overlaps(predicted, truth)
    auc = (overlap[:, None] > SUCCESS_THRESHOLDS).mean()
    distance = np.linalg.norm(centers(predicted[present]) - centers(truth[present]), axis=1)
    return Score(float(auc), float((distance <= PRECISION_PIXELS).mean()), int(present.sum()))
