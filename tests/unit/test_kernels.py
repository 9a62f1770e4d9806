"""Triton's kernels against plain torch: on a GPU, or with ``TRITON_INTERPRET=1`` on a CPU where Triton is installed."""

import os
from importlib.util import find_spec

import pytest
import torch

from siamtrack.runtimes import device_ops as ops

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.skipif(
    not find_spec("triton") or (DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1"),
    reason="needs a GPU, or Triton and TRITON_INTERPRET=1",
)


@pytest.fixture(autouse=True)
def full_precision():
    """Compute what is compared with without TF32."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture
def both(monkeypatch):
    """Return a function that computes something twice, with kernels and without."""

    def compute(work):
        results = []
        for kernels in (True, False):
            monkeypatch.setattr(ops, "uses_kernels", lambda tensor, kernels=kernels: kernels)
            results.append(work())
        return results

    return compute


def cells(*shape):
    """Return a random channels-last tensor."""
    return torch.randn(*shape, device=DEVICE).contiguous(memory_format=torch.channels_last)


def targets(count, spread=1.0):
    torch.manual_seed(1)
    return ops.Targets(
        center=torch.rand(count, 2, dtype=torch.float64, device=DEVICE) * 90 * spread,
        size=torch.rand(count, 2, dtype=torch.float64, device=DEVICE) * 40 + 5,
        smallest=torch.full((count, 2), 10.0, dtype=torch.float64, device=DEVICE),
        fill=torch.randint(0, 255, (count, 3), dtype=torch.uint8, device=DEVICE),
        lost=torch.arange(count, dtype=torch.int32, device=DEVICE) % 3,
    )


SIZES = ((60, 90), (70, 50))


def frames():
    capacity = 15000
    pixels = torch.randint(0, 255, (2 * capacity,), dtype=torch.uint8, device=DEVICE)
    return ops.Frames(pixels, torch.tensor(SIZES, dtype=torch.int32, device=DEVICE), capacity)


ROWS = torch.tensor([3, 1, 2], device=DEVICE)
OWNER = torch.tensor([0, 1, 1], dtype=torch.int32, device=DEVICE)


@pytest.mark.parametrize(("output", "template"), [(63, 31), (31, 31)])
def test_crop(both, output, template):
    shown, table = frames(), targets(4)
    ours, theirs = both(lambda: ops.crop(shown, OWNER, table, ROWS, output, template, torch.float32))
    differs = (ours - theirs).abs()
    assert differs.max() <= (0 if DEVICE == "cuda" else 1)  # the interpreter rounds a fused product twice
    assert (differs > 0).float().mean() < 0.01
    assert ours.stride() == theirs.stride()


@pytest.mark.parametrize(("kernel", "stride", "dilation", "activation"), [(3, 1, 2, 2), (5, 2, 1, 1), (3, 1, 1, 0)])
def test_depthwise(both, kernel, stride, dilation, activation):
    x, padding = cells(2, 40, 11, 13), dilation * (kernel // 2)
    weight, bias = torch.randn(kernel * kernel, 40, device=DEVICE), torch.randn(40, device=DEVICE)
    ours, theirs = both(lambda: ops.depthwise(x, weight, bias, kernel, stride, padding, dilation, activation))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_correlation(both):
    x, templates = cells(3, 24, 9, 9), torch.randn(4, 25, 24, device=DEVICE)
    ours, theirs = both(lambda: ops.correlate(x, templates, ROWS))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("activation", [ops.NONE, ops.RELU, ops.RELU6])
def test_pointwise(both, activation):
    x, residual = cells(2, 72, 6, 7), cells(2, 40, 6, 7)
    weight, bias = torch.randn(1, 40, 72, device=DEVICE), torch.randn(40, device=DEVICE)
    ours, theirs = both(lambda: ops.pointwise(x, weight, bias, residual=residual, activation=activation))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_pointwise_in_groups_writes_into_a_part(both):
    x, weight, bias = cells(2, 56, 6, 7), torch.randn(2, 32, 24, device=DEVICE), torch.randn(64, device=DEVICE)

    def work():
        whole = torch.zeros(2, 80, 6, 7, device=DEVICE).contiguous(memory_format=torch.channels_last)
        ops.pointwise(x, weight, bias, whole[:, 8:72], activation=ops.RELU)
        return whole

    ours, theirs = both(work)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("longterm", [False, True])
def test_choose(both, longterm):
    torch.manual_seed(2)
    anchors = torch.rand(75 * 5, 4, device=DEVICE) * 30 + 8
    anchors = anchors[: 5 * 25]
    response = torch.randn(3, 25, 32, device=DEVICE)
    window = torch.rand(125, device=DEVICE)
    rules = ops.Rules(anchors, window, 63, 31, 5, 0.1, 0.3, 0.001, 0.4, 0.9 if longterm else 0.0, 0.95, longterm)
    sizes = frames().sizes

    def work():
        table, answers = targets(4), torch.zeros(3, ops.ANSWER, dtype=torch.float64, device=DEVICE)
        ops.choose(response, rules, table, ROWS, OWNER, sizes, answers)
        return answers, *table

    for ours, theirs in zip(*both(work), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_paste(both):
    torch.manual_seed(0)
    coarse = torch.randn(3, 1, 6, 6, device=DEVICE)
    logits = torch.nn.functional.interpolate(coarse, (127, 127), mode="bilinear")[:, 0] * 4
    rules = ops.Rules(coarse, coarse, 255, 127, 25, 0, 0, 0, 0, 0, 0, False)
    answers = torch.zeros(3, ops.ANSWER, dtype=torch.float64, device=DEVICE)
    answers[:, 6:] = torch.tensor([[12, 13, 40, 30, 60], [14, 9, 20, 50, 130], [12, 12, 45, 30, 25]])

    def work():
        masks = torch.zeros(3, 6000, dtype=torch.uint8, device=DEVICE)
        ops.paste(logits, answers, OWNER, frames().sizes, masks, rules, 8, 0.5)
        return masks

    ours, theirs = both(work)
    assert theirs.any(1).all()
    assert (ours != theirs).float().mean() < 1e-3
