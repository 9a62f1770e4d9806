"""Tracking runs during training: on sequences, and on held-out tracks set in motion."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siamtrack.boxes import Boxes
from siamtrack.data.index import Index
from siamtrack.data.pictures import PictureReader
from siamtrack.evaluate.datasets import read_dataset
from siamtrack.evaluate.lockstep import decode_all, run_in_step
from siamtrack.evaluate.protocols.one_pass import score_boxes
from siamtrack.tracking.core import TrackerCore
from siamtrack.tracking.crop import context_side
from siamtrack.train.config import ValidationConfig
from siamtrack.video.image import Image

_SHORTEST = 8  # frames of a held-out track
_STEP = 0.15  # standard deviation of the motion between two frames, in context sides


@dataclass(frozen=True)
class Clip:
    """Decoded frames with the object's boxes. Shapes: T frames [H, W, 3], boxes [T, 4] x, y, w, h."""

    frames: list[Image]
    boxes: Boxes


def read_clips(config: ValidationConfig) -> list[Clip]:
    """Return the sequences that ``config`` names, decoded.

    Raises:
        UserError: the folder or a sequence is not as it should be.
    """
    if not config.sequences:
        return []
    sequences = read_dataset("folder", Path(config.sequences), config.names, config.frames).sequences
    return [Clip(frames, s.boxes) for frames, s in zip(decode_all(sequences), sequences, strict=True)]


def held_clips(index: Index, canvas: int, seed: int) -> list[Clip]:
    """Return the tracks of ``index`` as clips in which the object wanders.

    A picture of a track is a window about its object, so where the object was in its frame is not known: here the
    windows are laid so that the object does a random walk over a canvas of ``canvas`` pixels a side.
    """
    rng, reader = np.random.default_rng(seed), PictureReader(index.root)
    clips = []
    for track in np.unique(index.track[index.track >= 0]):
        objects = np.flatnonzero(index.track == track)
        if len(objects) < _SHORTEST:
            continue
        objects = objects[np.argsort(index.pictures.frame[index.picture[objects]])]
        clips.append(_wander(index, reader, canvas, objects, rng))
    return clips


def _wander(
    index: Index,
    reader: PictureReader,
    canvas: int,
    objects: np.ndarray[tuple[int], np.dtype[np.intp]],
    rng: np.random.Generator,
) -> Clip:
    middle = np.full(2, canvas / 2)
    frames: list[Image] = []
    boxes = []
    for number in objects:
        box = index.box[number].astype(float)
        image = reader.picture(index.pictures[int(index.picture[number])])
        height, width = image.shape[:2]
        step = rng.normal(0, _STEP, 2) * context_side(box[None, 2:])[0] if frames else 0
        middle = np.clip(middle + step, canvas * 0.25, canvas * 0.75)
        left, top = np.rint(middle - box[:2] - box[2:] / 2).astype(int)
        frame = np.empty((canvas, canvas, 3), np.uint8)
        frame[:] = np.floor(image.mean((0, 1)))
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, canvas), min(top + height, canvas)
        frame[y1:y2, x1:x2] = image[y1 - top : y2 - top, x1 - left : x2 - left]
        frames.append(frame)
        boxes.append(box + np.array([left, top, 0, 0]))
    return Clip(frames, np.array(boxes))


def validate(core: TrackerCore, clips: list[Clip]) -> dict[str, float]:
    """Return mean success AUC and precision at 20 pixels over ``clips``, tracked in lock-step."""
    predicted = run_in_step(core, [clip.frames for clip in clips], np.stack([clip.boxes[0] for clip in clips]))
    scores = [score_boxes(boxes, clip.boxes) for boxes, clip in zip(predicted, clips, strict=True)]
    return {key: float(np.mean([each[key] for each in scores])) for key in ("auc", "precision")}
