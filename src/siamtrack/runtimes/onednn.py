"""Convolutions as oneDNN runs them fastest on a CPU: weights packed once, what follows fused, wide ones by Winograd.

PyTorch packs the weights of a convolution anew in every call. The operators here, which ``torch.compile`` uses too,
take weights that were packed before; where this torch does not have them, :func:`pack` changes nothing.
"""

import math
from itertools import pairwise
from typing import TypeGuard, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from siamtrack.models.backbones.efficientnet import Block
from siamtrack.models.backbones.mobilenet import InvertedResidual
from siamtrack.models.backbones.resnet import BasicBlock, Bottleneck, ResNet
from siamtrack.models.backbones.timm import TimmBackbone
from siamtrack.models.correlation import CorrelationBranch, depthwise_correlation
from siamtrack.models.siamese import SiameseRPN

_RESULTS = 4  # a side of a window of Winograd's algorithm
_POINTS = (0, 1, -1, 0.5, -2, 2, -0.5)  # of its polynomials, in an order that keeps rounding small
_WIDE = {3: 128, 5: 96}  # channels from which it is the faster one, by size of the kernel (benchmarks/winograd.py)
_FEWEST = 32  # windows for which it pays to transform them
_OPERATORS = ("_reorder_convolution_weight", "_convolution_pointwise")
Matrix = NDArray[np.float64]
Activation = tuple[str, list[float]]  # what oneDNN calls it, and its limits
_NONE: Activation = ("none", [])
_PLAIN = (*_NONE, "")  # nothing behind a convolution, as the operators take it
_ACTIVATIONS: dict[type[nn.Module], Activation] = {nn.ReLU: ("relu", []), nn.ReLU6: ("hardtanh", [0.0, 6.0])}


def pack(model: SiameseRPN, search_size: int | None = None) -> SiameseRPN:
    """Replace the convolutions of a network on the CPU, in place, and return it; for inference only.

    Layouts are those that are fastest for search crops of ``search_size`` pixels a side (by default the network's);
    crops of other sizes may take longer. Results differ from the network's own in the last digits. The modules of a
    timm trunk are packed without their activations, for their order is not known.
    """
    if not all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS):
        return model
    shapes = _input_shapes(model, search_size or model.config.search_size)
    for parent, name, child in _children(model):
        if (block := _residual(child, shapes)) is not None:
            setattr(parent, name, block)
        elif isinstance(child, CorrelationBranch):
            setattr(parent, name, _Branch(child))
        elif isinstance(child, nn.ConvTranspose2d):  # of the mask branch, whose input is a single cell
            setattr(parent, name, _Deconvolution(child))
    activations = _take_activations(model)
    for parent, name, child in _children(model):
        if _is_plain(child):
            setattr(parent, name, _packed(child, activations.get(child, _NONE), shapes))
    return model


