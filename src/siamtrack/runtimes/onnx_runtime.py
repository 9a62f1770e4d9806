"""ONNX Runtime: the network without torch, on a CPU, or on an NVIDIA GPU where its providers are installed."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnxruntime

from siamtrack.errors import UserError
from siamtrack.runtimes.graphs import Graph, GraphNetwork

_CPU, _CUDA, _TENSORRT = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))


class OnnxNetwork(GraphNetwork):
    """A network in ONNX graphs, as written by :func:`siamtrack.runtimes.export.export`.

    Args:
        stem: path without ``.template.onnx`` and ``.search.onnx``.
        threads: number of threads; None for one a core.
        device: ``cpu``, ``cuda`` or ``cuda:N``. A GPU is driven by TensorRT where the package tensorrt is installed.

    Raises:
        UserError: see :class:`~siamtrack.runtimes.graphs.GraphNetwork`, or ONNX Runtime cannot use the device.
    """

    def __init__(self, stem: Path, threads: int | None = None, device: str = "cpu") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # errors only
        providers = _providers(device)
        wanted = providers[0][0]

        def open_graph(path: Path) -> Graph:
            session = onnxruntime.InferenceSession(path, options, providers=providers)
            if wanted not in session.get_providers():  # its libraries are missing; it would go on, on the CPU
                raise UserError(f"ONNX Runtime cannot start its {wanted} on {device}; install CUDA's libraries for it")
            names = [entry.name for entry in session.get_inputs()]
            return Graph(
                run=lambda values: session.run(None, dict(zip(names, values, strict=True))),
                inputs=len(names),
                outputs=len(session.get_outputs()),
                metadata=session.get_modelmeta().custom_metadata_map,
            )

        super().__init__({_CPU: "onnx", _CUDA: "onnx (CUDA)", _TENSORRT: "onnx (TensorRT)"}[wanted], stem, ".onnx",
                         open_graph)  # fmt: skip


def _providers(device: str) -> list[tuple[str, dict[str, Any]]]:
    """Return ONNX Runtime's providers for ``device``, the wanted one first.

    Raises:
        UserError: this ONNX Runtime has none for the device.
    """
    if device == "cpu":
        return [(_CPU, {})]
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number.isdecimal() or device == "cuda"):
        raise UserError(f"unknown device {device!r}; expected cpu, cuda or cuda:N")
    there = onnxruntime.get_available_providers()
    if _CUDA not in there:
        raise UserError(
            f"this ONNX Runtime cannot use {device}; pip install 'siamtrack[onnx-gpu]' in place of onnxruntime, or take "
            f"--device cpu, or --runtime torch with a .safetensors file"
        )
    gpu = {"device_id": number or "0"}
    # The provider is in every build for CUDA; the libraries that it needs come with the package.
    tensorrt = [(_TENSORRT, gpu)] if _TENSORRT in there and find_spec("tensorrt") else []
    return [*tensorrt, (_CUDA, {**gpu, "use_tf32": "0"}), (_CPU, {})]
