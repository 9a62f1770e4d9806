"""The long-term rules: when a target counts as lost, and where it is then looked for (SiamRPN++, section 4.4)."""

import numpy as np
from numpy.typing import NDArray

from siamtrack.tracking.config import TrackingConfig


def search_sizes(state_size: NDArray[np.int64], lost: NDArray[np.int64], config: TrackingConfig) -> NDArray[np.int64]:
    """Return the side of each target's search region. Shapes: [B] each."""
    if not config.longterm:
        return state_size
    growing = np.array(config.longterm.search_sizes)
    return np.where(lost > 0, growing[np.clip(lost - 1, 0, len(growing) - 1)], state_size)


def window_influence(lost: NDArray[np.int64], config: TrackingConfig) -> NDArray[np.float64]:
    """Return each target's share of the cosine window. Shapes: [B] each."""
    if not config.longterm:
        return np.full(len(lost), config.window_influence)
    return np.where(lost > 0, config.longterm.window_influence, config.window_influence)


def believed(scores: NDArray[np.float64], config: TrackingConfig) -> NDArray[np.bool_]:
    """Return whose answer is believed: the others keep position and size. Shapes: [B] each."""
    return scores >= (config.longterm.low if config.longterm else 0.0)


def next_lost(scores: NDArray[np.float64], lost: NDArray[np.int64], config: TrackingConfig) -> NDArray[np.int64]:
    """Return for how many frames each target has now been lost.

    Below ``low`` (or without a finite score) it is lost, above ``high`` it is found; in between it stays what it was.
    Shapes: [B] each.
    """
    if not config.longterm:
        return lost
    goes_on = ~(scores >= config.longterm.low) | ((lost > 0) & (scores <= config.longterm.high))
    return np.where(goes_on, lost + 1, 0)