def _children(model: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """Return all modules below ``model``, with their parents and their names there."""
    return [(module, *named) for module in model.modules() for named in module.named_children()]


def _packed(layer: nn.Conv2d, activation: Activation, shapes: dict[nn.Module, list[int]]) -> "_Packed | _Winograd":
    """Return the faster form of a convolution."""
    shape = shapes.get(layer, [1, layer.in_channels, 31, 31])
    return _Winograd(layer, activation, shape) if _gains(layer, shape) else _Packed(layer, activation, shape)


def _gains(layer: nn.Conv2d, shape: list[int]) -> bool:
    """Return whether Winograd computes the layer faster for inputs of this shape."""
    alike = all(len({*each}) == 1 for each in (layer.kernel_size, layer.padding, layer.dilation))
    wide = min(layer.in_channels, layer.out_channels) >= _WIDE.get(layer.kernel_size[0], math.inf)
    plain = alike and wide and layer.stride == (1, 1) and layer.groups == 1
    return plain and math.prod(_windows(layer, shape)) >= _FEWEST


def _windows(layer: nn.Conv2d, shape: list[int]) -> tuple[int, int]:
    """Return how many windows of Winograd's algorithm lie below and beside each other in the layer's result."""
    taps, padding, dilation = layer.kernel_size[0], int(layer.padding[0]), layer.dilation[0]
    high, wide = (size + 2 * padding - (taps - 1) * dilation for size in shape[2:])
    return -(-high // (_RESULTS * dilation)) * dilation, -(-wide // (_RESULTS * dilation)) * dilation


@torch.inference_mode()
def _input_shapes(model: SiameseRPN, search_size: int) -> dict[nn.Module, list[int]]:
    """Return the shape of each convolution's input: of a search crop's, or a template's on that side only."""
    shapes: dict[nn.Module, list[int]] = {}
    hooks = [
        module.register_forward_pre_hook(lambda layer, x: shapes.update({layer: list(x[0].shape)}))
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    z, x = (torch.zeros(1, 3, side, side) for side in (model.config.template_size, search_size))
    prediction = model.search(x, model.template(z))
    if model.mask:
        model.mask.draw(prediction.context, *torch.zeros(3, 1, dtype=torch.long))
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
    if isinstance(model.backbone, ResNet):
        found[model.backbone.conv1] = _ACTIVATIONS[nn.ReLU]
        model.backbone.add_module("relu", nn.Identity())
    for layers in model.modules():
        if not isinstance(layers, nn.Sequential) or layers in foreign:
            continue
        steps = [step for step in layers.named_children() if not isinstance(step[1], nn.Identity | nn.MaxPool2d)]
        for (_, convolution), (name, activation) in pairwise(steps):
            if _is_plain(convolution) and type(activation) in _ACTIVATIONS:
                found[convolution] = _ACTIVATIONS[type(activation)]
                setattr(layers, name, nn.Identity())
    return found


def _residual(block: nn.Module, shapes: dict[nn.Module, list[int]]) -> "_Residual | None":
    """Return a residual block of a trunk, packed; None for other modules."""
    shortcut: nn.Module = nn.Identity()
    if isinstance(block, BasicBlock | Bottleneck):
        layers = [child for child in block.children() if _is_plain(child)]
        activations = [_ACTIVATIONS[nn.ReLU]] * len(layers)
        if block.downsample is not None:
            shortcut = _packed(cast(nn.Conv2d, block.downsample[0]), _NONE, shapes)
    elif isinstance(block, InvertedResidual | Block) and block.residual:
        layers = [child for child in block.modules() if _is_plain(child)]
        activations = [_ACTIVATIONS[nn.ReLU6]] * (len(layers) - 1) + [_NONE]
    else:
        return None
    packed = [_packed(layer, each, shapes) for layer, each in zip(layers, activations, strict=True)]
    return _Residual(packed, shortcut)


class _Residual(nn.Module):
    """A residual block whose last convolution adds the shortcut before its activation."""

    def __init__(self, layers: "list[_Packed | _Winograd]", shortcut: nn.Module) -> None:
        super().__init__()
        self.first, self.last, self.shortcut = nn.Sequential(*layers[:-1]), layers[-1], shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: as the block's."""
        return self.last(self.first(x), self.shortcut(x))  # type: ignore[no-any-return]


class _Branch(CorrelationBranch):
    """A branch that correlates a single target channels-last, as its convolutions leave the features."""

    def __init__(self, branch: CorrelationBranch) -> None:
        nn.Module.__init__(self)
        self.template, self.search, self.decode = branch.template, branch.search, branch.decode

    def correlate(self, search: Tensor, kernel: Tensor) -> Tensor:
        """Shapes: see :meth:`CorrelationBranch.correlate`."""
        features = self.search(search)
        if len(features) > 1:
            return depthwise_correlation(features, kernel)
        form = ([0, 0], [1, 1], [1, 1], kernel.shape[1])
        response: Tensor = torch.ops.mkldnn._convolution_pointwise(
            features, kernel.transpose(0, 1), None, *form, *_PLAIN
        )
        return response


class _Deconvolution(nn.Module):
    """A transposed convolution of 1x1 images: a product with a matrix."""

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        weight = layer.weight.detach().permute(0, 2, 3, 1)  # [C, k, k, N]
        self._shape, self._weight = weight.shape[1:], weight.flatten(1).contiguous()
        self._bias = cast(Tensor, layer.bias).detach().repeat(weight.shape[1] * weight.shape[2])

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: x [B, C, 1, 1]; result [B, N, k, k]."""
        return torch.addmm(self._bias, x.flatten(1), self._weight).view(-1, *self._shape).permute(0, 3, 1, 2)


class _Packed(nn.Module):
    """A convolution with packed weights and what follows it: a sum maybe, an activation."""

    def __init__(self, layer: nn.Conv2d, activation: Activation, shape: list[int]) -> None:
        super().__init__()
        self._form = (list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups)
        self._activation, self._limits = activation
        self._bias = None if layer.bias is None else layer.bias.detach()
        # Of the layout that oneDNN prefers for this size of input; it takes other sizes too, maybe more slowly.
        weight = layer.weight.detach().contiguous()
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self._form, shape)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Return the activation of the convolution plus ``other``. Shapes: as the convolution's."""
        operator, activation = torch.ops.mkldnn._convolution_pointwise, self._activation
        result: Tensor
        if other is None:
            result = operator(x, self._weight, self._bias, *self._form, activation, self._limits, "")
        else:
            unary = None if activation == "none" else activation
            result = operator.binary(
                x, other, self._weight, self._bias, *self._form, "add", None, unary, self._limits, None
            )
        return result


class _Winograd(nn.Module):
    """A square convolution of stride 1 by Winograd's algorithm: (r + 3)^2 products for 16 results, not 16 r^2.

    Each window of (r + 3)^2 pixels becomes as many others (``before``, along columns and rows), each of which is
    multiplied by a matrix from channels to channels; the results become 16 (``after``). Windows are 4 pixels apart. A
    dilation by d takes every d-th pixel.

    oneDNN's layout of the weights depends on the number of windows, and another one costs more than the convolution
    itself. So the windows of the packed shape go through together, and those of other images in as many parts.
    """

    def __init__(self, layer: nn.Conv2d, activation: Activation, shape: list[int]) -> None:
        super().__init__()
        self._taps, self._padding, self._dilation = layer.kernel_size[0], int(layer.padding[0]), layer.dilation[0]
        self._activation, self._limits = activation
        self._bias = None if layer.bias is None else layer.bias.detach()
        before, weight, after = _winograd(self._taps)
        self._before, self._after = torch.from_numpy(before).float(), torch.from_numpy(after).float()
        self._outputs = layer.out_channels
        matrix = torch.from_numpy(weight)
        self._windows, products = _windows(layer, shape), len(before) ** 2
        kernels = [  # in parts, for they are doubles
            torch.einsum("jy,kx,ncyx->jknc", matrix, matrix, part.double()).flatten(0, 1).float()
            for part in torch.split(layer.weight.detach(), 128)
        ]
        self._form = ([0, 0], [1, 1], [1, 1], products)
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            torch.cat(kernels, 1).flatten(0, 1)[..., None, None],  # [(r + 3)^2 N, C, 1, 1]
            *self._form,
            [1, products * layer.in_channels, *self._windows],
        )

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Return the activation of the convolution plus ``other``.

        Shapes: x [B, C, H, W]; result and ``other`` [B, N, H', W'] as the convolution's.
        """
        batch, channels, height, width = x.shape
        d, side, edge = self._dilation, len(self._before), self._padding
        high, wide = (size + 2 * edge - (self._taps - 1) * d for size in (height, width))  # H', W'
        rows, columns = -(-high // (_RESULTS * d)), -(-wide // (_RESULTS * d))  # of windows, in each of d x d images
        line = (_RESULTS * columns + self._taps - 1) * d
        padded = x.new_zeros(batch, (_RESULTS * rows + self._taps - 1) * d, line, channels)
        padded[:, edge : edge + height, edge : edge + width] = x.permute(0, 2, 3, 1)
        down = line * channels
        windows = padded.as_strided(
            (batch, rows, d, columns, d, side, side, channels),
            (padded.stride(0), _RESULTS * d * down, down, _RESULTS * d * channels, channels, d * down, d * channels, 1),
        )
        inputs = torch.matmul(self._before, windows.reshape(-1, side, side * channels)).view(-1, side, channels)
        inputs = torch.matmul(self._before, inputs).view(-1, side * side * channels)
        products = self._multiply(inputs).view(-1, side, side * self._outputs)
        results = torch.matmul(self._after, products).view(-1, side, self._outputs)
        results = torch.matmul(self._after, results).view(batch, rows, d, columns, d, _RESULTS, _RESULTS, -1)
        image = results.permute(0, 1, 5, 2, 3, 6, 4, 7).reshape(batch, rows * _RESULTS * d, columns * _RESULTS * d, -1)
        image = image[:, :high, :wide]
        result = (image.contiguous() if self._bias is None else image + self._bias).permute(0, 3, 1, 2)
        if other is not None:
            result += other
        if self._activation == "relu":
            return result.relu_()
        return result.clamp_(*self._limits) if self._limits else result

    def _multiply(self, inputs: Tensor) -> Tensor:
        """Multiply each place of each window by its matrix.

        Shapes: inputs [T, (r + 3)^2 C]; result [T, (r + 3)^2 N].
        """
        together = math.prod(self._windows)
        parts = []
        for part in torch.split(inputs, together):
            missing = together - len(part)
            image = (functional.pad(part, (0, 0, 0, missing)) if missing else part).view(1, *self._windows, -1)
            products = torch.ops.mkldnn._convolution_pointwise(
                image.permute(0, 3, 1, 2), self._weight, None, *self._form, *_PLAIN
            )
            parts.append(products.permute(0, 2, 3, 1).reshape(together, -1)[: len(part)])
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _winograd(taps: int) -> tuple[Matrix, Matrix, Matrix]:
    """Return the matrices of 4 results of a correlation with r = ``taps`` taps: for pixels, kernel and products.

    With polynomials of the pixels' windows at r + 2 points and at infinity (Toom and Cook). Source: Lavin and Gray,
    "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), section 4.1.

    Shapes: [r + 3, r + 3], [r + 3, r], [4, r + 3].
    """
    points = np.array(_POINTS[: taps + 2])
    others = [np.delete(points, index) for index in range(len(points))]
    before = np.zeros((taps + 3, taps + 3))
    before[:-1, :-1] = [np.poly(each)[::-1] for each in others]
    before[-1] = np.poly(points)[::-1]
    scale = np.array([np.prod(point - each) for point, each in zip(points, others, strict=True)])
    kernel = np.vstack([points[:, None] ** np.arange(taps) / scale[:, None], np.eye(taps)[-1]])
    after = np.hstack([(points[:, None] ** np.arange(_RESULTS)).T, np.eye(_RESULTS)[:, -1:]])
    return before, kernel, after
