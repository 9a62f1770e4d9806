# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call, misc, valid-type"
"""Triton kernels for the step on a GPU. What each computes is said, and written in plain torch, in ``device_ops``.

Pictures and features lie in memory cell by cell, the channels of a cell together (torch's channels-last). Numbers of
channels come in eights, so that the compiler sees that 16 bytes can be moved at a time. Activations are 0 for none, 1
for ReLU and 2 for ReLU6.
"""

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _rint(x):
    """Round a double to the nearest whole number, halves to the even one."""
    return (x + 6755399441055744.0) - 6755399441055744.0


@triton.jit
def _square(center, size, row, output, template, SNAP: tl.constexpr):
    """Return centre and side of the square to cut out (``tracking.crop``: ``context_side`` and ``snap``)."""
    cx, cy = tl.load(center + 2 * row), tl.load(center + 2 * row + 1)
    w, h = tl.load(size + 2 * row), tl.load(size + 2 * row + 1)
    padding = (w + h) / 2
    side = tl.sqrt((w + padding) * (h + padding))
    if SNAP:
        side = side * output / template
        exponent = (side / output / 4).to(tl.int64, bitcast=True) & 0x7FF0000000000000
        grid = exponent.to(tl.float64, bitcast=True)  # the power of two below
        cx, cy, side = _rint(cx / grid) * grid, _rint(cy / grid) * grid, _rint(side / grid) * grid
    return cx, cy, side


@triton.jit
def _tap(frame, x, y, width, height, channel, outside):
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    place = ((y * width + x) * 3)[:, None] + channel
    value = tl.load(frame + place, mask=inside[:, None] & (channel < 3), other=0).to(tl.float32)
    return tl.where(inside[:, None], value, outside)


