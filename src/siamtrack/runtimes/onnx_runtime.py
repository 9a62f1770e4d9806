"""ONNX Runtime: the network without torch, on a CPU."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.models.prediction import Prediction
from siamtrack.tracking.network import Patches

Arrays = tuple[NDArray[np.float32], ...]


class OnnxNetwork:
    """A network in two ONNX graphs, as written by :func:`siamtrack.runtimes.export.export_onnx`.

    Args:
        stem: path without ``.template.onnx`` and ``.search.onnx``.
        threads: number of threads; None for one a core.

    Raises:
        UserError: a file is missing, is not ONNX, or was not written by siamtrack.
    """

    def __init__(self, stem: Path, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # errors only
        template, search = (stem.with_name(f"{stem.name}.{part}.onnx") for part in ("template", "search"))
        self._template, self._search = _session(template, options), _session(search, options)
        metadata = self._search.get_modelmeta().custom_metadata_map
        if "siamtrack" not in metadata:
            raise UserError(f"{search} was not exported by siamtrack: it does not say which model it is")
        self.preset = zoo.from_json(metadata["siamtrack"], search.name)
        kernels = [entry.name for entry in self._template.get_outputs()]
        self._inputs = [entry.name for entry in self._search.get_inputs()]
        if self._inputs != ["patch", *kernels] or metadata != self._template.get_modelmeta().custom_metadata_map:
            raise UserError(f"{template} and {search} do not belong together; export the model again")

    def template(self, patches: Patches) -> Arrays:
        """See :class:`~siamtrack.tracking.network.Network`. The graphs take one target, so targets run in turn."""
        return _stack([self._template.run(None, {"patch": patch[None]}) for patch in patches])

    def search(self, patches: Patches, features: Arrays) -> Prediction:
        """See :class:`~siamtrack.tracking.network.Network`. The graphs take one target, so targets run in turn."""
        outputs = []
        for index in range(len(patches)):
            one = slice(index, index + 1)
            values = [patches[one], *(feature[one] for feature in features)]
            outputs.append(self._search.run(None, dict(zip(self._inputs, values, strict=True))))
        cls, loc = _stack(outputs)
        return Prediction(cls, loc)

    def draw(self, context: Arrays, cell: NDArray[np.int64]) -> NDArray[np.float32]:
        """Raise, for masks are not exported."""
        raise UserError("masks need PyTorch: the ONNX graphs give boxes only; take the .safetensors file")


def _stack(outputs: list[list[NDArray[np.float32]]]) -> Arrays:
    """Join the outputs of single targets [1, ...] along the batch axis."""
    if len(outputs) == 1:
        return tuple(outputs[0])
    return tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True))


def _session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise UserError(f"there is no file {path}; a model is a pair of .template.onnx and .search.onnx")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base for its errors
        raise UserError(f"{path} is not a usable ONNX file ({type(error).__name__}); export it again") from None
