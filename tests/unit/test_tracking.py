"""Crop, anchors, decoding and the step, each against a direct definition."""

import cv2
import numpy as np
import pytest
import torch

from siamtrack.models.config import AnchorConfig, ModelConfig
from siamtrack.tracking.anchors import anchor_grid, anchor_shapes
from siamtrack.tracking.crop import context_side, crop
from siamtrack.tracking.decode import Candidates, decode
from siamtrack.tracking.shortterm import ShortTerm, TrackingConfig, change_penalty

IMAGE = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
FILL = np.array([[10, 20, 30]], np.uint8)


def test_anchor_shapes_are_the_papers():
    # Width x height of ratios .33 .5 1 2 3 at base area 64 and scale 8, as PySOT rounds them.
    assert anchor_shapes(AnchorConfig()).tolist() == [[104, 32], [88, 40], [64, 64], [40, 80], [32, 96]]


def test_anchor_grid_runs_over_anchors_then_rows_then_columns():
    grid = anchor_grid(AnchorConfig(), 25)
    assert grid.shape == (5 * 25 * 25, 4)
    index = 2 * 625 + 3 * 25 + 7  # third anchor, row 3, column 7
    assert grid[index].tolist() == [(7 - 12) * 8, (3 - 12) * 8, 64, 64]


def test_context_side():
    assert context_side(np.array([[40.0, 20.0]]))[0] == pytest.approx(np.sqrt((40 + 30) * (20 + 30)))


def test_crop_inside_is_a_slice():
    patches, window = crop([IMAGE], np.array([[60.0, 40.0]]), np.array([31.0]), 31, FILL)
    # 31 pixels about 60: from floor(60 - 15.5 + .5) = 45 to 75.
    assert np.array_equal(patches[0], IMAGE[25:56, 45:76])
    assert window.center.tolist() == [[60.5, 40.5]]
    assert window.side.tolist() == [31]


@pytest.mark.parametrize("center", [(2, 3), (118, 88), (-300, 40), (60, 400), (0, 0)])
@pytest.mark.parametrize("side", [20.4, 51, 300])
def test_crop_across_the_border_equals_padding_first(center, side):
    patches, window = crop([IMAGE], np.array([center], float), np.array([side]), 64, FILL)
    pad, length = 700, round(side)
    padded = cv2.copyMakeBorder(IMAGE, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=FILL[0].tolist())
    left, top = (int(np.floor(c - length / 2 + 0.5)) for c in center)
    expected = cv2.resize(padded[top + pad : top + pad + length, left + pad : left + pad + length], (64, 64))
    assert np.array_equal(patches[0], expected)
    assert window.center[0].tolist() == [left + length / 2, top + length / 2]


def response(seed: int, batch: int = 2, cells: int = 5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, 10, cells, cells)).astype("f4"), rng.normal(size=(batch, 20, cells, cells)).astype(
        "f4"
    )


def test_decode_follows_the_box_code():
    cls, loc = response(1)
    anchors = anchor_grid(AnchorConfig(), 5).astype("f4")
    boxes, scores = decode(cls, loc, anchors)
    anchor, row, column = 3, 1, 4
    index = anchor * 25 + row * 5 + column
    ax, ay, aw, ah = anchors[index]
    dx, dy, dw, dh = (loc[1, part * 5 + anchor, row, column] for part in range(4))
    expected = [dx * aw + ax, dy * ah + ay, np.exp(dw) * aw, np.exp(dh) * ah]
    assert boxes[1, index] == pytest.approx(expected, rel=1e-5)
    pair = np.exp([cls[1, anchor, row, column], cls[1, 5 + anchor, row, column]])
    assert scores[1, index] == pytest.approx(pair[1] / pair.sum(), rel=1e-5)


def test_decode_is_the_same_in_numpy_and_torch():
    cls, loc = response(2)
    anchors = anchor_grid(AnchorConfig(), 5).astype("f4")
    ours = decode(cls, loc, anchors)
    theirs = decode(*(torch.from_numpy(a) for a in (cls, loc, anchors)))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-5)


