"""What a protocol makes of a run: figures, per sequence and attribute, and curves."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Curve:
    """A line of a plot."""

    x: NDArray[np.float64]
    """[K] rising."""
    y: NDArray[np.float64]
    """[K] the same unit as the figure it belongs to."""
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Scores:
    """How well a tracker did. Figures are shares between 0 and 1 unless their name says otherwise."""

    mean: Mapping[str, float]
    """Figure to value over the data set; the first figure is the one that trackers are ranked by."""
    sequences: Mapping[str, Mapping[str, float]]
    """Sequence to figure to value."""
    attributes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Attribute to figure to value, over the sequences or frames that carry it."""
    curves: Mapping[str, Curve] = field(default_factory=dict)
    """Name to curve over the data set."""
    notes: tuple[str, ...] = ()
    """Sentences on what did not count and why: missing sequences, padded or cut results."""


def lower_is_better(figure: str, protocol: str) -> bool:
    """Return whether a figure counts what went wrong.

    Robustness is failures in VOT's supervised protocol, and the share of frames tracked in its multi-start protocol.
    """
    words = set(figure.lower().replace("_", " ").replace(".", " ").split())
    return bool(words & {"failures", "lost", "decay", "ms"}) or (protocol == "supervised" and "robustness" in words)
