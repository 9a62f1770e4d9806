"""From a model's name or file to a network that runs."""

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from siamtrack.errors import UserError, nearest
from siamtrack.models import zoo
from siamtrack.runtimes.graphs import GraphNetwork, stem_of
from siamtrack.tracking.config import tracking_config
from siamtrack.tracking.core import Core, Latency, TrackerCore
from siamtrack.tracking.network import Network

if TYPE_CHECKING:
    from siamtrack.models.siamese import SiameseRPN
    from siamtrack.runtimes.torch_runtime import TorchNetwork

Runtime = Literal["auto", "onnx", "openvino", "torch", "torch-compile", "cuda-graph", "cuda-graph-fp32"]
GRAPHS = ("cuda-graph", "cuda-graph-fp32")
"""Runtimes that take the whole step to a GPU, with a network in half and in single precision."""
CHECKPOINTS = (".pth", ".pt", ".model", ".ckpt", ".tar")
_FILES = (".safetensors", ".onnx", ".xml", ".torchscript", ".pte")

_log = logging.getLogger(__name__)


def load_network(
    model: str | Path = zoo.DEFAULT, device: str = "cpu", runtime: Runtime = "auto", threads: int | None = None
) -> tuple[Network, zoo.Preset]:
    """Return the network called ``model`` and its preset. The network's ``runtime`` says what runs it.

    Args:
        model: the name of a model of this package, or the path of a ``.safetensors`` file, of any file of an exported
            model (``.onnx``, ``.xml``, ``.torchscript``, ``.pte``), or of a PyTorch checkpoint of PySOT, SiamMask or
            DaSiamRPN, which is converted and kept in a cache.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        runtime: ``auto`` takes the fastest one that is installed for the file and the device and runs a network by
            itself: on a CPU OpenVINO, then ONNX Runtime, where there are ONNX files, and torch otherwise.
            docs/export.md has the measurements.
        threads: threads of the CPU; None for one a core.

    Raises:
        UserError: unknown model or runtime, unusable file, a device that is not there, a runtime that is not installed
            or does not run the file.
    """
    check_runtime(runtime)
    if threads is not None and not 1 <= threads <= 1024:
        raise UserError(f"threads {threads}: expected 1 to 1024")
    if runtime == "auto":
        path = _weight_file(str(model), prefer_onnx=device == "cpu")
        runtime = _fastest(path, device)
    else:
        path = _weight_file(str(model), prefer_onnx=runtime in ("onnx", "openvino"))
    if path.suffix in (".torchscript", ".pte"):
        return _with_preset(_load_torch_graphs(path, device, threads, runtime))
    match runtime:
        case "cuda-graph" | "cuda-graph-fp32":
            raise UserError(f"--runtime {runtime} runs a whole step, not a network by itself; take torch")
        case "onnx":
            if path.suffix != ".onnx":
                raise UserError(f"{path} holds no ONNX graphs; export it first, or leave the runtime to 'auto'")
            from siamtrack.runtimes.onnx_runtime import OnnxNetwork

            return _with_preset(OnnxNetwork(stem_of(path), threads, device))
        case "openvino":
            if path.suffix not in (".xml", ".onnx"):
                raise UserError(f"{path} is not for OpenVINO; export it to openvino or onnx first")
            if device != "cpu":
                raise UserError(
                    f"OpenVINO runs on the CPU here, not on {device}; take --runtime torch or onnx for a GPU"
                )
            from siamtrack.runtimes.openvino_runtime import OpenVinoNetwork

            return _with_preset(OpenVinoNetwork(stem_of(path), threads, path.suffix))
        case _:
            module, preset = _weights(path, device)
            return _torch_network(module, device, threads, tracking_config(preset).search_size, runtime), preset


