"""What the tracker needs from a network, whatever runs it."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# An array of the namespace that the network computes in: numpy's, or torch's on the network's device.
Array = Any
Patches = NDArray[np.uint8]


class Network(Protocol):
    """Two pure functions. Patches are uint8 BGR in host memory; results live where the network runs."""

    def template(self, patches: Patches) -> tuple[Array, ...]:
        """Return what describes the targets, to be handed to :meth:`search`.

        Shapes: patches [B, T, T, 3]; result: arrays with leading axis B.
        """
        ...

    def search(self, patches: Patches, features: tuple[Array, ...]) -> tuple[Array, Array]:
        """Return class logits and box offsets.

        Shapes: patches [B, S, S, 3]; result: cls [B, 2 A, m, m], loc [B, 4 A, m, m].
        """
        ...
