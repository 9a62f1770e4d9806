"""What a tracker remembers of its targets, and what it says of them. Both are values: steps return new ones."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from siamtrack.tracking.network import Array


@dataclass(frozen=True)
class TrackState:
    """B targets. Coordinates are pixels of their frames, continuous, 0-based."""

    center: NDArray[np.float64]
    """[B, 2] x, y."""
    size: NDArray[np.float64]
    """[B, 2] w, h."""
    smallest: NDArray[np.float64]
    """[B, 2] w, h below which the box does not shrink."""
    fill: NDArray[np.uint8]
    """[B, 3] colour outside the frame: the mean of the first frame."""
    search_size: NDArray[np.int64]
    """[B] side of the search region while not lost, in pixels of the network's input."""
    lost: NDArray[np.int64]
    """[B] for how many frames the target has been lost; 0 for a target that is followed."""
    features: tuple[Array, ...]
    """What the network made of the templates, each with leading axis B."""
    memory: tuple[Array, ...] = ()
    """Sums over time of the distractor-aware tracker, each with leading axis B; empty without it."""

    def take(self, index: Sequence[int] | NDArray[np.intp]) -> Self:
        """Return the state of the chosen targets. Shape: index [K]; result with B = K."""
        chosen = np.asarray(index, np.intp)
        return replace(self, **{field.name: _take(getattr(self, field.name), chosen) for field in fields(self)})

    @classmethod
    def join(cls, states: Sequence["TrackState"]) -> "TrackState":
        """Return the targets of several states as one state."""
        return cls(**{field.name: _concat([getattr(state, field.name) for state in states]) for field in fields(cls)})


def _take(value: Any, index: NDArray[np.intp]) -> Any:
    if isinstance(value, tuple):
        return tuple(each[index] for each in value)
    return value[index]


def _concat(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], tuple):
        return tuple(array_namespace(*each).concat(list(each)) for each in zip(*parts, strict=True))
    return np.concatenate(parts)


@dataclass(frozen=True)
class TrackResult:
    """Where the object is in one frame."""

    box: NDArray[np.float64]
    """[4] x, y, w, h in pixels of the frame, 0-based."""
    score: float
    """Confidence, 0..1, that the box shows the object, before any penalty. 1 in the frame of the given box."""
    lost: bool = False
    """Whether the tracker thinks that it has lost the object; the box is then the last one it believed. Only
    long-term trackers ever say so."""
    mask: NDArray[np.bool_] | None = None
    """[H, W] the object's pixels in the frame; None from networks without masks, and for the given box."""
    polygon: NDArray[np.float64] | None = None
    """[4, 2] corners x, y of the smallest rotated rectangle around the mask; the box's where the mask is too small."""
    frame: int | None = None
    """Number of the frame in its source, 0-based; None from :meth:`Tracker.update`."""
    time: float | None = None
    """Seconds since the source's start; None from :meth:`Tracker.update`."""
