"""What the tracker needs from a network, whatever runs it."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from siamtrack.models.prediction import Prediction

# An array of the namespace that the network computes in: numpy's, or torch's on the network's device.
Array = Any
Patches = NDArray[np.uint8]


class Network(Protocol):
    """Pure functions. Patches are uint8 BGR in host memory; results live where the network runs."""

    runtime: str
    """What runs it, for people: onnx, openvino, torch and so on."""

    def template(self, patches: Patches) -> tuple[Array, ...]:
        """Return what describes the targets, to be handed to :meth:`search`.

        Shapes: patches [B, T, T, 3]; result: arrays with leading axis B.
        """
        ...

    def search(self, patches: Patches, features: tuple[Array, ...]) -> Prediction:
        """Return class logits, box offsets and what :meth:`draw` needs. Shapes: patches [B, S, S, 3]."""
        ...

    def draw(self, context: tuple[Array, ...], cell: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return mask logits of one cell of each target, in host memory.

        Shapes: context as in :class:`Prediction`; cell [B, 2] as row, column; result [B, 127, 127], which covers as
        many pixels of the search region about the cell.
        """
        ...
