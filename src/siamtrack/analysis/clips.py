"""What the figures are measured on: decoded sequences, tracking of all of them, and targets put off-centre."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes
from siamtrack.errors import UserError
from siamtrack.evaluate import sequences as seq
from siamtrack.evaluate.lockstep import decode_all, run_in_step
from siamtrack.evaluate.protocols.one_pass import score_boxes, visible
from siamtrack.evaluate.running import first_known
from siamtrack.models.config import ModelConfig
from siamtrack.tracking.core import Floats, Step, TrackerCore
from siamtrack.tracking.crop import context_side, crop
from siamtrack.tracking.network import Patches
from siamtrack.tracking.state import TrackState
from siamtrack.video.image import Image

OFFSET = 64.0
"""Pixels of the search region by which targets are put off-centre, at most, in x and in y."""
SAMPLES = 32
"""Frames of a sequence that are looked at singly, evenly spread."""
_MOST = 8 << 30  # bytes of decoded frames


@dataclass(frozen=True)
class Clip:
    """T frames [H, W, 3] of a sequence from its first box on, and its boxes [T, 4] as x, y, w, h (NaN: absent)."""

    name: str
    frames: list[Image]
    boxes: Boxes


def read_clips(sequences: Sequence[seq.Sequence]) -> list[Clip]:
    """Return ``sequences`` decoded.

    Raises:
        UserError: one has fewer than two frames with a box, a frame cannot be read, or they are too many to keep.
    """
    for sequence in sequences:
        if visible(sequence.boxes).sum() < 2:
            raise UserError(f"sequence {sequence.name} has fewer than two frames with a box; leave it out")
    needed = sum(len(sequence) * sequence.frame(0).nbytes for sequence in sequences)
    if needed > _MOST:
        raise UserError(
            f"the frames take {needed / 2**30:.0f} GiB decoded, and at most {_MOST >> 30} are kept; "
            "lower --frames or name fewer sequences with --sequence"
        )
    starts = [first_known(sequence) for sequence in sequences]
    return [
        Clip(sequence.name, frames[start:], sequence.boxes[start:])
        for sequence, frames, start in zip(sequences, decode_all(sequences), starts, strict=True)
    ]


def success(core: TrackerCore, clips: list[Clip]) -> float:
    """Return the mean success AUC over ``clips``, tracked in lock-step from their first boxes."""
    predicted = run_in_step(core, [clip.frames for clip in clips], np.stack([clip.boxes[0] for clip in clips]))
    return float(np.mean([score_boxes(b, clip.boxes)["auc"] for b, clip in zip(predicted, clips, strict=True)]))


def sampled_frames(clip: Clip) -> NDArray[np.intp]:
    """Return the numbers of at most :data:`SAMPLES` frames with a box, without the first."""
    later = np.flatnonzero(visible(clip.boxes))[1:]
    chosen: NDArray[np.intp] = later[np.unique(np.linspace(0, len(later) - 1, SAMPLES).round().astype(int))]
    return chosen


def template_patch(clip: Clip, model: ModelConfig) -> Patches:
    """Return the template of the target, from its first frame. Shape: [1, T, T, 3]."""
    box = clip.boxes[:1]
    return crop(clip.frames[:1], _middle(box), context_side(box[:, 2:]), model.template_size, _fill(clip, 1))


def search_patches(clip: Clip, model: ModelConfig, frames: NDArray[np.intp], targets: Floats) -> Patches:
    """Return search regions of the true size that have the target where it is wanted.

    Shapes: frames [K]; targets [K, 2], x, y of the target's middle from the region's, in pixels of the region; result
    [K, S, S, 3].
    """
    boxes, size = clip.boxes[frames], model.search_size
    pixel = context_side(boxes[:, 2:]) / model.template_size  # pixels of the frame in one of the region
    center = _middle(boxes) - targets * pixel[:, None]
    return crop([clip.frames[number] for number in frames], center, pixel * size, size, _fill(clip, len(frames)))


def _middle(boxes: Floats) -> Floats:
    middle: Floats = boxes[:, :2] + boxes[:, 2:] / 2
    return middle


def _fill(clip: Clip, count: int) -> NDArray[np.uint8]:
    """Return the mean colour of the first frame, with which trackers fill what is outside. Shape: [count, 3]."""
    return np.tile(np.array(cv2.mean(clip.frames[0])[:3]).astype(np.uint8), (count, 1))


class OffCentreCore(TrackerCore):
    """A tracker that looks beside the place where it believes its target to be.

    Each search region is moved by a shift, uniform within :data:`OFFSET` pixels of the region in x and y and drawn
    anew in each frame from a fixed seed: any two networks get the same shifts. Give it a configuration whose
    window_influence is 0: the cosine window would prefer the middle of the moved region, whatever the network says.
    """

    def init(self, frames: Sequence[Image], boxes: Floats) -> TrackState:
        """See :meth:`TrackerCore.init`; begins the shifts anew."""
        self._rng = np.random.default_rng(0)
        return super().init(frames, boxes)

    def step(self, frames: Sequence[Image], state: TrackState) -> tuple[TrackState, Step]:
        """See :meth:`TrackerCore.step`."""
        pixel = context_side(state.size) / self.model.template_size  # pixels of the frame in one of the region
        shift = self._rng.uniform(-OFFSET, OFFSET, state.center.shape) * pixel[:, None]
        return super().step(frames, replace(state, center=state.center + shift))
