"""How a tracker is run over a sequence: a function a protocol."""

from collections.abc import Callable
from time import perf_counter

import numpy as np

from siamtrack.boxes import Boxes
from siamtrack.evaluate.follows import FollowsOne
from siamtrack.evaluate.results import STARTED, Result, SequenceResult
from siamtrack.evaluate.sequences import Sequence
from siamtrack.regions import Region, enclosing_box


def one_pass(tracker: FollowsOne, sequence: Sequence, on_frame: Callable[[], None] = lambda: None) -> SequenceResult:
    """Track ``sequence`` from its first box to its end.

    Raises:
        UserError: a frame cannot be read, or the tracker refuses it.
    """
    count = len(sequence)
    boxes, scores, seconds = np.zeros((count, 4)), np.ones(count), np.zeros(count)
    codes = np.zeros(count, np.int8)
    codes[0] = STARTED
    boxes[0] = sequence.boxes[0]
    for index in range(count):
        frame = sequence.frame(index)
        began = perf_counter()
        if index == 0:
            tracker.init(frame, start_box(sequence.truth(0)))
        else:
            found = tracker.update(frame)
            boxes[index], scores[index] = found.box, found.score
        seconds[index] = perf_counter() - began
        on_frame()
    return (Result(boxes, scores, seconds, codes),)


def start_box(region: Region) -> Boxes:
    """Return the box [4] that a tracker of boxes is started with, as PySOT does it.

    Of four corners: centred on their mean, as wide and high as the enclosing box scaled to the corners' own area, and
    a pixel more, for PySOT counts the pixels at both ends. Of anything else: the enclosing box.
    """
    if not isinstance(region, np.ndarray) or region.shape != (4, 2):
        return enclosing_box(region)
    extent = np.ptp(region, 0)
    area = np.linalg.norm(region[1] - region[0]) * np.linalg.norm(region[2] - region[1])
    size = np.sqrt(area / extent.prod()) * extent + 1
    return np.concatenate([region.mean(0) - (size - 1) / 2, size])
