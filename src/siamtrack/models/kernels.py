# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Depth-wise convolution and correlation for training on a GPU, written in Triton.

PyTorch's own depth-wise kernels take half of a training step of ``siamrpnpp_lite``. These keep channels last, apply
ReLU6 while they load and store, and serve a convolution (one kernel for all images) and a correlation (a kernel for
each image; SiamRPN++, section 3.4) alike. Only imported where there is a GPU with Triton.

A program walks down the rows that dilation ties together, so that each row is loaded once and serves all K rows of the
kernel.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_WIDTH = 16  # columns of a tile
_CHANNELS = 32  # channels of a tile
_ROWS = 16  # rows of the result that one program makes


class Depthwise(torch.autograd.Function):
    """y = relu6?(correlate(relu6?(x), w) + b), each channel with its own kernel.

    Shapes: x [B, H, W, C]; w [G, K, K, C] float with G = 1 or B and K = 3 or 5; b [C] float or None; result
    [B, H', W', C] of x's type.

    Raises:
        ValueError: another K, or a gradient with a stride above 1.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w: Tensor,
        b: Tensor | None,
        stride: int,
        padding: int,
        dilation: int,
        relu_in: bool,
        relu_out: bool,
    ) -> Tensor:
        """See the class."""
        size = w.shape[1]
        if size not in (3, 5):
            raise ValueError(f"a depth-wise kernel of {size}x{size}: expected 3x3 or 5x5")
        x, w = x.contiguous(), w.contiguous()
        y = _convolve(x, w, b, None, stride, padding, dilation, relu_in, relu_out)
        ctx.save_for_backward(x, w, y if relu_out else None)
        ctx.settings = stride, padding, dilation, relu_in, relu_out, b is not None
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """See the class."""
        x, w, y = ctx.saved_tensors
        stride, padding, dilation, relu_in, relu_out, biased = ctx.settings
        if stride != 1:
            raise ValueError("a depth-wise convolution with a stride has no gradient here")
        g = gradients[0].contiguous()
        if relu_out:
            g = torch.ops.aten.hardtanh_backward(g, y, 0.0, 6.0)
        size = w.shape[1]
        gx = gw = gb = None
        if ctx.needs_input_grad[0]:
            flipped = w.flip(1, 2).contiguous()
            around = dilation * (size - 1) - padding
            gx = _convolve(g, flipped, None, x if relu_in else None, 1, around, dilation, False, False)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            sums = _weight_sums(x, g, size, padding, dilation, relu_in)  # [B, parts, K K + 1, C]
            sums = sums.sum(1) if len(w) > 1 else sums.sum((0, 1))[None]
            gw = sums[:, :-1].reshape(w.shape)
            gb = sums[:, -1].sum(0) if biased else None
        return gx, gw, gb, None, None, None, None, None


def _convolve(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    gate: Tensor | None,
    stride: int,
    padding: int,
    dilation: int,
    relu_in: bool,
    relu_out: bool,
) -> Tensor:
    """Return the correlation, 0 where ``gate`` (of the result's shape) is outside 0..6."""
    batch, height, width, channels = x.shape
    size = w.shape[1]
    rows, columns = ((n + 2 * padding - dilation * (size - 1) - 1) // stride + 1 for n in (height, width))
    y = x.new_empty(batch, rows, columns, channels)
    walks = dilation * triton.cdiv(rows, dilation * _ROWS) if stride == 1 else rows
    grid = (batch * walks, triton.cdiv(columns, _WIDTH), triton.cdiv(channels, _CHANNELS))
    each = size * size * channels if len(w) > 1 else 0  # from one image's kernel to the next
    _walk[grid](x, w, w if b is None else b, x if gate is None else gate, y, height, width, channels, rows, columns,
                each, walks, K=size, STRIDE=stride, PAD=padding, DILATION=dilation, BIAS=b is not None,
                GATE=gate is not None, RELU_IN=relu_in, RELU_OUT=relu_out, ROWS=_ROWS, BW=_WIDTH,
                BC=_CHANNELS, num_warps=1)  # fmt: skip
    return y


def _weight_sums(x: Tensor, g: Tensor, size: int, padding: int, dilation: int, relu_in: bool) -> Tensor:
    """Return parts of the gradients of weights and (last) bias. Shape: [B, parts, K K + 1, C]."""
    batch, height, width, channels = x.shape
    rows, columns = g.shape[1:3]
    tile = _WIDTH if columns <= _WIDTH else 2 * _WIDTH
    parts = dilation * triton.cdiv(columns, tile)
    sums = torch.empty(batch, parts, size * size + 1, channels, dtype=torch.float32, device=x.device)
    grid = (batch * parts, triton.cdiv(channels, _CHANNELS), size)
    _weights[grid](x, g, sums, height, width, channels, rows, columns, parts, K=size, PAD=padding, DILATION=dilation,
                   RELU_IN=relu_in, BW=tile, BC=_CHANNELS, num_warps=2)  # fmt: skip
    return sums


@triton.jit
def _relu6(x):
    return tl.minimum(tl.maximum(x, 0.0), 6.0)


@triton.jit
def _load(x, row, column, channel, height, width, channels, RELU: tl.constexpr):
    inside = ((row >= 0) & (row < height) & (column >= 0) & (column < width))[:, None] & (channel < channels)[None, :]
    value = tl.load(x + (row * width + column)[:, None] * channels + channel[None, :], inside, 0.0).to(tl.float32)
    return _relu6(value) if RELU else value


@triton.jit
def _walk(x, w, b, gate, y, height, width, channels, rows, columns, each, walks,
          K: tl.constexpr, STRIDE: tl.constexpr, PAD: tl.constexpr, DILATION: tl.constexpr, BIAS: tl.constexpr,
          GATE: tl.constexpr, RELU_IN: tl.constexpr, RELU_OUT: tl.constexpr, ROWS: tl.constexpr, BW: tl.constexpr,
          BC: tl.constexpr):  # fmt: skip
    image, walk = tl.program_id(0) // walks, tl.program_id(0) % walks
    column = tl.program_id(1) * BW + tl.arange(0, BW)
    channel = tl.program_id(2) * BC + tl.arange(0, BC)
    known = channel < channels
    inside = (column < columns)[:, None] & known[None, :]
    x += image.to(tl.int64) * height * width * channels
    out = image.to(tl.int64) * rows * columns * channels
    w += image * each + channel
    bias = tl.load(b + channel, known, 0.0) if BIAS else tl.zeros((BC,), tl.float32)
    # The sums of K rows of the result at a time; s0 is the newest, which sees the kernel's first row.
    s0 = tl.zeros((BW, BC), tl.float32)
    s1 = tl.zeros((BW, BC), tl.float32)
    s2 = tl.zeros((BW, BC), tl.float32)
    s3 = tl.zeros((BW, BC), tl.float32)
    s4 = tl.zeros((BW, BC), tl.float32)
    # With a stride a program makes one row, without it the rows first, first + DILATION, ...
    if STRIDE > 1:
        first = walk
        count = 1
    else:
        first = walk % DILATION + (walk // DILATION) * DILATION * ROWS
        count = tl.minimum(tl.cdiv(rows - first, DILATION), ROWS)
    for step in range(count + K - 1):
        row = first * STRIDE - PAD + step * DILATION
        for j in tl.static_range(K):
            value = _load(x, row, column * STRIDE - PAD + j * DILATION, channel, height, width, channels, RELU_IN)
            s0 += value * tl.load(w + j * channels, known, 0.0)[None, :]
            s1 += value * tl.load(w + (K + j) * channels, known, 0.0)[None, :]
            s2 += value * tl.load(w + (2 * K + j) * channels, known, 0.0)[None, :]
            if K == 5:
                s3 += value * tl.load(w + (3 * K + j) * channels, known, 0.0)[None, :]
                s4 += value * tl.load(w + (4 * K + j) * channels, known, 0.0)[None, :]
        done = first + (step - K + 1) * (DILATION if STRIDE == 1 else 1)
        if step >= K - 1:
            total = (s4 if K == 5 else s2) + bias[None, :]
            if RELU_OUT:
                total = _relu6(total)
            place = out + (done * columns + column)[:, None] * channels + channel[None, :]
            if GATE:
                passed = tl.load(gate + place, inside, 0.0).to(tl.float32)
                total = tl.where((passed > 0.0) & (passed < 6.0), total, 0.0)
            tl.store(y + place, total.to(y.dtype.element_ty), inside)
        if K == 5:
            s4 = s3
            s3 = s2
        s2 = s1
        s1 = s0
        s0 = tl.zeros((BW, BC), tl.float32)


@triton.jit
def _weights(x, g, sums, height, width, channels, rows, columns, parts,
             K: tl.constexpr, PAD: tl.constexpr, DILATION: tl.constexpr, RELU_IN: tl.constexpr, BW: tl.constexpr,
             BC: tl.constexpr):  # fmt: skip
    image, part = tl.program_id(0) // parts, tl.program_id(0) % parts
    first = part % DILATION
    column = (part // DILATION) * BW + tl.arange(0, BW)
    channel = tl.program_id(1) * BC + tl.arange(0, BC)
    j = tl.program_id(2)  # the column of the kernel
    x += image.to(tl.int64) * height * width * channels
    g += image.to(tl.int64) * rows * columns * channels
    v = column - PAD + j * DILATION
    top = first - PAD
    t0 = tl.zeros((BW, BC), tl.float32)
    t1 = tl.zeros((BW, BC), tl.float32)
    t2 = tl.zeros((BW, BC), tl.float32)
    t3 = tl.zeros((BW, BC), tl.float32)
    t4 = tl.zeros((BW, BC), tl.float32)
    bias = tl.zeros((BW, BC), tl.float32)
    x0 = _load(x, top, v, channel, height, width, channels, RELU_IN)
    x1 = _load(x, top + DILATION, v, channel, height, width, channels, RELU_IN)
    if K == 5:
        x2 = _load(x, top + 2 * DILATION, v, channel, height, width, channels, RELU_IN)
        x3 = _load(x, top + 3 * DILATION, v, channel, height, width, channels, RELU_IN)
    for step in range(tl.cdiv(rows - first, DILATION)):
        new = _load(x, top + (step + K - 1) * DILATION, v, channel, height, width, channels, RELU_IN)
        gradient = _load(g, first + step * DILATION, column, channel, rows, columns, channels, False)
        t0 += x0 * gradient
        t1 += x1 * gradient
        if K == 5:
            t2 += x2 * gradient
            t3 += x3 * gradient
            t4 += new * gradient
            x0 = x1
            x1 = x2
            x2 = x3
            x3 = new
        else:
            t2 += new * gradient
            x0 = x1
            x1 = new
        bias += gradient
    sums += tl.program_id(0).to(tl.int64) * (K * K + 1) * channels + channel
    known = channel < channels
    tl.store(sums + j * channels, tl.sum(t0, 0), known)
    tl.store(sums + (K + j) * channels, tl.sum(t1, 0), known)
    tl.store(sums + (2 * K + j) * channels, tl.sum(t2, 0), known)
    if K == 5:
        tl.store(sums + (3 * K + j) * channels, tl.sum(t3, 0), known)
        tl.store(sums + (4 * K + j) * channels, tl.sum(t4, 0), known)
    if j == 0:
        tl.store(sums + (K * K) * channels, tl.sum(bias, 0), known)