def load_core(
    model: str | Path = zoo.DEFAULT,
    device: str = "cpu",
    runtime: Runtime = "auto",
    threads: int | None = None,
    tracking: Mapping[str, Any] | None = None,
    latency: Latency = "immediate",
) -> tuple[Core, zoo.Preset]:
    """Return what follows targets with a network, and the network's preset.

    Args:
        model: see :func:`load_network`, as ``device`` and ``threads``.
        runtime: see :func:`load_network`; or ``cuda-graph``, the whole step on a GPU
            (:class:`siamtrack.runtimes.cuda_graph.DeviceCore`) with a network in float16, or ``cuda-graph-fp32``, in
            float32. On a GPU ``auto`` takes ``cuda-graph`` for weights of torch; where that does not know the network
            or a parameter of tracking it takes ``torch``, and a warning of the logger ``siamtrack.runtimes.load``
            says why.
        tracking: values that take the place of the preset's parameters of tracking.
        latency: ``pipelined`` for answers a frame late, which only a GPU's graph gives.

    Raises:
        UserError: see :func:`load_network`; a parameter of tracking is unknown or does not fit; the graph does not
            know the network or a parameter of tracking; the runtime does not know the latency; or the memory of the GPU
            is too small.
    """
    check_runtime(runtime)
    if latency not in get_args(Latency):
        raise UserError(f"unknown latency {latency!r}; expected one of {', '.join(get_args(Latency))}")
    if runtime in GRAPHS and device == "cpu":
        raise UserError(f"--runtime {runtime} runs on a GPU; take --device cuda, or leave the runtime to 'auto'")
    try:
        core, preset = _load_core(model, device, runtime, threads, tracking, latency)
    except Exception as error:
        if isinstance(error, UserError) or not out_of_memory(error):
            raise
        raise UserError(
            f"the memory of {device} is too small for the network; stop what else uses this GPU, or take --device cpu"
        ) from None
    if latency == "pipelined" and core.runtime not in GRAPHS:
        raise UserError(
            f"latency 'pipelined' is for the runtimes {' and '.join(GRAPHS)} on a GPU, and this is {core.runtime} on "
            f"{device}; leave it out, or take --device cuda with weights of torch"
        )
    return core, preset


def _load_core(
    model: str | Path,
    device: str,
    runtime: Runtime,
    threads: int | None,
    tracking: Mapping[str, Any] | None,
    latency: Latency,
) -> tuple[Core, zoo.Preset]:
    graph = runtime in GRAPHS or (runtime == "auto" and device != "cpu")
    path = _weight_file(str(model), prefer_onnx=False) if graph else None
    if path is None or (runtime == "auto" and path.suffix not in (".safetensors", *CHECKPOINTS)):
        network, preset = load_network(model, device, runtime, threads)
        return TrackerCore(network, preset.model, tracking_config(preset, tracking)), preset
    module, preset = _weights(path, device)
    torch_device(device)
    config = tracking_config(preset, tracking)
    from siamtrack.runtimes.cuda_graph import DeviceCore, device_network

    try:
        precision: Literal["fp16", "fp32"] = "fp32" if runtime == "cuda-graph-fp32" else "fp16"
        return DeviceCore(device_network(module, device, precision), config, latency), preset
    except UserError as error:
        if runtime != "auto":
            raise
        _log.warning("runtime auto takes torch: %s", error)
    return TrackerCore(_torch_network(module, device, threads, config.search_size), preset.model, config), preset


