"""The networks as they are rearranged for a GPU, here on the CPU, against the networks as they were trained."""

import pytest
import torch
from torch import Tensor, nn

from siamtrack.errors import UserError
from siamtrack.models.config import ModelConfig
from siamtrack.models.siamese import SiameseRPN
from siamtrack.runtimes.cuda_graph import device_network

NETWORKS = {
    "alexnet": {"backbone": {"name": "alexnet", "stages": [5], "width": 0.1},
                "head": {"kind": "depthwise", "widths": [25], "adjust": False}, "base_size": 0},
    "alexnet, up-channel": {"backbone": {"name": "alexnet", "stages": [5], "width": 0.125},
                            "head": {"kind": "upchannel", "widths": [32], "adjust": False}, "base_size": 0},
    "mobilenetv2": {"backbone": {"name": "mobilenetv2", "stages": [3, 5], "width": 0.5}, "head": {"widths": [12, 20]}},
    "resnet18": {"backbone": {"name": "resnet18", "stages": [2, 3]}, "head": {"widths": [12, 20]}},
    "resnet50": {"backbone": {"name": "resnet50", "stages": [2]}, "head": {"widths": [16]}},
}  # fmt: skip


def made_up(values) -> SiameseRPN:
    """Return a network in which no part could be left out without a trace."""
    torch.manual_seed(0)
    model = SiameseRPN(ModelConfig.model_validate(values)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    for name in ("cls_weight", "loc_weight"):
        if getattr(model.rpn, name, None) is not None:
            nn.init.normal_(getattr(model.rpn, name))
    return model.requires_grad_(False)


def filled(images: Tensor) -> Tensor:
    """Return [B, 3, S, S] with zeros up to 8 channels, channels-last."""
    return nn.functional.pad(images, (0, 0, 0, 0, 0, 5)).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("values", NETWORKS.values(), ids=NETWORKS)
@torch.inference_mode()
def test_responses_are_those_of_the_trained_network(values):
    model = made_up(values)
    network = device_network(model, "cpu", "fp32")
    z, x = (torch.randint(0, 255, (count, 3, side, side)).float() for count, side in ((3, 127), (2, 239)))
    rows = torch.tensor([2, 0])  # whose search regions they are
    response, _ = network.search(filled(x), network.template(filled(z)), rows)
    expected = model.search(x, model.template(z[rows]))
    cells = torch.cat([expected.cls, expected.loc], 1).flatten(2).transpose(1, 2)
    torch.testing.assert_close(response[..., : cells.shape[2]], cells, rtol=0, atol=2e-5 * float(cells.abs().max()))


def test_what_the_graph_does_not_know_is_refused():
    values = {**NETWORKS["alexnet"], "head": {"kind": "upchannel", "widths": [25], "adjust": False}}
    with pytest.raises(UserError, match="the features have 25 channels; the GPU's graph needs a multiple of 8"):
        device_network(made_up(values), "cpu", "fp32")
