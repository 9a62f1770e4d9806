"""Convolutions as oneDNN runs them fastest on a CPU: weights packed once, activations fused, wide ones by Winograd.

PyTorch packs the weights of a convolution anew in every call. The operators here, which ``torch.compile`` uses too,
take weights that were packed before; where this torch does not have them, :func:`pack` changes nothing.
"""

import math
from itertools import pairwise
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from siamtrack.models.backbones.timm import TimmBackbone
from siamtrack.models.siamese import SiameseRPN

_RESULTS = 4  # of a window of Winograd's algorithm
_WIDE = {3: 256, 5: 96}  # channels from which it is the faster one, by size of the kernel (benchmarks/winograd.py)
_OPERATORS = ("_reorder_convolution_weight", "_convolution_pointwise")
Matrix = NDArray[np.float64]
Activation = tuple[str, list[float]]  # what oneDNN calls it, and its limits
_NONE: Activation = ("none", [])
_ACTIVATIONS: dict[type[nn.Module], Activation] = {nn.ReLU: ("relu", []), nn.ReLU6: ("hardtanh", [0.0, 6.0])}


def pack(model: SiameseRPN) -> SiameseRPN:
    """Replace the convolutions of a network on the CPU, in place, and return it; for inference only.

    Results differ from the network's own in the last digits. The modules of a timm trunk are packed without their
    activations, for their order is not known.
    """
    if not all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS):
        return model
    inputs = _input_shapes(model)
    activations = _take_activations(model)
    for path, module in list(model.named_modules()):
        for name, child in list(module.named_children()):
            if _is_plain(child):
                activation = activations.get(child, _NONE)
                shape = inputs.get(f"{path}.{name}" if path else name, [1, child.in_channels, 31, 31])
                packed = _Winograd(child, activation) if _gains(child) else _Packed(child, activation, shape)
                setattr(module, name, packed)
    return model


def _gains(layer: nn.Conv2d) -> bool:
    """Return whether Winograd computes the layer faster."""
    alike = all(len({*each}) == 1 for each in (layer.kernel_size, layer.padding, layer.dilation))
    wide = min(layer.in_channels, layer.out_channels) >= _WIDE.get(layer.kernel_size[0], math.inf)
    return alike and wide and layer.stride == (1, 1) and layer.groups == 1


@torch.inference_mode()
def _input_shapes(model: SiameseRPN) -> dict[str, list[int]]:
    """Return the shape of each convolution's input by its name: a search crop's, or a template's on that side only."""
    shapes: dict[str, list[int]] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, x, name=name: shapes.update({name: list(x[0].shape)}))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    z, x = (torch.zeros(1, 3, side, side) for side in (model.config.template_size, model.config.search_size))
    model.search(x, model.template(z))
    for hook in hooks:
        hook.remove()
    return shapes


def _is_plain(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Return whether a module is a float32 convolution that pads with zeros."""
    return (
        type(module) is nn.Conv2d
        and module.weight.dtype == torch.float32
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _take_activations(model: SiameseRPN) -> dict[nn.Module, Activation]:
    """Return the activations that follow convolutions, behind a pooling maybe (the order does not matter), removed."""
    foreign = set(model.backbone.modules()) if isinstance(model.backbone, TimmBackbone) else set()
    found: dict[nn.Module, Activation] = {}
    for layers in model.modules():
        if not isinstance(layers, nn.Sequential) or layers in foreign:
            continue
        steps = [step for step in layers.named_children() if not isinstance(step[1], nn.Identity | nn.MaxPool2d)]
        for (_, convolution), (name, activation) in pairwise(steps):
            if _is_plain(convolution) and type(activation) in _ACTIVATIONS:
                found[convolution] = _ACTIVATIONS[type(activation)]
                setattr(layers, name, nn.Identity())
    return found


class _Packed(nn.Module):
    """A convolution with packed weights and the activation that follows it."""

    def __init__(self, layer: nn.Conv2d, activation: Activation, shape: list[int]) -> None:
        super().__init__()
        self._form = (list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups)
        self._activation, self._limits = activation
        self._bias = None if layer.bias is None else layer.bias.detach()
        # Of the layout that oneDNN prefers for this size of input; it takes other sizes too, maybe more slowly.
        weight = layer.weight.detach().contiguous()
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self._form, shape)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: as the convolution's."""
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, self._bias, *self._form, self._activation, self._limits, ""
        )
        return result


