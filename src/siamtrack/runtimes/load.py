"""From a model's name or file to a network that runs."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.runtimes.graphs import GraphNetwork, stem_of
from siamtrack.tracking.config import tracking_config
from siamtrack.tracking.core import Core, TrackerCore
from siamtrack.tracking.network import Network

if TYPE_CHECKING:
    from siamtrack.models.siamese import SiameseRPN

Runtime = Literal["auto", "onnx", "openvino", "torch", "cuda-graph"]
CHECKPOINTS = (".pth", ".pt", ".model", ".ckpt", ".tar")
_FILES = (".safetensors", ".onnx", ".xml", ".torchscript", ".pte")


def load_network(
    model: str | Path = zoo.DEFAULT, device: str = "cpu", runtime: Runtime = "auto", threads: int | None = None
) -> tuple[Network, zoo.Preset]:
    """Return the network called ``model`` and its preset. The network's ``runtime`` says what runs it.

    Args:
        model: the name of a model of this package, or the path of a ``.safetensors`` file, of any file of an exported
            model (``.onnx``, ``.xml``, ``.torchscript``, ``.pte``), or of a PyTorch checkpoint of PySOT, SiamMask or
            DaSiamRPN, which is converted and kept in a cache.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        runtime: ``auto`` takes the fastest one that is installed for the file and the device: on a CPU OpenVINO, then
            ONNX Runtime, where there are ONNX files, and torch otherwise. docs/export.md has the measurements.
        threads: threads of the CPU; None for one a core.

    Raises:
        UserError: unknown model or runtime, unusable file, a device that is not there, a runtime that is not installed
            or does not run the file.
    """
    if runtime not in get_args(Runtime):
        raise UserError(f"unknown runtime {runtime!r}; expected one of {', '.join(get_args(Runtime))}")
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
        case "cuda-graph":
            raise UserError("--runtime cuda-graph runs a whole step, not a network by itself; take torch")
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
            return _load_torch(path, device, threads)


def load_core(
    model: str | Path = zoo.DEFAULT,
    device: str = "cpu",
    runtime: Runtime = "auto",
    threads: int | None = None,
    tracking: Mapping[str, Any] | None = None,
) -> tuple[Core, zoo.Preset]:
    """Return what follows targets with a network, and the network's preset.

    Args:
        model: see :func:`load_network`, as ``device`` and ``threads``.
        runtime: see :func:`load_network`, or ``cuda-graph``: the whole step on a GPU
            (:class:`siamtrack.runtimes.cuda_graph.DeviceCore`).
        tracking: values that take the place of the preset's parameters of tracking.

    Raises:
        UserError: see :func:`load_network`; a parameter of tracking is unknown or does not fit; or the graph does not
            know the trunk or a parameter of tracking.
    """
    if runtime != "cuda-graph":
        network, preset = load_network(model, device, runtime, threads)
        return TrackerCore(network, preset.model, tracking_config(preset, tracking)), preset
    path = _weight_file(str(model), prefer_onnx=False)
    module, preset = _weights(path, device)
    if torch_device(device) == "cpu":
        raise UserError("--runtime cuda-graph runs on a GPU; take --device cuda, or leave the runtime to 'auto'")
    from siamtrack.runtimes.cuda_graph import DeviceCore, device_network

    return DeviceCore(device_network(module, device), tracking_config(preset, tracking)), preset


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


def _load_torch(path: Path, device: str, threads: int | None) -> tuple[Network, zoo.Preset]:
    network, preset = _weights(path, device)
    import torch

    from siamtrack.runtimes.torch_runtime import TorchNetwork

    place = torch_device(device)
    if threads:
        torch.set_num_threads(threads)
    return TorchNetwork(network, place, tracking_config(preset).search_size), preset


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
