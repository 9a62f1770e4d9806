"""All sequences at once, frame by frame in batches; far faster on a GPU."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from siamtrack.boxes import Boxes
from siamtrack.evaluate import sequences as seq
from siamtrack.tracking.core import TrackerCore
from siamtrack.video.image import Image


def decode_all(sequences: Sequence[seq.Sequence]) -> list[list[Image]]:
    """Return the frames of all sequences, decoded in threads."""
    with ThreadPoolExecutor() as pool:
        return [list(pool.map(sequence.frame, range(len(sequence)))) for sequence in sequences]


def run_in_step(core: TrackerCore, frames: Sequence[Sequence[Image]], first: Boxes) -> list[Boxes]:
    """Track all sequences together.

    Shapes: frames B lists of T_b times [H, W, 3]; first [B, 4]; result: B times [T_b, 4].
    """
    boxes = [np.zeros((len(each), 4)) for each in frames]
    for index, box in enumerate(first):
        boxes[index][0] = box
    alive = list(range(len(frames)))
    state = core.init([each[0] for each in frames], first)
    for number in range(1, max(len(each) for each in frames)):
        kept = np.flatnonzero([len(frames[index]) > number for index in alive])
        if len(kept) < len(alive):
            alive, state = [alive[index] for index in kept], state.take(kept)
        state, found = core.step([frames[index][number] for index in alive], state)
        for index, box in zip(alive, found.boxes, strict=True):
            boxes[index][number] = box
    return boxes
