"""What a step does beside the network, and its convolutions, on tensors of one device without waiting for the host.

On a GPU with Triton the kernels of :mod:`siamtrack.runtimes.kernels` do the same as the plain torch here.
"""

from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from siamtrack.tracking.decode import decode
from siamtrack.tracking.shortterm import change_penalty, rank

NONE, RELU, RELU6 = 0, 1, 2
"""Activations after a convolution."""
ANSWER = 11
"""Columns of an answer: x, y, w, h of the box, score, frames lost, row and column of the best cell, then x, y and side
of the square that was searched."""

if find_spec("triton"):
    from siamtrack.runtimes import kernels


class Frames(NamedTuple):
    """Frames on the device, each row after row from a multiple of ``capacity`` on."""

    pixels: Tensor
    """[F capacity] uint8, BGR."""
    sizes: Tensor
    """[F, 2] int32, height and width."""
    capacity: int
    """Bytes between the first pixels of two frames."""


class Targets(NamedTuple):
    """A table with a row a target: the fields of :class:`siamtrack.tracking.state.TrackState` that a step needs."""

    center: Tensor
    """[R, 2] float64."""
    size: Tensor
    """[R, 2] float64."""
    smallest: Tensor
    """[R, 2] float64."""
    fill: Tensor
    """[R, 3] uint8."""
    lost: Tensor
    """[R] int32."""


class Rules(NamedTuple):
    """How the best candidate is found and followed, for one size of search region."""

    anchors: Tensor
    """[N, 4] float32."""
    window: Tensor
    """[N] float32."""
    output: int
    """Side of the search region."""
    template: int
    """Side of the template."""
    cells: int
    """Side of the response."""
    penalty_k: float
    influence: float
    lost_influence: float
    lr: float
    low: float
    high: float
    longterm: bool


def uses_kernels(tensor: Tensor) -> bool:
    """Return whether Triton's kernels work on this tensor."""
    return tensor.is_cuda and find_spec("triton") is not None


