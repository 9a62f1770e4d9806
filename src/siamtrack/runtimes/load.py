"""From a model's name or file to a network that runs."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.runtimes.onnx_runtime import OnnxNetwork
from siamtrack.tracking.network import Network

Runtime = Literal["auto", "onnx", "torch"]


def load_network(
    model: str | Path = zoo.DEFAULT,
    device: str = "cpu",
    runtime: Runtime = "auto",
    threads: int | None = None,
) -> tuple[Network, zoo.Preset]:
    """Return the network called ``model`` and its preset.

    Args:
        model: the name of a model of this package, or the path of a ``.safetensors`` file or of either file of
            a pair ``.template.onnx`` / ``.search.onnx``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        runtime: ``auto`` takes ONNX Runtime on a CPU, where there are ONNX files, and torch otherwise.
        threads: threads of the CPU; None for one a core.

    Raises:
        UserError: unknown model, unusable file, a device that is not there, or torch is needed and missing.
    """
    if runtime not in get_args(Runtime):
        raise UserError(f"unknown runtime {runtime!r}; expected one of {', '.join(get_args(Runtime))}")
    if threads is not None and threads < 1:
        raise UserError(f"threads {threads}: expected 1 or more")
    path = _weight_file(str(model), prefer_onnx=device == "cpu" and runtime != "torch")
    if path.name.endswith(".onnx"):
        if device != "cpu" or runtime == "torch":
            raise UserError(
                f"{path} runs with ONNX Runtime on the CPU; for {device} with torch give a .safetensors file"
            )
        stem = path.with_name(path.name.removesuffix(".onnx").removesuffix(".search").removesuffix(".template"))
        onnx = OnnxNetwork(stem, threads)
        return onnx, onnx.preset
    if runtime == "onnx":
        raise UserError(f"{path} holds no ONNX graphs; export it first, or leave the runtime to 'auto'")
    return _load_torch(path, device, threads)


def _weight_file(model: str, prefer_onnx: bool) -> Path:
    if model.endswith((".safetensors", ".onnx")):
        if not Path(model).is_file():
            raise UserError(f"there is no file {model}")
        return Path(model)
    if Path(model).suffix in (".pth", ".pt", ".ckpt", ".tar", ".pkl", ".bin"):
        raise UserError(f"{model} is not read, for such a file can hold code; give a .safetensors or .onnx file")
    preset = zoo.load(model)
    suffixes = (".search.onnx", ".safetensors") if prefer_onnx else (".safetensors",)
    for suffix in suffixes:
        path = zoo.weights(preset.name, suffix)
        if path:
            return path
    raise UserError(f"model {model} has no weights here; train it with 'siamtrack train {model}'")


def _load_torch(path: Path, device: str, threads: int | None) -> tuple[Network, zoo.Preset]:
    if not (find_spec("torch") and find_spec("safetensors")):
        raise UserError(f"{path.name} on {device} needs PyTorch; pip install 'siamtrack[torch]'")
    import torch

    from siamtrack.runtimes import torch_runtime

    place = torch_device(device)
    if threads:
        torch.set_num_threads(threads)
    network, preset = torch_runtime.load(path)
    return torch_runtime.TorchNetwork(network, place), preset


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
