"""From a model's name or file to a network that runs."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.runtimes.onnx_runtime import OnnxNetwork
from siamtrack.tracking.network import Network

Runtime = Literal["auto", "onnx", "torch"]
CHECKPOINTS = (".pth", ".pt", ".model", ".ckpt", ".tar")


def load_network(
    model: str | Path = zoo.DEFAULT, device: str = "cpu", runtime: Runtime = "auto", threads: int | None = None
) -> tuple[Network, zoo.Preset]:
    """Return the network called ``model`` and its preset.

    Args:
        model: the name of a model of this package, or the path of a ``.safetensors`` file, of either file of a pair
            ``.template.onnx`` / ``.search.onnx``, or of a PyTorch checkpoint of PySOT, SiamMask or DaSiamRPN, which is
            converted and kept in a cache.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        runtime: ``auto`` takes ONNX Runtime on a CPU, where there are ONNX files, and torch otherwise.
        threads: threads of the CPU; None for one a core.

    Raises:
        UserError: unknown model, unusable file, a device that is not there, or torch is needed and missing.
    """
    if runtime not in get_args(Runtime):
        raise UserError(f"unknown runtime {runtime!r}; expected one of {', '.join(get_args(Runtime))}")
    if threads is not None and not 1 <= threads <= 1024:
        raise UserError(f"threads {threads}: expected 1 to 1024")
    path = _weight_file(str(model), prefer_onnx=device == "cpu" and runtime != "torch")
    if path.suffix == ".onnx":
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
    path = Path(model)
    if path.suffix in (".safetensors", ".onnx", *CHECKPOINTS):
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
    if not (find_spec("torch") and find_spec("safetensors")):
        raise UserError(f"{path.name} on {device} needs PyTorch; pip install 'siamtrack[torch]'")
    import torch

    from siamtrack.runtimes import checkpoints, torch_runtime

    place = torch_device(device)
    if threads:
        torch.set_num_threads(threads)
    network, preset = (checkpoints.load_checkpoint if path.suffix in CHECKPOINTS else torch_runtime.load)(path)
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