def crop(
    frames: Frames, owner: Tensor, targets: Targets, rows: Tensor, output: int, template: int, dtype: torch.dtype
) -> Tensor:
    """Cut the targets' search regions (or templates, if ``output`` is ``template``) out of their frames.

    Pixels are those of :func:`siamtrack.tracking.crop.crop`, bit by bit as OpenCV 5 computes them with AVX2.

    Shapes: owner [B] int32, whose frame; rows [B] int64; result [B, 8, S, S] channels-last, channels 3 to 7 zero.
    """
    count = len(rows)
    if uses_kernels(frames.pixels):
        patches = torch.empty(count, output, output, 8, dtype=dtype, device=rows.device)
        kernels.crop(
            frames.pixels, frames.capacity, frames.sizes, owner, rows, targets.center, targets.size, targets.fill,
            patches, template, output != template,
        )  # fmt: skip
        return patches.permute(0, 3, 1, 2)
    center, side = squares(targets, rows, output, template)
    step = side / output
    left, top = (center - (side / 2)[:, None] + (step / 2 - 0.5)[:, None]).float().T
    place = torch.arange(output, device=rows.device)
    product = step.float().double()[:, None] * place  # exact: of two numbers of 24 bits
    once, twice = (product + left.double()[:, None]).float(), product.float() + left[:, None]
    # OpenCV takes 16 columns at a time with one rounding; the columns that are left over have two.
    x = torch.where(place < output // 16 * 16, once, twice)  # [B, S]
    y = product.float() + top[:, None]
    height, width = frames.sizes[owner.long()].long().unbind(1)
    outside = targets.fill[rows].float()[:, None, None]  # [B, 1, 1, 3]
    begin = owner.long() * frames.capacity
    x0, y0 = x.clip(-1e6, 1e6).floor(), y.clip(-1e6, 1e6).floor()
    right, below = (x - x0)[:, None, :, None], (y - y0)[:, :, None, None]

    def tap(dx: int, dy: int) -> Tensor:
        column, line = x0.long()[:, None, :] + dx, y0.long()[:, :, None] + dy
        inside = (column >= 0) & (column < width[:, None, None]) & (line >= 0) & (line < height[:, None, None])
        index = begin[:, None, None] + (line * width[:, None, None] + column) * 3  # [B, S, S]
        index = torch.where(inside, index, 0)[..., None] + torch.arange(3, device=rows.device)
        return torch.where(inside[..., None], frames.pixels[index].float(), outside)

    a, b, c, d = tap(0, 0), tap(1, 0), tap(0, 1), tap(1, 1)
    upper, lower = a + right * (b - a), c + right * (d - c)
    values = (upper + below * (lower - upper)).round().to(dtype)
    return functional.pad(values, (0, 5)).permute(0, 3, 1, 2)


def squares(targets: Targets, rows: Tensor, output: int, template: int) -> tuple[Tensor, Tensor]:
    """Return centres and sides of what :func:`crop` cuts out. Shapes: [B, 2] and [B] float64."""
    center, size = targets.center[rows], targets.size[rows]
    padding = size.sum(1) / 2
    side = torch.sqrt((size[:, 0] + padding) * (size[:, 1] + padding))
    if output == template:
        return center, side
    side = side * output / template
    exponent = (side / output / 4).view(torch.int64) & 0x7FF0000000000000
    grid = exponent.view(torch.float64)  # the power of two below, as in tracking.crop.snap
    return (center / grid[:, None]).round() * grid[:, None], (side / grid).round() * grid


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, dilation: int, groups: int,
    residual: Tensor | None, activation: int,
) -> Tensor:  # fmt: skip
    """Return a convolution with bias, plus ``residual``, and its activation.

    Shapes: x [B, C, H, W]; weight [N, C / groups, k, k]; residual as the result, [B, N, H', W'].
    """
    if x.is_cuda and x.dtype == torch.float16 and activation != NONE and bias is not None:
        steps = ((stride, stride), (padding, padding), (dilation, dilation))
        if residual is None:
            y = torch.cudnn_convolution_relu(x, weight, bias, *steps, groups)
        else:
            y = torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, bias, *steps, groups)
        y = y.clamp_max_(6.0) if activation == RELU6 else y
        return y.contiguous(memory_format=torch.channels_last)
    y = functional.conv2d(x, weight, bias, stride, padding, dilation, groups)
    y = _activated(y if residual is None else y.add_(residual), activation)
    return y.contiguous(memory_format=torch.channels_last)