class _Winograd(nn.Module):
    """A square convolution of stride 1, along its rows by Winograd's algorithm: r + 3 products for 4 results, not 4 r.

    Each window of r + 3 pixels of a row becomes as many others (``before``), each of which is convolved along the
    columns only; each r + 3 of the results become 4 (``after``). A dilation by d takes every d-th pixel of a row.
    """

    def __init__(self, layer: nn.Conv2d, activation: Activation) -> None:
        super().__init__()
        taps, self._padding, self._dilation = layer.kernel_size[0], int(layer.padding[0]), layer.dilation[0]
        self._activation, self._limits = activation
        self._bias = None if layer.bias is None else layer.bias.detach()
        before, weight, after = _winograd(taps)
        self._before, self._after = torch.from_numpy(before).float(), torch.from_numpy(after).float()
        self._places, self._outputs = len(before), layer.out_channels
        kernels = torch.einsum("kx,ncyx->kncy", torch.from_numpy(weight), layer.weight.detach().double())
        self._form = ([self._padding, 0], [1, 1], [self._dilation, 1], self._places)
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            kernels.flatten(0, 1)[..., None].float().contiguous(),  # [(r + 3) N, C, r, 1]
            *self._form,
            [1, self._places * layer.in_channels, 31, 8],
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: x [B, C, H, W]; result [B, N, H', W'] as the convolution's."""
        batch, channels, height, width = x.shape
        d, places = self._dilation, self._places
        wide = width + 2 * self._padding - (places - _RESULTS) * d  # W'
        windows = -(-wide // (_RESULTS * d))  # T, in each of the d sets of pixels
        line = d * (_RESULTS * (windows - 1) + places)
        padded = x.new_zeros(batch, height, line, channels)
        padded[:, :, self._padding : self._padding + width] = x.permute(0, 2, 3, 1)
        pixels = padded.as_strided(
            (batch, height, windows, d, places, channels),
            (height * line * channels, line * channels, _RESULTS * d * channels, channels, d * channels, 1),
        )
        inputs = torch.matmul(self._before, pixels).view(batch, height, windows * d, places * channels)
        products = torch.ops.mkldnn._convolution_pointwise(
            inputs.permute(0, 3, 1, 2), self._weight, None, *self._form, "none", [], ""
        )  # [B, (r + 3) N, H', T d]
        high = products.shape[2]
        products = products.permute(0, 2, 3, 1).reshape(batch, high, windows, d, places, self._outputs)
        rows = torch.matmul(self._after, products).transpose(3, 4)  # [B, H', T, 4, d, N]
        rows = rows.reshape(batch, high, windows * _RESULTS * d, self._outputs)[:, :, :wide]
        result = (rows.contiguous() if self._bias is None else rows + self._bias).permute(0, 3, 1, 2)
        if self._activation == "relu":
            return result.relu_()
        return result.clamp_(*self._limits) if self._limits else result


def _winograd(taps: int) -> tuple[Matrix, Matrix, Matrix]:
    """Return the matrices of 4 results of a correlation with r = ``taps`` taps: for pixels, kernel and products.

    With polynomials of the pixels' windows at r + 2 points and at infinity (Toom and Cook). Source: Lavin and Gray,
    "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), section 4.1.

    Shapes: [r + 3, r + 3], [r + 3, r], [4, r + 3].
    """
    points = np.array([0, 1, -1, 2, -2, 0.5, -0.5][: taps + 2])
    others = [np.delete(points, index) for index in range(len(points))]
    before = np.zeros((taps + 3, taps + 3))
    before[:-1, :-1] = [np.poly(each)[::-1] for each in others]
    before[-1] = np.poly(points)[::-1]
    scale = np.array([np.prod(point - each) for point, each in zip(points, others, strict=True)])
    kernel = np.vstack([points[:, None] ** np.arange(taps) / scale[:, None], np.eye(taps)[-1]])
    after = np.hstack([(points[:, None] ** np.arange(_RESULTS)).T, np.eye(_RESULTS)[:, -1:]])
    return before, kernel, after
