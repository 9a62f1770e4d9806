"""The short-term rules: how candidates are ranked, and how a target follows the best (SiamRPN, section 4.3)."""

from functools import lru_cache

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from siamtrack.tracking.decode import Candidates
from siamtrack.tracking.network import Array


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
def cosine_window(cells: int, per_cell: int) -> NDArray[np.float64]:
    """Return a Hann window over the response, repeated for each anchor. Shape: [A m m]."""
    window = np.hanning(cells)
    return np.tile(np.outer(window, window).ravel(), per_cell)


def rank(scores: Array, penalty: Array, window: Array, influence: Array) -> Array:
    """Return penalty * score, mixed with the window. Shapes: scores, penalty [B, N]; window [N]; influence [B, 1]."""
    return penalty * scores * (1 - influence) + window * influence


def clip_box(
    center: NDArray[np.float64], size: NDArray[np.float64], smallest: NDArray[np.float64], frame: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return centres inside the frame and sizes between ``smallest`` and the frame's. Shapes: [B, 2] each."""
    return np.clip(center, 0, frame), np.clip(size, np.minimum(smallest, frame), frame)
