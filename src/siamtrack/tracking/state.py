"""What a tracker remembers of its targets, and what it says of them. Both are values: steps return new ones."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
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
    features: tuple[Array, ...]
    """What the network made of the templates, each with leading axis B."""

    def take(self, index: NDArray[np.intp]) -> Self:
        """Return the state of the chosen targets. Shape: index [K]; result with B = K."""
        return replace(
            self,
            center=self.center[index],
            size=self.size[index],
            smallest=self.smallest[index],
            fill=self.fill[index],
            features=tuple(feature[index] for feature in self.features),
        )


@dataclass(frozen=True)
class TrackResult:
    """Where the object is in one frame."""

    box: NDArray[np.float64]
    """[4] x, y, w, h in pixels of the frame, 0-based."""
    score: float
    """Probability, 0..1, that the box shows the object, before any penalty. 1 in the frame of the given box."""
    frame: int | None = None
    """Number of the frame in its source, 0-based; None from :meth:`Tracker.update`."""
    time: float | None = None
    """Seconds since the source's start; None from :meth:`Tracker.update`."""