def out_of_memory(error: Exception) -> bool:
    """Return whether an error of numpy, torch, ONNX Runtime or CUDA says that memory does not suffice."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(sign in str(error).lower() for sign in ("out of memory", "failed to allocate memory"))


def check_runtime(name: str) -> Runtime:
    """Return the runtime called ``name``.

    Raises:
        UserError: there is none.
    """
    known: tuple[Runtime, ...] = get_args(Runtime)
    for each in known:
        if each == name:
            return each
    raise UserError(f"unknown runtime {name!r}{nearest(name, known)}; expected one of {', '.join(known)}")


def load_module(model: str | Path) -> "tuple[SiameseRPN, zoo.Preset]":
    """Return the torch network called ``model``, as it was trained, and its preset; for export.

    Raises:
        UserError: unknown model, a file that holds no weights of torch, or torch is needed and missing.
    """
    return _weights(_weight_file(str(model), prefer_onnx=False), "cpu")


def _fastest(path: Path, device: str) -> Runtime:
    """Return the fastest installed runtime for a file."""
    if path.suffix == ".xml":
        return "openvino"
    if path.suffix == ".onnx":
        return "openvino" if device == "cpu" and find_spec("openvino") else "onnx"
    return "torch"


def _with_preset(network: GraphNetwork) -> tuple[Network, zoo.Preset]:
    return network, network.preset


def _weight_file(model: str, prefer_onnx: bool) -> Path:
    path = Path(model)
    if path.suffix in (*_FILES, *CHECKPOINTS):
        if not path.is_file():
            raise UserError(f"there is no file {model}")
        return path
    if path.suffix in (".yaml", ".yml"):
        raise UserError(f"{model} is a preset without weights; train it with 'siamtrack train {model}'")
    preset = zoo.load(model)
    for suffix in (".search.onnx", ".safetensors") if prefer_onnx else (".safetensors",):
        shipped = zoo.weights(preset.name, suffix)
        if shipped:
            return shipped
    raise UserError(
        f"the weights of {model} are not in the package; convert a published checkpoint with 'siamtrack convert', "
        f"or train it with 'siamtrack train {model}', and give the file"
    )


def _torch_network(
    module: "SiameseRPN", device: str, threads: int | None, search_size: int | None, runtime: Runtime = "torch"
) -> "TorchNetwork":
    import torch

    from siamtrack.runtimes.torch_runtime import TorchNetwork

    place = torch_device(device)
    if threads:
        torch.set_num_threads(threads)
    return TorchNetwork(module, place, search_size, compiled=runtime == "torch-compile")


def _weights(path: Path, device: str) -> "tuple[SiameseRPN, zoo.Preset]":
    if path.suffix not in (".safetensors", *CHECKPOINTS):
        raise UserError(f"{path} was exported, and torch cannot run it; give the .safetensors file that it comes from")
    _check_torch(path, device)
    from siamtrack.runtimes import checkpoints, torch_runtime

    return (checkpoints.load_checkpoint if path.suffix in CHECKPOINTS else torch_runtime.load)(path)


def _load_torch_graphs(path: Path, device: str, threads: int | None, runtime: Runtime) -> GraphNetwork:
    """Return the network in a file that the runtime of its own format runs."""
    if runtime != "torch":
        raise UserError(f"{path} does not run with {runtime}; leave the runtime to 'auto'")
    if path.suffix == ".pte" and device != "cpu":
        raise UserError(f"{path} runs on the CPU, not on {device}")
    _check_torch(path, device)
    import torch

    place = torch_device(device)
    if threads:
        torch.set_num_threads(threads)
    if path.suffix == ".pte":
        from siamtrack.runtimes.executorch_runtime import ExecuTorchNetwork

        return ExecuTorchNetwork(stem_of(path))
    from siamtrack.runtimes.torchscript_runtime import TorchScriptNetwork

    return TorchScriptNetwork(stem_of(path), place)


def _check_torch(path: Path, device: str) -> None:
    if not (find_spec("torch") and find_spec("safetensors")):
        raise UserError(f"{path.name} on {device} needs PyTorch; pip install 'siamtrack[torch]'")


def torch_device(device: str) -> str:
    """Return ``device`` if torch can compute there.

    Raises:
        UserError: it is not cpu, cuda or cuda:N, or this machine does not have it.
    """
    import torch

    try:
        place = torch.device(device)
    except RuntimeError:
        place = torch.device("meta")
    if place.type not in ("cpu", "cuda"):
        raise UserError(f"unknown device {device!r}; expected cpu, cuda or cuda:N")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {device}: torch sees {torch.cuda.device_count()} CUDA GPUs on this machine; use cpu")
    return device
