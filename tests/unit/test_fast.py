"""The fast layers of training compute what the modules compute, and so do their gradients."""

import pytest
import torch
from torch.nn import functional

from siamtrack.models import fast, zoo
from siamtrack.models.siamese import SiameseRPN


def plain_depthwise(x, conv, weight, bias, relu_in, relu_out):
    """Return what the Triton kernel does, by torch."""
    y = functional.conv2d(
        functional.relu6(x) if relu_in else x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups
    )
    return functional.relu6(y) if relu_out else y


@pytest.mark.parametrize("trunk", ["efficientnet_lite0", "mobilenetv2", "resnet18"])
def test_fast_layers_equal_the_modules(trunk, monkeypatch):
    torch.manual_seed(0)
    stages = "[2, 3]" if trunk == "resnet18" else "[3, 4]"
    settings = [f"model.backbone={{name: {trunk}, stages: {stages}}}", "model.head.widths=[8, 8]"]
    model = SiameseRPN(zoo.load("siamrpnpp_lite", settings).model).double().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics, scales and shifts that do something
            torch.nn.init.normal_(module.running_mean, std=0.01)
            for values in (module.running_var, module.weight):
                torch.nn.init.uniform_(values, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
    model.requires_grad_(False)
    for stage in model.backbone.stages().values():
        stage.requires_grad_(True)
    model.rpn.requires_grad_(True).train()
    z, x = torch.rand(2, 3, 127, 127).double() * 255, torch.rand(2, 3, 127, 127).double() * 255

    def run():
        torch.manual_seed(1)
        model.zero_grad()
        found = model(z, x)
        (found.cls.square().sum() + found.loc.sum()).backward()
        return found, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    before = {name: value.clone() for name, value in model.named_buffers()}
    plain, gradients = run()
    model.load_state_dict(before, strict=False)
    monkeypatch.setattr(fast, "ready", lambda x: True)
    monkeypatch.setattr(fast, "residual_ready", lambda x, conv, norm: not norm.training)
    monkeypatch.setattr(fast, "depthwise", plain_depthwise)
    monkeypatch.setattr(fast, "_halved", lambda x: x)
    called = []
    monkeypatch.setattr(fast, "correlate", lambda search, kernel: called.append(1) or by_torch(search, kernel))
    quick, ours = run()
    assert called
    torch.testing.assert_close(quick.cls, plain.cls)
    torch.testing.assert_close(quick.loc, plain.loc)
    assert ours.keys() == gradients.keys()
    # What batch norm takes away again has no gradient but rounding.
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-6, atol=1e-10 * largest)


def by_torch(search, kernel):
    each = [functional.conv2d(s[None], k[:, None], groups=len(k)) for s, k in zip(search, kernel, strict=True)]
    return torch.cat(each)
