"""Packed and Winograd's convolutions against torch's own."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from siamtrack.models.config import ModelConfig
from siamtrack.models.fold import fold_batch_norm
from siamtrack.models.siamese import SiameseRPN
from siamtrack.runtimes import onednn
from siamtrack.runtimes.torch_runtime import TorchNetwork

ALEXNET = {"backbone": {"name": "alexnet", "stages": [5]}, "head": {"widths": [256], "adjust": False}, "base_size": 0}
LITE = {"backbone": {"name": "mobilenetv2", "stages": [3, 5], "width": 0.5}, "head": {"widths": [16, 256]}}
BOTTLENECKS = {"backbone": {"name": "resnet50", "stages": [2]}, "head": {"widths": [16]}}
EFFICIENT = {"backbone": {"name": "efficientnet_lite0", "stages": [3]}, "head": {"widths": [16]}}
MASKED = {"backbone": {"name": "resnet18", "stages": [3]}, "head": {"widths": [256]}, "mask": True}


@pytest.mark.parametrize("taps", [3, 5])
def test_winograd_matrices_are_exact(taps):
    before, kernel, after = onednn._winograd(taps)
    rng = np.random.default_rng(0)
    pixels, weights = rng.normal(size=taps + 3), rng.normal(size=taps)
    expected = np.correlate(pixels, weights, "valid")
    assert after @ ((kernel @ weights) * (before @ pixels)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "padding", "dilation", "size"),
    [(256, 260, 3, 1, 1, (9, 14)), (256, 256, 3, 4, 4, (15, 11)), (256, 256, 3, 0, 1, (7, 7)),
     (96, 100, 5, 0, 1, (9, 8)), (96, 96, 5, 2, 2, (16, 13))],
)  # fmt: skip
def test_winograd_gives_the_convolution(inputs, outputs, kernel, padding, dilation, size):
    torch.manual_seed(0)
    layer = nn.Conv2d(inputs, outputs, kernel, 1, padding, dilation).requires_grad_(False)
    assert onednn._gains(layer, [1, inputs, 31, 31])
    x = torch.randn(2, inputs, *size).contiguous(memory_format=torch.channels_last)
    packed_for = [1, inputs, *size] if padding else [1, inputs, 15, 13]
    plain = layer(x)
    capped = ("hardtanh", [0.0, 0.5])
    for activation, expected in ((("none", []), plain), (("relu", []), plain.relu()), (capped, plain.clamp(0, 0.5))):
        found = onednn._Winograd(layer, activation, packed_for)(x)
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, expected, atol=3e-5, rtol=1e-4)


NETWORKS = {
    "alexnet": ALEXNET,
    "mobilenetv2": LITE,
    "efficientnet": EFFICIENT,
    "resnet50": BOTTLENECKS,
    "resnet18, masks": MASKED,
}


@pytest.mark.parametrize("values", NETWORKS.values(), ids=NETWORKS)
def test_packed_networks_give_what_the_trained_ones_give(values):
    """Template and search crops, of the size that was packed for and of another, one target and several."""
    torch.manual_seed(0)
    model = SiameseRPN(ModelConfig.model_validate(values)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    network = TorchNetwork(model)
    assert not any(isinstance(module, nn.Conv2d) for module in network.model.backbone.modules())
    rng = np.random.default_rng(0)

    def images(patches):
        return torch.from_numpy(patches).permute(0, 3, 1, 2).float()

    for count, side in ((1, 255), (2, 239)):
        z, x = (rng.integers(0, 255, (count, size, size, 3), np.uint8) for size in (127, side))
        with torch.no_grad():
            kernels = model.template(images(z))
            expected = [*kernels, *model.search(images(x), kernels)[:2]]
        found_kernels = network.template(z)
        prediction = network.search(x, found_kernels)
        for found, theirs in zip([*found_kernels, prediction.cls, prediction.loc], expected, strict=True):
            ours = torch.as_tensor(found)
            scale = float(theirs.abs().max())
            torch.testing.assert_close(ours, theirs, atol=2e-5 * scale, rtol=0)
    if model.mask:
        cell = np.array([[3, 4], [12, 12]])
        where = (torch.arange(2), *torch.from_numpy(cell).T)
        with torch.no_grad():
            masks = model.mask.draw(model.search(images(x), kernels).context, *where).numpy()
        assert network.draw(prediction.context, cell) == pytest.approx(masks, abs=1e-4 * float(np.abs(masks).max()))


def test_weights_are_laid_out_for_the_search_crops_of_the_preset():
    model = fold_batch_norm(SiameseRPN(ModelConfig.model_validate(ALEXNET)))
    layers = [onednn.pack(deepcopy(model), size).backbone.layer3[0] for size in (None, 287)]
    assert [layer._windows for layer in layers] == [(7, 7), (8, 8)]  # of 4 pixels, for results of 26 and 30 a side


def test_a_torch_without_the_operators_keeps_its_convolutions(monkeypatch):
    model = fold_batch_norm(SiameseRPN(ModelConfig.model_validate(LITE)))
    monkeypatch.setattr(onednn, "_OPERATORS", ("no_such_operator",))
    assert any(isinstance(module, nn.Conv2d) for module in onednn.pack(model).modules())


def test_the_network_that_was_given_stays_as_it_is():
    model = SiameseRPN(ModelConfig.model_validate(LITE))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    TorchNetwork(model)
    assert {*model.state_dict()} == {*before}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
