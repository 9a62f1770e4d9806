"""The short-term tracker: one search region about the last position (SiamRPN, section 4.3; SiamRPN++, section 3)."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray
from pydantic import Field

from siamtrack.config import Config
from siamtrack.models.config import ModelConfig
from siamtrack.tracking.anchors import anchor_grid
from siamtrack.tracking.crop import Frame, Window, context_side, crop
from siamtrack.tracking.decode import Candidates, decode
from siamtrack.tracking.network import Array, Network
from siamtrack.tracking.state import TrackState


class TrackingConfig(Config):
    """Parameters of tracking: the keys of a preset's ``tracking`` section."""

    penalty_k: float = Field(0.05, ge=0)
    """Strength of the penalty on changes of size and ratio."""
    window_influence: float = Field(0.42, ge=0, le=1)
    """Share of the cosine window in the ranking of candidates: how much a jump is distrusted."""
    lr: float = Field(0.38, ge=0, le=1)
    """How fast the size follows the prediction; scaled by penalty and score."""
    smallest: float = Field(10, gt=0)
    """Pixels of the frame below which width and height do not shrink, unless the object began smaller."""


class Boxes(NamedTuple):
    """The step's answer for B targets."""

    boxes: NDArray[np.float64]
    """[B, 4] x, y, w, h in pixels of the frame."""
    scores: NDArray[np.float64]
    """[B] probability of foreground."""


class ShortTerm:
    """Tracking of any number of targets with one network. Holds no target: those live in :class:`TrackState`."""

    def __init__(self, network: Network, model: ModelConfig, config: TrackingConfig) -> None:
        self.network, self.model, self.config = network, model, config

    def init(self, frames: Sequence[Frame], boxes: NDArray[np.float64]) -> TrackState:
        """Return the state of targets that have just been shown.

        Shapes: frames B times [H, W, 3] uint8 BGR; boxes [B, 4] as x, y, w, h.
        """
        center, size = boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:].astype(float)
        fill = np.array([cv2.mean(frame)[:3] for frame in frames]).astype(np.uint8)
        patches, _ = crop(frames, center, context_side(size), self.model.template_size, fill)
        smallest = np.minimum(size, self.config.smallest)
        return TrackState(center, size, smallest, fill, self.network.template(patches))

    def step(self, frames: Sequence[Frame], state: TrackState) -> tuple[TrackState, Boxes]:
        """Find the targets in their next frames.

        Shapes: frames B times [H, W, 3] uint8 BGR.
        """
        model, config = self.model, self.config
        side = context_side(state.size) * model.search_size / model.template_size
        patches, window = crop(frames, state.center, side, model.search_size, state.fill)
        cls, loc = self.network.search(patches, state.features)
        xp, place = array_namespace(cls), device(cls)
        cells = cls.shape[-1]
        anchors = xp.asarray(_anchors(model, cells), device=place, dtype=cls.dtype)
        candidates = decode(cls, loc, anchors)

        scale = model.search_size / window.side  # pixels of the search region in a pixel of the frame
        seen = xp.asarray(state.size * scale[:, None], device=place, dtype=cls.dtype)
        penalty = change_penalty(candidates, seen, config.penalty_k)
        prior = xp.asarray(_cosine_window(cells, model.anchors.per_cell), device=place, dtype=cls.dtype)
        rank = penalty * candidates.scores * (1 - config.window_influence) + prior * config.window_influence
        best = xp.argmax(rank, axis=1)[:, None]  # [B, 1]
        chosen = xp.concat(
            [
                xp.take_along_axis(candidates.boxes, best[..., None], axis=1)[:, 0],
                xp.take_along_axis(candidates.scores, best, axis=1),
                xp.take_along_axis(penalty, best, axis=1),
            ],
            axis=1,
        )  # [B, 6]: cx, cy, w, h, score, penalty
        return self._update(frames, state, window, to_numpy(chosen))

    def _update(
        self, frames: Sequence[Frame], state: TrackState, window: Window, chosen: NDArray[np.float64]
    ) -> tuple[TrackState, Boxes]:
        """Move the targets to their best candidates. Shape: chosen [B, 6] as cx, cy, w, h, score, penalty."""
        model = self.model
        frame_size = np.array([(frame.shape[1], frame.shape[0]) for frame in frames], float)
        found = chosen[:, :4] * (window.side / model.search_size)[:, None]  # pixels of the frame
        scores = chosen[:, 4]
        lr = (scores * chosen[:, 5] * self.config.lr)[:, None]
        center = np.clip(window.center + found[:, :2], 0, frame_size)
        size = np.clip(state.size * (1 - lr) + found[:, 2:] * lr, np.minimum(state.smallest, frame_size), frame_size)
        moved = TrackState(center, size, state.smallest, state.fill, state.features)
        return moved, Boxes(np.concatenate([center - size / 2, size], axis=1), scores)


def change_penalty(candidates: Candidates, size: Array, strength: float) -> Array:
    """Return exp(-(r s - 1) k): r the change of ratio, s the change of size, k ``strength`` (SiamRPN, eq. 13).

    Shapes: size [B, 2], the last w, h in pixels of the search region; result [B, N], 1 for no change.
    """
    xp = array_namespace(size)
    w, h = candidates.boxes[..., 2], candidates.boxes[..., 3]
    last_w, last_h = size[:, :1], size[:, 1:]
    scale = _change(xp, _padded_side(xp, w, h) / _padded_side(xp, last_w, last_h))
    ratio = _change(xp, (last_w / last_h) / (w / h))
    return xp.exp((1 - scale * ratio) * strength)


def _padded_side(xp: Array, w: Array, h: Array) -> Array:
    padding = (w + h) / 2
    return xp.sqrt((w + padding) * (h + padding))


def _change(xp: Array, ratio: Array) -> Array:
    return xp.maximum(ratio, 1 / ratio)


@lru_cache(maxsize=8)
def _anchors(model: ModelConfig, cells: int) -> NDArray[np.float64]:
    return anchor_grid(model.anchors, cells)


@lru_cache(maxsize=8)
def _cosine_window(cells: int, per_cell: int) -> NDArray[np.float64]:
    """Return a Hann window over the response, repeated for each anchor. Shape: [A m m]."""
    window = np.hanning(cells)
    return np.tile(np.outer(window, window).ravel(), per_cell)


def to_numpy(values: Array) -> NDArray[np.float64]:
    """Return an array of any namespace and device as float64 in host memory."""
    host = values if isinstance(values, np.ndarray) else values.detach().cpu().numpy()
    return host.astype(np.float64)