def depthwise(
    x: Tensor, weight: Tensor, bias: Tensor, kernel: int, stride: int, padding: int, dilation: int, activation: int
) -> Tensor:
    """Return a depth-wise convolution. Shapes: x [B, C, H, W] channels-last; weight [k k, C] and bias [C] float32."""
    channels = x.shape[1]
    if not uses_kernels(x):
        whole = weight.T.reshape(channels, 1, kernel, kernel).to(x.dtype)
        return convolution(x, whole, bias.to(x.dtype), stride, padding, dilation, channels, None, activation)
    height, width = ((n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for n in x.shape[2:])
    y = _like(x, channels, height, width)
    kernels.depthwise(_cells(x), weight, bias, _cells(y), None, kernel, stride, padding, dilation, activation)
    return y


def correlate(x: Tensor, templates: Tensor, rows: Tensor) -> Tensor:
    """Return the depth-wise correlation with the templates of the targets.

    Shapes: x [B, C, n, n] channels-last; templates [R, k k, C]; rows [B] int64; result [B, C, m, m].
    """
    batch, channels, size, _ = x.shape
    kernel = round(templates.shape[1] ** 0.5)
    if not uses_kernels(x):
        whole = templates[rows].transpose(1, 2).reshape(batch * channels, 1, kernel, kernel)
        y = functional.conv2d(x.reshape(1, batch * channels, size, size), whole, groups=batch * channels)
        return y.reshape(batch, channels, *y.shape[2:]).contiguous(memory_format=torch.channels_last)
    y = _like(x, channels, size - kernel + 1, size - kernel + 1)
    kernels.depthwise(_cells(x), templates, None, _cells(y), rows, kernel, 1, 0, 1, NONE)
    return y


def pointwise(
    x: Tensor, weight: Tensor, bias: Tensor, out: Tensor | None = None, residual: Tensor | None = None,
    activation: int = NONE, dtype: torch.dtype | None = None,
) -> Tensor:  # fmt: skip
    """Return a 1x1 convolution in G groups with bias, plus ``residual``, and its activation.

    Shapes: x [B, C, H, W] channels-last, of which the first G K channels are used; weight [G, N, K]; residual as the
    result, [B, G N, H, W], which is written to ``out`` if that is given.
    """
    groups, outputs, inputs = weight.shape
    batch, _, height, width = x.shape
    dtype = dtype or x.dtype
    half = x.is_cuda and x.dtype == torch.float16
    if half and groups == 1 and out is None and dtype == x.dtype and x.shape[1] == inputs and activation != RELU6:
        if residual is not None and activation == RELU:
            return convolution(x, weight[0, :, :, None, None], bias, 1, 0, 1, 1, residual, activation)
        if residual is None:
            flat, matrix = _cells(x).reshape(-1, inputs), weight[0].T
            product = (
                torch._addmm_activation(bias, flat, matrix) if activation == RELU else torch.addmm(bias, flat, matrix)
            )
            return product.view(batch, height, width, outputs).permute(0, 3, 1, 2)
    if uses_kernels(x):
        y = out if out is not None else _like(x, groups * outputs, height, width, dtype)
        rest = None if residual is None else _rows(residual)
        kernels.pointwise(_rows(x), weight, bias, _rows(y), rest, groups, activation)
        return y
    whole = weight.reshape(groups * outputs, inputs, 1, 1)
    y = convolution(x[:, : groups * inputs], whole, bias.to(x.dtype), 1, 0, 1, groups, residual, activation).to(dtype)
    return y if out is None else out.copy_(y)


def choose(
    response: Tensor, rules: Rules, targets: Targets, rows: Tensor, owner: Tensor, sizes: Tensor, answers: Tensor
) -> None:
    """Rank the candidates, move the targets to the best ones, and write the answers.

    The rules of :mod:`siamtrack.tracking` without PySOT's quirks; decoding in float32, states in float64.

    Shapes: response [B, m m, R] float32, of each cell 2 A class logits and 4 A offsets; answers [B, 11] float64.
    """
    if uses_kernels(response):
        kernels.choose(
            response, rules.anchors, rules.window, rows, owner, sizes, targets.center, targets.size, targets.smallest,
            targets.lost, answers, rules.cells, rules.output, rules.template,
            (rules.penalty_k, rules.influence, rules.lost_influence, rules.lr, rules.low, rules.high), rules.longterm,
        )  # fmt: skip
        return
    batch, cells = len(rows), rules.cells
    per_cell = len(rules.anchors) // (cells * cells)
    planes = response.transpose(1, 2).reshape(batch, -1, cells, cells)
    center, side = squares(targets, rows, rules.output, rules.template)
    size, lost = targets.size[rows], targets.lost[rows]
    scale = rules.output / side
    candidates = decode(planes[:, : 2 * per_cell], planes[:, 2 * per_cell : 6 * per_cell], rules.anchors)
    penalty = change_penalty(candidates, (size * scale[:, None]).float(), rules.penalty_k)
    influence = torch.where(lost > 0, rules.lost_influence, rules.influence).float() if rules.longterm else (
        torch.full_like(scale, rules.influence, dtype=torch.float32)
    )  # fmt: skip
    ranks = rank(candidates.scores, penalty, rules.window, influence[:, None])
    best = ranks.argmax(1, keepdim=True)
    box = candidates.boxes.gather(1, best[..., None].expand(-1, -1, 4))[:, 0].double() / scale[:, None]
    score = candidates.scores.gather(1, best)[:, 0].double()
    rate = (score * penalty.gather(1, best)[:, 0].double() * rules.lr)[:, None]
    believed = score >= rules.low
    moved = torch.where(believed[:, None], center + box[:, :2], targets.center[rows])
    grown = torch.where(believed[:, None], size * (1 - rate) + box[:, 2:] * rate, size)
    frame = sizes[owner.long()].flip(1).double()
    moved = moved.clip(torch.zeros_like(frame), frame)
    grown = grown.clip(torch.minimum(targets.smallest[rows], frame), frame)
    if rules.longterm:
        found = believed & ((lost == 0) | (score > rules.high))
        lost = torch.where(found, 0, lost + 1)
        targets.lost[rows] = lost
    targets.center[rows], targets.size[rows] = moved, grown
    cell = best % (cells * cells)
    parts = [
        moved - grown / 2,
        grown,
        score[:, None],
        lost[:, None],
        cell // cells,
        cell % cells,
        center,
        side[:, None],
    ]
    answers.copy_(torch.cat([part.double() for part in parts], 1))


def paste(
    logits: Tensor, answers: Tensor, owner: Tensor, sizes: Tensor, masks: Tensor, rules: Rules, stride: int,
    threshold: float,
) -> None:  # fmt: skip
    """Draw masks into frames, as :func:`siamtrack.tracking.mask.paste`: 1 where the probability is above ``threshold``.

    Shapes: logits [B, M, M]; masks [B, capacity] uint8, of which the frame's pixels, row by row, are written.
    """
    if uses_kernels(logits):
        kernels.paste(logits.contiguous(), answers, owner, sizes, masks, rules.output, rules.cells, stride, threshold)
        return
    side, place = logits.shape[-1], torch.arange(masks.shape[1], device=logits.device)
    for index, (height, width) in enumerate(sizes[owner.long()]):
        cy, cx = answers[index, [9, 8]] + (answers[index, 6:8] - rules.cells // 2) * stride * (
            pixel := answers[index, 10] / rules.output
        )
        y, x = (
            ((cells - (middle - side * pixel / 2 + pixel / 2 - 0.5)) / pixel).float()
            for cells, middle in ((place // width, cy), (place % width, cx))
        )
        # grid_sample's -1 and 1 are the outer borders of the first and the last pixel.
        grid = torch.stack([(2 * x + 1) / side - 1, (2 * y + 1) / side - 1], -1)[None, None]
        probability = torch.sigmoid(logits[index].float())[None, None]
        drawn = functional.grid_sample(probability, grid, padding_mode="zeros", align_corners=False).flatten()
        masks[index] = ((drawn > threshold) & (place < height * width)).to(torch.uint8)


def _activated(y: Tensor, activation: int) -> Tensor:
    if activation == NONE:
        return y
    return y.relu_() if activation == RELU else y.clamp_(0.0, 6.0)


def _like(x: Tensor, channels: int, height: int, width: int, dtype: torch.dtype | None = None) -> Tensor:
    """Return an empty channels-last tensor on x's device."""
    shape = (x.shape[0], height, width, channels)
    return torch.empty(shape, dtype=dtype or x.dtype, device=x.device).permute(0, 3, 1, 2)


def _cells(x: Tensor) -> Tensor:
    """Return [B, H, W, C], the same memory; cells may lie apart, but evenly."""
    return x.permute(0, 2, 3, 1)


def _rows(x: Tensor) -> Tensor:
    """Return [B H W, C], the same memory."""
    cells = _cells(x)
    return cells.as_strided((cells.shape[0] * cells.shape[1] * cells.shape[2], cells.shape[3]), (cells.stride(2), 1))