@triton.jit
def _crop(
    pixels, capacity, sizes, owner, rows, center, size, fill, patches, output, template,
    SNAP: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    target = tl.program_id(1)
    row = tl.load(rows + target)
    frame = tl.load(owner + target)
    height, width = tl.load(sizes + 2 * frame), tl.load(sizes + 2 * frame + 1)
    cx, cy, side = _square(center, size, row, output, template, SNAP)
    step = side / output
    left = (cx - side / 2 + step / 2 - 0.5).to(tl.float32)
    top = (cy - side / 2 + step / 2 - 0.5).to(tl.float32)
    step = step.to(tl.float32)
    cell = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column, line = cell % output, cell // output
    u, v = column.to(tl.float32), line.to(tl.float32)
    # OpenCV takes 16 columns at a time with one rounding; the columns that are left over have two.
    x = tl.where(column < output // 16 * 16, tl.fma(u, u * 0 + step, u * 0 + left), u * step + left)
    y = v * step + top
    x, y = tl.minimum(tl.maximum(x, -1e6), 1e6), tl.minimum(tl.maximum(y, -1e6), 1e6)
    x0, y0 = tl.floor(x), tl.floor(y)
    right, below = (x - x0)[:, None], (y - y0)[:, None]
    xi, yi = x0.to(tl.int32), y0.to(tl.int32)
    channel = tl.arange(0, CHANNELS)[None, :]
    outside = tl.load(fill + row * 3 + channel, mask=channel < 3, other=0).to(tl.float32)
    picture = pixels + frame.to(tl.int64) * capacity
    a = _tap(picture, xi, yi, width, height, channel, outside)
    b = _tap(picture, xi + 1, yi, width, height, channel, outside)
    c = _tap(picture, xi, yi + 1, width, height, channel, outside)
    d = _tap(picture, xi + 1, yi + 1, width, height, channel, outside)
    upper, lower = a + right * (b - a), c + right * (d - c)
    value = upper + below * (lower - upper)
    value = (value + 12582912.0) - 12582912.0  # to whole numbers, halves to the even one
    out = (target.to(tl.int64) * output * output + cell) * CHANNELS
    tl.store(patches + out[:, None] + channel, value, mask=(cell < output * output)[:, None])


def crop(
    pixels: Tensor, capacity: int, sizes: Tensor, owner: Tensor, rows: Tensor, center: Tensor, size: Tensor,
    fill: Tensor, patches: Tensor, template: int, snapped: bool,
) -> None:  # fmt: skip
    """See :func:`siamtrack.runtimes.device_ops.crop`. Shape: patches [B, S, S, 8], contiguous."""
    count, output, _, channels = patches.shape
    block = 128
    grid = (triton.cdiv(output * output, block), count)
    _crop[grid](
        pixels, capacity, sizes, owner, rows, center, size, fill, patches, output, template,
        SNAP=snapped, CHANNELS=channels, BLOCK=block, enable_fp_fusion=False,
    )  # fmt: skip


@triton.jit
def _depthwise(
    x, weight, bias, y, rows, height, width, out_height, out_width, channels8, x_cell8, y_cell8,
    STRIDE: tl.constexpr, PADDING: tl.constexpr, DILATION: tl.constexpr, KERNEL: tl.constexpr, PER_TARGET: tl.constexpr,
    ACTIVATION: tl.constexpr, BLOCK: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """A strip is four results of a row, ``DILATION`` apart, which share most of what they read."""
    target = tl.program_id(2).to(tl.int64)
    strips = (out_width + DILATION * 4 - 1) // (DILATION * 4) * DILATION  # of a row
    strip = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    line, part = strip // strips, strip % strips
    first = part // DILATION * (DILATION * 4) + part % DILATION  # column of the strip's first result
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    channels = channels8 * 8
    known = channel < channels
    x_cell, y_cell = x_cell8 * 8, y_cell8 * 8
    x += target * height * width * x_cell
    if PER_TARGET:
        weight += tl.load(rows + target) * (KERNEL * KERNEL) * channels
    begin = tl.zeros((BLOCK, CHANNELS), tl.float32)
    if not PER_TARGET:
        begin += tl.load(bias + channel, mask=known, other=0).to(tl.float32)[None, :]
    sum0, sum1, sum2, sum3 = begin, begin, begin, begin
    for tap in tl.static_range(KERNEL):
        r = line * STRIDE - PADDING + tap * DILATION
        fits = (line < out_height) & (r >= 0) & (r < height)
        w = weight + tap * KERNEL * channels + channel
        for step in tl.static_range(3 * STRIDE + KERNEL):
            c = first * STRIDE - PADDING + step * DILATION
            inside = fits & (c >= 0) & (c < width)
            place = ((r * width + c) * x_cell)[:, None] + channel[None, :]
            value = tl.load(x + place, mask=inside[:, None] & known[None, :], other=0).to(tl.float32)
            sum0 = _add(sum0, value, w, channels, known, step, KERNEL)
            sum1 = _add(sum1, value, w, channels, known, step - STRIDE, KERNEL)
            sum2 = _add(sum2, value, w, channels, known, step - 2 * STRIDE, KERNEL)
            sum3 = _add(sum3, value, w, channels, known, step - 3 * STRIDE, KERNEL)
    y += target * out_height * out_width * y_cell
    _store(y, sum0, line, first, out_height, out_width, y_cell, channel, known, ACTIVATION)
    _store(y, sum1, line, first + DILATION, out_height, out_width, y_cell, channel, known, ACTIVATION)
    _store(y, sum2, line, first + 2 * DILATION, out_height, out_width, y_cell, channel, known, ACTIVATION)
    _store(y, sum3, line, first + 3 * DILATION, out_height, out_width, y_cell, channel, known, ACTIVATION)


@triton.jit
def _add(total, value, weights, channels, known, tap: tl.constexpr, KERNEL: tl.constexpr):
    """Return the sum with a value's share, if the tap is one of the kernel's row."""
    if (tap >= 0) and (tap < KERNEL):
        total += value * tl.load(weights + tap * channels, mask=known, other=0).to(tl.float32)[None, :]
    return total


@triton.jit
def _store(y, value, line, column, height, width, cell, channel, known, ACTIVATION: tl.constexpr):
    if ACTIVATION > 0:
        value = tl.maximum(value, 0.0)
    if ACTIVATION == 2:
        value = tl.minimum(value, 6.0)
    place = ((line * width + column) * cell)[:, None] + channel[None, :]
    tl.store(y + place, value, mask=((line < height) & (column < width))[:, None] & known[None, :])


def depthwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor, rows: Tensor | None, kernel: int,
    stride: int, padding: int, dilation: int, activation: int,
) -> None:  # fmt: skip
    """See :func:`siamtrack.runtimes.device_ops.depthwise` and ``correlate``.

    Shapes: x [B, H, W, C]; y [B, H', W', C]; weight [k k, C], or with ``rows`` [R, k k, C].

    Raises:
        ValueError: both stride and dilation are above 1, which no network here has.
    """
    if stride > 1 and dilation > 1:
        raise ValueError(f"a depth-wise convolution of stride {stride} and dilation {dilation} is not known")
    count, height, width, channels = x.shape
    out_height, out_width = y.shape[1:3]
    wide = 32 if channels <= 32 or -channels % 64 >= 32 else 64
    block = 512 // wide
    strips = triton.cdiv(out_width, dilation * 4) * dilation * out_height
    grid = (triton.cdiv(strips, block), triton.cdiv(channels, wide), count)
    _depthwise[grid](
        x, weight, bias if bias is not None else weight, y, rows if rows is not None else weight,
        height, width, out_height, out_width, channels // 8, x.stride(2) // 8, y.stride(2) // 8,
        STRIDE=stride, PADDING=padding, DILATION=dilation, KERNEL=kernel, PER_TARGET=rows is not None,
        ACTIVATION=activation, BLOCK=block, CHANNELS=wide, num_warps=4,
    )  # fmt: skip


@triton.jit
def _pointwise(
    x, weight, bias, residual, y, cells, inputs8, outputs8, x_cell8, y_cell8,
    RESIDUAL: tl.constexpr, ACTIVATION: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(2)
    inputs, outputs, x_cell, y_cell = inputs8 * 8, outputs8 * 8, x_cell8 * 8, y_cell8 * 8
    cell = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    out = tl.program_id(1) * OUT + tl.arange(0, OUT)
    part = tl.arange(0, IN)
    x += group * inputs
    weight += group * inputs * outputs
    total = tl.zeros((BLOCK, OUT), tl.float32)
    for start in range(0, inputs, IN):
        known = start + part < inputs
        a = tl.load(
            x + (cell * x_cell)[:, None] + (start + part)[None, :],
            mask=(cell < cells)[:, None] & known[None, :], other=0,
        )  # fmt: skip
        b = tl.load(
            weight + (out * inputs)[None, :] + (start + part)[:, None],
            mask=(out < outputs)[None, :] & known[:, None], other=0,
        )  # fmt: skip
        total = tl.dot(a, b, total, input_precision=PRECISION)
    place = (cell * y_cell)[:, None] + (group * outputs + out)[None, :]
    valid = (cell < cells)[:, None] & (out < outputs)[None, :]
    total += tl.load(bias + group * outputs + out, mask=out < outputs, other=0).to(tl.float32)[None, :]
    if RESIDUAL:
        total += tl.load(residual + place, mask=valid, other=0).to(tl.float32)
    if ACTIVATION > 0:
        total = tl.maximum(total, 0.0)
    if ACTIVATION == 2:
        total = tl.minimum(total, 6.0)
    tl.store(y + place, total, mask=valid)


def pointwise(
    x: Tensor, weight: Tensor, bias: Tensor, y: Tensor, residual: Tensor | None, groups: int, activation: int
) -> None:
    """See :func:`siamtrack.runtimes.device_ops.pointwise`.

    Shapes: x [M, groups K] and y [M, groups N], rows may lie apart; weight [groups, N, K]; residual as y.
    """
    cells = x.shape[0]
    _, outputs, inputs = weight.shape
    block = 128 if cells >= 8192 else 64 if cells >= 2048 else 32
    out = 128 if outputs > 64 and cells >= 8192 else 64 if outputs > 32 else 32
    grid = (triton.cdiv(cells, block), triton.cdiv(outputs, out), groups)
    _pointwise[grid](
        x, weight, bias, residual if residual is not None else y, y, cells,
        inputs // 8, outputs // 8, x.stride(0) // 8, y.stride(0) // 8,
        RESIDUAL=residual is not None, ACTIVATION=activation, PRECISION="ieee",
        BLOCK=block, OUT=out, IN=32 if inputs <= 32 else 64, num_warps=8 if block * out > 8192 else 4, num_stages=3,
    )  # fmt: skip


@triton.jit
def _change(ratio):
    return tl.maximum(ratio, 1 / ratio)


@triton.jit
def _padded(w, h):
    padding = (w + h) / 2
    return tl.sqrt((w + padding) * (h + padding))


@triton.jit
def _choose(
    response, stride, anchors, window, rows, owner, sizes, center, size, smallest, lost, answers,
    cells, per_cell, output, template, penalty_k, influence, lost_influence, lr, low, high,
    LONGTERM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    target = tl.program_id(0)
    row = tl.load(rows + target)
    frame = tl.load(owner + target)
    cx, cy, side = _square(center, size, row, output, template, True)
    scale = output / side
    w, h = tl.load(size + 2 * row), tl.load(size + 2 * row + 1)
    last_w, last_h = (w * scale).to(tl.float32), (h * scale).to(tl.float32)
    missed = tl.load(lost + row)
    share = influence
    if LONGTERM:
        share = tl.where(missed > 0, lost_influence, influence)
    count = cells * cells * per_cell
    best = -1.0e30
    chosen = 0
    for start in range(0, count, BLOCK):
        place = start + tl.arange(0, BLOCK)
        valid = place < count
        anchor, cell = place // (cells * cells), place % (cells * cells)
        at = response + (target.to(tl.int64) * cells * cells + cell) * stride + anchor
        background = tl.load(at, mask=valid, other=0.0)
        foreground = tl.load(at + per_cell, mask=valid, other=0.0)
        dw = tl.load(at + 4 * per_cell, mask=valid, other=0.0)
        dh = tl.load(at + 5 * per_cell, mask=valid, other=0.0)
        pw = tl.exp(tl.minimum(tl.maximum(dw, -4.0), 4.0)) * tl.load(anchors + 4 * place + 2, mask=valid, other=1.0)
        ph = tl.exp(tl.minimum(tl.maximum(dh, -4.0), 4.0)) * tl.load(anchors + 4 * place + 3, mask=valid, other=1.0)
        score = 1 / (1 + tl.exp(tl.minimum(tl.maximum(background - foreground, -80.0), 80.0)))
        change = _change(_padded(pw, ph) / _padded(last_w, last_h)) * _change((last_w / last_h) / (pw / ph))
        penalty = tl.exp((1 - change) * penalty_k)
        rank = penalty * score * (1 - share) + tl.load(window + place, mask=valid, other=0.0) * share
        rank = tl.where(valid & (rank == rank), rank, -1.0e30)
        top = tl.max(rank, 0)
        first = tl.min(tl.where(rank == top, place, count), 0)
        chosen = tl.where(top > best, first, chosen)
        best = tl.maximum(best, top)
    anchor, cell = chosen // (cells * cells), chosen % (cells * cells)
    at = response + (target.to(tl.int64) * cells * cells + cell) * stride + anchor
    aw, ah = tl.load(anchors + 4 * chosen + 2), tl.load(anchors + 4 * chosen + 3)
    dx, dy = tl.load(at + 2 * per_cell), tl.load(at + 3 * per_cell)
    dw, dh = tl.load(at + 4 * per_cell), tl.load(at + 5 * per_cell)
    px, py = dx * aw + tl.load(anchors + 4 * chosen), dy * ah + tl.load(anchors + 4 * chosen + 1)
    pw = tl.exp(tl.minimum(tl.maximum(dw, -4.0), 4.0)) * aw
    ph = tl.exp(tl.minimum(tl.maximum(dh, -4.0), 4.0)) * ah
    logit = tl.load(at) - tl.load(at + per_cell)
    score = 1 / (1 + tl.exp(tl.minimum(tl.maximum(logit, -80.0), 80.0)))
    score = tl.where(logit == logit, score, logit)  # not a number stays so
    change = _change(_padded(pw, ph) / _padded(last_w, last_h)) * _change((last_w / last_h) / (pw / ph))
    rate = (score.to(tl.float64) * tl.exp((1 - change) * penalty_k).to(tl.float64)) * lr
    believed = score.to(tl.float64) >= low
    x = tl.where(believed, cx + px.to(tl.float64) / scale, tl.load(center + 2 * row))
    y = tl.where(believed, cy + py.to(tl.float64) / scale, tl.load(center + 2 * row + 1))
    new_w = tl.where(believed, w * (1 - rate) + pw.to(tl.float64) / scale * rate, w)
    new_h = tl.where(believed, h * (1 - rate) + ph.to(tl.float64) / scale * rate, h)
    frame_h, frame_w = tl.load(sizes + 2 * frame).to(tl.float64), tl.load(sizes + 2 * frame + 1).to(tl.float64)
    x, y = tl.minimum(tl.maximum(x, 0.0), frame_w), tl.minimum(tl.maximum(y, 0.0), frame_h)
    least_w, least_h = tl.load(smallest + 2 * row), tl.load(smallest + 2 * row + 1)
    new_w = tl.minimum(tl.maximum(new_w, tl.minimum(least_w, frame_w)), frame_w)
    new_h = tl.minimum(tl.maximum(new_h, tl.minimum(least_h, frame_h)), frame_h)
    if LONGTERM:
        found = believed & ((missed == 0) | (score.to(tl.float64) > high))
        missed = tl.where(found, 0, missed + 1)
        tl.store(lost + row, missed)
    tl.store(center + 2 * row, x)
    tl.store(center + 2 * row + 1, y)
    tl.store(size + 2 * row, new_w)
    tl.store(size + 2 * row + 1, new_h)
    answer = answers + 11 * target
    tl.store(answer, x - new_w / 2)
    tl.store(answer + 1, y - new_h / 2)
    tl.store(answer + 2, new_w)
    tl.store(answer + 3, new_h)
    tl.store(answer + 4, score)
    tl.store(answer + 5, missed)
    tl.store(answer + 6, cell // cells)
    tl.store(answer + 7, cell % cells)
    tl.store(answer + 8, cx)
    tl.store(answer + 9, cy)
    tl.store(answer + 10, side)


def choose(
    response: Tensor, anchors: Tensor, window: Tensor, rows: Tensor, owner: Tensor, sizes: Tensor,
    center: Tensor, size: Tensor, smallest: Tensor, lost: Tensor, answers: Tensor, cells: int, output: int,
    template: int, rates: tuple[float, ...], longterm: bool,
) -> None:  # fmt: skip
    """See :func:`siamtrack.runtimes.device_ops.choose`. Shape: response [B, m m, R], rows contiguous."""
    per_cell = len(anchors) // (cells * cells)
    _choose[(len(rows),)](
        response, response.stride(1), anchors, window, rows, owner, sizes, center, size, smallest, lost, answers,
        cells, per_cell, output, template, *rates, LONGTERM=longterm, BLOCK=2048, num_warps=8,
    )  # fmt: skip


@triton.jit
def _logit(logits, x, y, side):
    inside = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    value = tl.load(logits + y * side + x, mask=inside, other=0.0).to(tl.float32)
    return tl.where(inside, 1 / (1 + tl.exp(tl.minimum(tl.maximum(-value, -80.0), 80.0))), 0.0)


@triton.jit
def _paste(logits, answers, owner, sizes, masks, capacity, side, output, cells, stride, threshold, BLOCK: tl.constexpr):
    target = tl.program_id(1)
    frame = tl.load(owner + target)
    height, width = tl.load(sizes + 2 * frame), tl.load(sizes + 2 * frame + 1)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    answer = answers + 11 * target
    region = tl.load(answer + 10)
    pixel = region / output
    cx = tl.load(answer + 8) + (tl.load(answer + 7) - cells // 2) * stride * pixel
    cy = tl.load(answer + 9) + (tl.load(answer + 6) - cells // 2) * stride * pixel
    extent = side * pixel
    step = extent / side
    scale = step / (step * step)
    left = (-scale * (cx - extent / 2 + step / 2 - 0.5)).to(tl.float32)
    top = (-scale * (cy - extent / 2 + step / 2 - 0.5)).to(tl.float32)
    x = (place % width).to(tl.float32) * scale.to(tl.float32) + left
    y = (place // width).to(tl.float32) * scale.to(tl.float32) + top
    x, y = tl.minimum(tl.maximum(x, -1e6), 1e6), tl.minimum(tl.maximum(y, -1e6), 1e6)
    x0, y0 = tl.floor(x), tl.floor(y)
    right, below = x - x0, y - y0
    xi, yi = x0.to(tl.int32), y0.to(tl.int32)
    logits += target * side * side
    a, b = _logit(logits, xi, yi, side), _logit(logits, xi + 1, yi, side)
    c, d = _logit(logits, xi, yi + 1, side), _logit(logits, xi + 1, yi + 1, side)
    upper, lower = a + right * (b - a), c + right * (d - c)
    drawn = (upper + below * (lower - upper) > threshold).to(tl.uint8)
    tl.store(masks + target.to(tl.int64) * capacity + place, drawn, mask=place < width * height)


def paste(
    logits: Tensor, answers: Tensor, owner: Tensor, sizes: Tensor, masks: Tensor, output: int, cells: int,
    stride: int, threshold: float,
) -> None:  # fmt: skip
    """See :func:`siamtrack.runtimes.device_ops.paste`. Shape: masks [B, capacity]."""
    block = 1024
    grid = (triton.cdiv(masks.shape[1], block), len(masks))
    _paste[grid](
        logits, answers, owner, sizes, masks, masks.shape[1], logits.shape[-1], output, cells, stride, threshold,
        BLOCK=block,
    )  # fmt: skip
