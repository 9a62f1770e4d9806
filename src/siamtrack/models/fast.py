"""The layers of the networks with fewer and faster kernels, for training on a GPU in bfloat16.

The same functions of the same weights as the modules that call them, apart from rounding: batch norm whose statistics
are frozen is folded into the convolution before it (and the gradient flows through the folding), 1x1 convolutions are
matrix products over the channels, which lie last in memory, and depth-wise convolutions and correlations are the Triton
kernels of :mod:`siamtrack.models.kernels`.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

ConvNorm = tuple[nn.Conv2d, nn.BatchNorm2d]


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


def ready(x: Tensor) -> bool:
    """Return whether ``x`` is in a training step that these functions are for: autocast on a GPU with Triton."""
    return x.is_cuda and torch.is_autocast_enabled("cuda") and _installed()


def pair(layers: nn.Module, first: int = 0) -> ConvNorm:
    """Return the convolution at ``first`` of a sequence, and the batch norm behind it."""
    sequence = cast(nn.Sequential, layers)
    return cast(nn.Conv2d, sequence[first]), cast(nn.BatchNorm2d, sequence[first + 1])


def residual_ready(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    """Return whether :func:`inverted_residual` can do a block with this depth-wise convolution and its batch norm."""
    if not ready(x) or norm.training:
        return False
    learns = torch.is_grad_enabled() and (x.requires_grad or conv.weight.requires_grad)
    return conv.stride == (1, 1) or not learns


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a convolution that does what ``conv`` and ``norm`` with frozen statistics do."""
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    bias = torch.addcmul(norm.bias, mean, scale, value=-1)
    return conv.weight * scale[:, None, None, None], bias


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Return ``norm(conv(x))``, of plain modules too. Shapes: x [B, C, H, W], result [B, C', H', W']."""
    if not ready(x):
        result: Tensor = norm(conv(x))
    elif norm.training:
        result = norm(convolve(x, conv, conv.weight, conv.bias))
    else:
        result = convolve(x, conv, *fold(conv, norm))
    return result


def convolve(x: Tensor, conv: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``conv`` of x with other weights. Shapes: x [B, C, H, W], result [B, C', H', W']."""
    if conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.groups == 1:
        x = _halved(x).permute(0, 2, 3, 1)
        if bias is None:
            return functional.linear(x, weight[:, :, 0, 0]).permute(0, 3, 1, 2)
        y: Tensor = _Linear.apply(x, _halved(weight[:, :, 0, 0]), _halved(bias))  # type: ignore[no-untyped-call]
        return y.permute(0, 3, 1, 2)
    x = x.contiguous(memory_format=torch.channels_last)
    return functional.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def depthwise(x: Tensor, conv: nn.Conv2d, weight: Tensor, bias: Tensor, relu_in: bool, relu_out: bool) -> Tensor:
    """Return ReLU6?(conv(ReLU6?(x))) of a depth-wise convolution. Shapes: x [B, C, H, W], result [B, C, H', W']."""
    from siamtrack.models.kernels import Depthwise

    kernel = weight[:, 0].permute(1, 2, 0)[None].float()  # [1, K, K, C]
    stride, padding, dilation = conv.stride[0], int(conv.padding[0]), conv.dilation[0]
    y: Tensor = Depthwise.apply(  # type: ignore[no-untyped-call]
        _halved(x).permute(0, 2, 3, 1), kernel, bias.float(), stride, padding, dilation, relu_in, relu_out
    )
    return y.permute(0, 3, 1, 2)


def correlate(search: Tensor, kernel: Tensor) -> Tensor:
    """Return the depth-wise correlation. Shapes: search [B, C, H, W], kernel [B, C, h, w]; [B, C, H-h+1, W-w+1]."""
    from siamtrack.models.kernels import Depthwise

    kernels = kernel.permute(0, 2, 3, 1).float()
    halved = _halved(search).permute(0, 2, 3, 1)
    y: Tensor = Depthwise.apply(halved, kernels, None, 1, 0, 1, False, False)  # type: ignore[no-untyped-call]
    return y.permute(0, 3, 1, 2)


def _halved(x: Tensor) -> Tensor:
    return x.to(torch.get_autocast_dtype("cuda"))


class _Linear(torch.autograd.Function):
    """A linear layer whose bias gets its gradient by a matrix product, several times faster than by a sum.

    Shapes: x [..., C], weight [C', C], bias [C']; result [..., C'].
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """See the class."""
        ctx.save_for_backward(x, weight)
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """See the class."""
        x, weight = ctx.saved_tensors
        g = gradients[0].reshape(-1, len(weight))
        gx = (g @ weight).view(x.shape) if ctx.needs_input_grad[0] else None
        gw = g.T @ x.reshape(-1, x.shape[-1]) if ctx.needs_input_grad[1] else None
        gb = (g.new_ones(8, len(g)) @ g)[0] if ctx.needs_input_grad[2] else None
        return gx, gw, gb


def inverted_residual(x: Tensor, expand: ConvNorm | None, middle: ConvNorm, project: ConvNorm) -> Tensor:
    """Return 1x1 expansion, ReLU6, depth-wise convolution, ReLU6 and 1x1 projection, with frozen batch norm.

    Shapes: x [B, C, H, W], result [B, C', H', W'].
    """
    if expand:
        x = conv_norm(x, *expand)
    x = depthwise(x, middle[0], *fold(*middle), relu_in=expand is not None, relu_out=True)
    return conv_norm(x, *project)
