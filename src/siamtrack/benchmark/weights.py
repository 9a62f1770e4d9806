"""Models by name, weights or no weights: how fast a network is does not hang on them."""

from pathlib import Path
from typing import TYPE_CHECKING

from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.runtimes.load import Runtime
from siamtrack.tracker import Tracker

if TYPE_CHECKING:
    from siamtrack.models.siamese import SiameseRPN


def open_tracker(model: str, runtime: Runtime, device: str, threads: int | None, folder: Path) -> tuple[Tracker, bool]:
    """Return a tracker with ``model``, and whether its weights were made up.

    Args:
        model: name or file, as :func:`siamtrack.runtimes.load.load_network` takes it; the presets whose weights are not
            in the package get random ones, exported where the runtime needs it.
        runtime: as ``load_network`` takes it, like device and threads.
        folder: for the files of made-up weights.

    Raises:
        UserError: see :func:`siamtrack.runtimes.load.load_network`.
    """
    made_up = model in zoo.names() and not zoo.weights(model, ".safetensors")
    file = _make_up(model, runtime, folder) if made_up else model
    return Tracker(file, device=device, runtime=runtime, threads=threads), made_up


def _make_up(model: str, runtime: Runtime, folder: Path) -> Path:
    """Return a file of random weights in the form that the runtime takes."""
    try:
        import torch

        from siamtrack.models.siamese import SiameseRPN
        from siamtrack.runtimes import torch_runtime
    except ImportError:
        raise UserError(
            f"the weights of {model} are not in the package, and random ones need PyTorch; "
            "pip install 'siamtrack[torch]', or give a file"
        ) from None
    preset = zoo.load(model)
    weights = folder / f"{model}.safetensors"
    if not weights.exists():
        torch.manual_seed(0)
        network = SiameseRPN(preset.model)
        _settle(network)
        torch_runtime.save(weights, network, preset)
    if runtime not in ("onnx", "openvino"):
        return weights
    graphs = folder / f"{model}.search.onnx"
    if not graphs.exists():
        from siamtrack.runtimes.export import export

        network, preset = torch_runtime.load(weights)
        export(network, preset, folder / model, "onnx")
    return graphs


def _settle(model: "SiameseRPN") -> None:
    """Let the batch norms of random weights see coarse noise, so that no number is too large for float16."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    coarse = torch.rand(2, 3, 16, 16) * 255
    z, x = (
        torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
        for side in (model.config.template_size, model.config.search_size)
    )
    with torch.no_grad():
        model.train().search(x, model.template(z))
    model.eval()
