"""Convolutions as oneDNN runs them fastest on a CPU: weights packed once, activations fused, wide 3x3 ones by Winograd.

PyTorch packs the weights of a convolution anew in every call. The operators here, which ``torch.compile`` uses too,
take weights that were packed before; where this torch does not have them, :func:`pack` changes nothing.
"""

from itertools import pairwise
from typing import TypeGuard

import torch
from torch import Tensor, nn

from siamtrack.models.backbones.timm import TimmBackbone
from siamtrack.models.siamese import SiameseRPN

_WIDE = 384  # channels from which Winograd's fewer products outweigh its additions (benchmarks/winograd.py)
_BAND = 1024  # tiles that are transformed together, so that they stay in the cache
_OPERATORS = ("_reorder_convolution_weight", "_convolution_pointwise", "_reorder_linear_weight", "_linear_pointwise")
Activation = tuple[str, list[float]]  # what oneDNN calls it, and its limits
_NONE: Activation = ("none", [])
_ACTIVATIONS: dict[type[nn.Module], Activation] = {nn.ReLU: ("relu", []), nn.ReLU6: ("hardtanh", [0.0, 6.0])}

# F(2x2, 3x3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), section 4.1.
_FILTER = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], dtype=torch.float64)


def pack(model: SiameseRPN) -> SiameseRPN:
    """Replace the convolutions of a network on the CPU, in place, and return it; for inference only.

    Results differ from the network's own in the last digits. The modules of a timm trunk are packed without their
    activations, for their order is not known.
    """
    if not (torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS)):
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
    form = (layer.kernel_size, layer.stride, layer.groups)
    square = len({*layer.padding}) == len({*layer.dilation}) == 1
    return form == ((3, 3), (1, 1), 1) and square and min(layer.in_channels, layer.out_channels) >= _WIDE


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
    """A 3x3 convolution of stride 1 in 16 matrix products for each tile of 2x2 results, instead of 36.

    A dilation by d is d x d convolutions, each of every d-th pixel.
    """

    def __init__(self, layer: nn.Conv2d, activation: Activation) -> None:
        super().__init__()
        self._padding, self._dilation = int(layer.padding[0]), layer.dilation[0]
        self._bias = None if layer.bias is None else layer.bias.detach()
        self._activation, self._limits = activation
        weight = layer.weight.detach().double()
        matrices = torch.einsum("ua,ncab,vb->uvnc", _FILTER, weight, _FILTER).flatten(0, 1).float()  # [16, N, C]
        self._weights = [
            torch.ops.mkldnn._reorder_linear_weight(matrix.contiguous(), _BAND // 4) for matrix in matrices
        ]
        self._outputs = layer.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: x [B, C, H, W]; result [B, N, H', W'], H' = H + 2 padding - 2 dilation."""
        batch, channels, height, width = x.shape
        d, margin = self._dilation, 2 * self._padding - 2 * self._dilation
        rows, columns = -(-(height + margin) // (2 * d)), -(-(width + margin) // (2 * d))  # tiles of each of d x d
        padded = x.new_zeros(batch, 2 * d * (rows + 1), 2 * d * (columns + 1), channels)
        p = self._padding
        padded[:, p : p + height, p : p + width] = x.permute(0, 2, 3, 1)
        pixels = padded.view(batch, rows + 1, 2, d, columns + 1, 2, d, channels)  # a row is d (2 tile + i) + phase
        out = x.new_empty(batch, rows, 2, d, columns, 2, d, self._outputs)
        band = max(1, _BAND // (batch * d * columns * d))
        for first in range(0, rows, band):
            last = min(first + band, rows)
            self._tiles(pixels[:, first : last + 1], out[:, first:last])
        out = out.view(batch, 2 * d * rows, 2 * d * columns, self._outputs)
        result = out[:, : height + margin, : width + margin].permute(0, 3, 1, 2)
        if self._activation == "relu":
            return result.relu_()
        return result.clamp_(*self._limits) if self._limits else result

    def _tiles(self, pixels: Tensor, out: Tensor) -> None:
        """Compute rows of tiles. Shapes: pixels [B, R + 1, 2, d, T + 1, 2, d, C]; out [B, R, 2, d, T, 2, d, N]."""
        batch, rows, _, d, columns, _, _, outputs = out.shape
        channels = pixels.shape[-1]
        inputs = pixels.new_empty(16, batch, rows, d, columns, d, channels)
        line = [pixels[:, i // 2 : i // 2 + rows, i % 2] for i in range(4)]
        for i, row in enumerate((line[0] - line[2], line[1] + line[2], line[2] - line[1], line[1] - line[3])):
            cell = [row[:, :, :, j // 2 : j // 2 + columns, j % 2] for j in range(4)]
            torch.sub(cell[0], cell[2], out=inputs[4 * i])
            torch.add(cell[1], cell[2], out=inputs[4 * i + 1])
            torch.sub(cell[2], cell[1], out=inputs[4 * i + 2])
            torch.sub(cell[1], cell[3], out=inputs[4 * i + 3])
        inputs = inputs.view(16, -1, channels)
        # The bias added at place 5, where both transforms have ones only, reaches every result once.
        product = [
            torch.ops.mkldnn._linear_pointwise(each, weight, self._bias if i == 5 else None, "none", [], "")
            for i, (each, weight) in enumerate(zip(inputs, self._weights, strict=True))
        ]
        for i in range(2):
            cell = [
                (product[j].add(product[4 + j]).add_(product[8 + j]) if i == 0 else
                 product[4 + j].sub(product[8 + j]).sub_(product[12 + j])).view(batch, rows, d, columns, d, outputs)
                for j in range(4)
            ]  # fmt: skip
            torch.add(cell[0], cell[1], out=out[:, :, i, :, :, 0]).add_(cell[2])
            torch.sub(cell[1], cell[2], out=out[:, :, i, :, :, 1]).sub_(cell[3])
