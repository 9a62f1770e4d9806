"""Trackers on sequences: one after the other as a user would, or all at once in lock-step batches."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes
from siamtrack.evaluate import sequences as seq
from siamtrack.tracking.core import TrackerCore
from siamtrack.tracking.state import TrackResult
from siamtrack.video.image import Image


class FollowsOne(Protocol):
    """What evaluation needs of a tracker: siamtrack's and OpenCV's have it."""

    def init(self, frame: Image, box: Boxes) -> None:
        """Start to follow the object in ``box`` [4]."""
        ...

    def update(self, frame: Image) -> TrackResult:
        """Return where the object is in the next frame."""
        ...


@dataclass(frozen=True)
class Run:
    """What a tracker did on one sequence of T frames."""

    boxes: Boxes
    """[T, 4] x, y, w, h in pixels; the first is the given one."""
    seconds: NDArray[np.float64]
    """[T] time of ``init`` or ``update``, without decoding."""


def run_one_pass(tracker: FollowsOne, sequence: seq.Sequence, on_frame: Callable[[], None] = lambda: None) -> Run:
    """Track ``sequence`` from its first box to its end.

    Raises:
        UserError: a frame cannot be read, or the tracker refuses it.
    """
    boxes, seconds = np.zeros((len(sequence), 4)), np.zeros(len(sequence))
    for index in range(len(sequence)):
        frame = sequence.frame(index)
        began = perf_counter()
        if index == 0:
            tracker.init(frame, sequence.boxes[0])
            boxes[0] = sequence.boxes[0]
        else:
            boxes[index] = tracker.update(frame).box
        seconds[index] = perf_counter() - began
        on_frame()
    return Run(boxes, seconds)


def decode_all(sequences: Sequence[seq.Sequence]) -> list[list[Image]]:
    """Return the frames of all sequences, decoded in threads."""
    with ThreadPoolExecutor() as pool:
        return [list(pool.map(sequence.frame, range(len(sequence)))) for sequence in sequences]


def run_in_step(core: TrackerCore, frames: Sequence[Sequence[Image]], first: Boxes) -> list[Boxes]:
    """Track all sequences together, frame by frame in one batch; far faster on a GPU.

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
