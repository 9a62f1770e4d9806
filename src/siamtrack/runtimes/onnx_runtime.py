"""ONNX Runtime: the network without torch, on a CPU, or on an NVIDIA GPU where its providers are installed."""

import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnxruntime

from siamtrack.errors import UserError
from siamtrack.files import cache_folder
from siamtrack.runtimes.graphs import Graph, GraphNetwork

_CPU, _CUDA, _TENSORRT = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))
_NAMES = {_CPU: "onnx", _CUDA: "onnx (CUDA)", _TENSORRT: "onnx (TensorRT)"}


class OnnxNetwork(GraphNetwork):
    """A network in ONNX graphs, as written by :func:`siamtrack.runtimes.export.export`.

    Args:
        stem: path without ``.template.onnx`` and ``.search.onnx``.
        threads: number of threads; None for one a core.
        device: ``cpu``, ``cuda`` or ``cuda:N``. A GPU is driven by TensorRT where the package tensorrt is installed and
            its libraries can be loaded, else by CUDA's provider.

    Raises:
        UserError: see :class:`~siamtrack.runtimes.graphs.GraphNetwork`, or ONNX Runtime cannot use the device.
    """

    def __init__(self, stem: Path, threads: int | None = None, device: str = "cpu") -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # errors only
        providers = _providers(device)
        if device != "cpu":
            _load_libraries()

        def open_graph(path: Path) -> Graph:
            session = onnxruntime.InferenceSession(path, options, providers=providers)
            self.runtime = _NAMES[session.get_providers()[0]]
            if device != "cpu" and self.runtime == _NAMES[_CPU]:  # libraries are missing; it would go on, on the CPU
                raise UserError(
                    f"ONNX Runtime cannot start its {_CUDA} on {device}: {_needed()}; pip install "
                    f"'onnxruntime-gpu[cuda,cudnn]', or take --device cpu"
                )
            names = [entry.name for entry in session.get_inputs()]
            return Graph(
                run=lambda values: session.run(None, dict(zip(names, values, strict=True))),
                inputs=len(names),
                outputs=len(session.get_outputs()),
                metadata=session.get_modelmeta().custom_metadata_map,
            )

        super().__init__(_NAMES[_CPU], stem, ".onnx", open_graph)


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
            f"this ONNX Runtime cannot use {device}; pip install 'siamtrack[onnx-gpu]' in place of onnxruntime, or "
            f"take --device cpu, or --runtime torch with a .safetensors file"
        )
    gpu = {"device_id": number or "0"}
    # The provider is in every build for CUDA; the libraries that it needs come with the package.
    tensorrt = [(_TENSORRT, {**gpu, **_engines()})] if _TENSORRT in there and find_spec("tensorrt") else []
    return [*tensorrt, (_CUDA, {**gpu, "use_tf32": "0"}), (_CPU, {})]


def _load_libraries() -> None:
    """Load CUDA's and cuDNN's libraries from the packages of NVIDIA, where ONNX Runtime itself does not look."""
    if hasattr(onnxruntime, "preload_dlls"):  # since 1.21
        with redirect_stdout(sys.stderr):  # where it says what is missing
            onnxruntime.preload_dlls()


def _needed() -> str:
    """Return which CUDA this ONNX Runtime was built for."""
    version = getattr(onnxruntime, "cuda_version", "")
    return f"it needs the libraries of CUDA {version} and cuDNN 9" if version else "it needs CUDA's libraries"


def _engines() -> dict[str, str]:
    """Return the options with which TensorRT keeps what it compiles, which takes it minutes for each size of input."""
    folder = cache_folder() / "tensorrt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return {}
    return {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "True", "trt_timing_cache_path": str(folder)}  # fmt: skip
