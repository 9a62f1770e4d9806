"""Networks to time where there are no weights: random ones whose boxes stay within reason."""

import numpy as np
import torch
from torch import nn

from siamtrack.models import zoo
from siamtrack.models.siamese import SiameseRPN
from siamtrack.runtimes import torch_runtime
from siamtrack.tracking.crop import context_side, crop


def network(name: str, device: str, frame: np.ndarray, box: np.ndarray) -> tuple[SiameseRPN, zoo.Preset]:
    """Return a shipped network, or one with random weights whose batch norms have seen a target.

    Args:
        name: preset.
        device: where the network is.
        frame: with the target. Shape: [H, W, 3], BGR.
        box: of the target. Shape: [4] as x, y, w, h in pixels.
    """
    shipped = zoo.weights(name, ".safetensors")
    if shipped:
        return torch_runtime.load(shipped)
    torch.manual_seed(0)
    preset = zoo.load(name)
    model = SiameseRPN(preset.model).to(device)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0

    def patch(size: int) -> torch.Tensor:
        side = context_side(box[None, 2:]) * size / preset.model.template_size
        pixels = crop([frame], box[None, :2] + box[None, 2:] / 2, side, size, np.zeros((1, 3), np.uint8))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().to(device)

    with torch.no_grad():
        model.train().search(patch(preset.model.search_size), model.template(patch(preset.model.template_size)))
    return model.eval(), preset