def test_decode_survives_wild_logits():
    cls, loc = (np.full(shape, 1e4, np.float32) for shape in ((1, 10, 5, 5), (1, 20, 5, 5)))
    boxes, scores = decode(cls, loc, anchor_grid(AnchorConfig(), 5).astype("f4"))
    assert np.isfinite(boxes).all()
    assert np.isfinite(scores).all()


def test_penalty_is_one_without_change_and_symmetric():
    size = np.array([[40.0, 20.0]])
    boxes = np.array([[[0, 0, 40, 20], [0, 0, 80, 40], [0, 0, 20, 10], [0, 0, 20, 40]]], float)
    penalty = change_penalty(Candidates(boxes, None), size, 0.1)[0]
    assert penalty[0] == 1
    assert penalty[1] == pytest.approx(np.exp(-0.1))  # twice the size
    assert penalty[2] == pytest.approx(penalty[1])  # half the size
    assert penalty[3] == pytest.approx(np.exp(-0.3))  # four times the ratio


class Pointing:
    """A network that is certain of one anchor with given offsets."""

    def __init__(self, anchor: int, row: int, column: int, offsets=(0.0, 0.0, 0.0, 0.0), namespace=np):
        self.place, self.offsets, self.namespace = (anchor, row, column), offsets, namespace

    def template(self, patches):
        return (np.arange(len(patches)),)

    def search(self, patches, features):
        cls = np.zeros((len(patches), 10, 25, 25), np.float32)
        loc = np.zeros((len(patches), 20, 25, 25), np.float32)
        anchor, row, column = self.place
        cls[:, 5:] = -20
        cls[:, 5 + anchor, row, column] = 20
        for part, offset in enumerate(self.offsets):
            loc[:, part * 5 + anchor, row, column] = offset
        return (torch.from_numpy(cls), torch.from_numpy(loc)) if self.namespace is torch else (cls, loc)


@pytest.mark.parametrize("namespace", [np, torch])
def test_step_moves_to_the_best_candidate(namespace):
    config = TrackingConfig(penalty_k=0, window_influence=0, lr=1)
    core = ShortTerm(Pointing(2, 12, 14, namespace=namespace), ModelConfig(), config)
    frame = np.zeros((400, 400, 3), np.uint8)
    state = core.init([frame, frame], np.array([[180, 180, 63.5, 63.5], [100, 120, 63.5, 63.5]]))
    state, found = core.step([frame, frame], state)
    # s = 127, so a pixel of the search region is a pixel of the frame; 2 cells of 8 pixels to the right. The window
    # about 211.75 is moved to whole pixels, about 211.5: that is where the network looked.
    assert found.boxes[0] == pytest.approx([211.5 + 16 - 32, 211.5 - 32, 64, 64], abs=0.02)
    assert found.boxes[1, :2] == pytest.approx([131.5 + 16 - 32, 151.5 - 32], abs=0.02)
    assert found.scores == pytest.approx([1, 1])
    assert state.take(np.array([1])).center.shape == (1, 2)


def test_step_keeps_the_box_in_the_frame_and_the_size_above_its_floor():
    config = TrackingConfig(penalty_k=0, window_influence=0, lr=1)
    core = ShortTerm(Pointing(0, 0, 0, (0, 0, -4, -4)), ModelConfig(), config)
    frame = np.zeros((100, 100, 3), np.uint8)
    state = core.init([frame, frame], np.array([[2, 2, 30, 30], [2, 2, 3, 40]], float))
    for _ in range(5):
        state, found = core.step([frame, frame], state)
    assert (state.center == 0).all()
    assert found.boxes[:, 2:].tolist() == [[10, 10], [3, 10]]  # a target that began smaller may stay so


def test_the_window_prefers_the_middle():
    frame = np.zeros((400, 400, 3), np.uint8)
    calm = ShortTerm(Pointing(2, 0, 0), ModelConfig(), TrackingConfig(window_influence=1.0))
    state = calm.init([frame], np.array([[180.0, 180.0, 64.0, 64.0]]))
    _, found = calm.step([frame], state)
    assert found.boxes[0, :2] == pytest.approx([180, 180], abs=1)
