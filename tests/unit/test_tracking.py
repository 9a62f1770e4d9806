"""Crop, anchors, decoding and the step, each against a direct definition."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from siamtrack.models import zoo
from siamtrack.models.config import AnchorConfig
from siamtrack.models.prediction import Prediction
from siamtrack.tracking import distractors
from siamtrack.tracking.anchors import anchor_grid, anchor_shapes
from siamtrack.tracking.config import AdaptiveConfig, DistractorConfig, LongTermConfig, TrackingConfig
from siamtrack.tracking.core import TrackerCore
from siamtrack.tracking.crop import context_side, crop, snap
from siamtrack.tracking.decode import Candidates, decode
from siamtrack.tracking.mask import paste, rotated_rectangle
from siamtrack.tracking.shortterm import change_penalty

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


def test_crop_at_whole_pixels_is_a_slice():
    # 31 pixels about the continuous 60.5 are the pixels 45 to 75.
    patches = crop([IMAGE], np.array([[60.5, 40.5]]), np.array([31.0]), 31, FILL)
    assert np.array_equal(patches[0], IMAGE[25:56, 45:76])


def test_crop_is_bilinear_about_the_exact_centre():
    smooth = cv2.GaussianBlur(IMAGE, (0, 0), 3)
    center, side, size = (57.3, 41.8), 33.7, 64
    patch = crop([smooth], np.array([center]), np.array([side]), size, FILL)[0]
    for u, v in ((0, 0), (63, 5), (20, 40)):
        x, y = (center[axis] + (w + 0.5 - size / 2) * side / size - 0.5 for axis, w in enumerate((u, v)))
        expected = cv2.getRectSubPix(smooth, (1, 1), (x, y))[0, 0].astype(int)
        assert np.abs(patch[v, u] - expected).max() <= 2  # OpenCV's warp counts in 1/32 pixels


def test_crop_of_a_flat_picture_on_its_own_colour_is_flat():
    flat = np.full((50, 60, 3), (90, 120, 200), np.uint8)
    patches = crop([flat], np.array([[58.0, 2.0]]), np.array([47.3]), 64, flat[0, :1])
    assert (patches == flat[0, 0]).all()


def test_squares_lie_on_a_grid_of_an_eighth_to_a_quarter_of_the_crops_pixels():
    rng = np.random.default_rng(0)
    center, side = rng.uniform(0, 2000, (500, 2)), np.exp(rng.uniform(1, 9, 500))
    snapped, length = snap(center, side, 255)
    pixel = side / 255
    assert (np.abs(snapped - center) <= pixel[:, None] / 8).all()
    assert (np.abs(length - side) <= pixel / 8).all()
    again, same = snap(center * (1 + 1e-9), side * (1 + 1e-9), 255)
    np.testing.assert_array_equal(again, snapped)  # differences in the last digits are gone
    np.testing.assert_array_equal(same, length)
    assert len(np.unique(np.abs(snapped - center) > pixel[:, None] / 40)) == 2  # it is not the identity


@pytest.mark.parametrize("center", [(2, 3), (118, 88), (-300, 40), (60, 400), (0, 0), (60.4, 44.6)])
@pytest.mark.parametrize("side", [20.4, 51, 300])
def test_legacy_crop_equals_padding_first(center, side):
    patches = crop([IMAGE], np.array([center], float), np.array([side]), 64, FILL, legacy=True)
    pad, length = 700, round(side)
    padded = cv2.copyMakeBorder(IMAGE, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=FILL[0].tolist())
    left, top = (int(np.floor(c - (length + 1) / 2 + 0.5)) for c in center)
    expected = cv2.resize(padded[top + pad : top + pad + length, left + pad : left + pad + length], (64, 64))
    assert np.array_equal(patches[0], expected)


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


@pytest.mark.parametrize("value", [1e4, -1e4])
def test_decode_survives_wild_logits(value):
    cls, loc = (np.full(shape, value, np.float32) for shape in ((1, 10, 5, 5), (1, 20, 5, 5)))
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
        return (np.zeros((len(patches), 1, 1, 1)),)

    def search(self, patches, features):
        cells = CONFIG.response_cells(patches.shape[1])
        cls = np.zeros((len(patches), 10, cells, cells), np.float32)
        loc = np.zeros((len(patches), 20, cells, cells), np.float32)
        anchor, row, column = self.place
        cls[:, 5:] = -20
        cls[:, 5 + anchor, row, column] = 20
        for part, offset in enumerate(self.offsets):
            loc[:, part * 5 + anchor, row, column] = offset
        return Prediction(*(map(torch.from_numpy, (cls, loc)) if self.namespace is torch else (cls, loc)))


CONFIG = zoo.load("siamrpnpp_lite").model


@pytest.mark.parametrize("namespace", [np, torch])
def test_step_moves_to_the_best_candidate(namespace):
    config = TrackingConfig(penalty_k=0, window_influence=0, lr=1)
    core = TrackerCore(Pointing(2, 12, 14, namespace=namespace), CONFIG, config)
    frame = np.zeros((400, 400, 3), np.uint8)
    state = core.init([frame, frame], np.array([[180, 180, 63.5, 63.5], [100, 120, 63.5, 63.5]]))
    state, found = core.step([frame, frame], state)
    # s = 127, so a pixel of the search region is a pixel of the frame; 2 cells of 8 pixels to the right.
    assert found.boxes[0] == pytest.approx([211.75 + 16 - 32, 211.75 - 32, 64, 64], abs=0.01)
    assert found.boxes[1, :2] == pytest.approx([131.75 + 16 - 32, 151.75 - 32], abs=0.01)
    assert found.scores == pytest.approx([1, 1])
    assert state.take([1]).center.shape == (1, 2)


def test_step_keeps_the_box_in_the_frame_and_the_size_above_its_floor():
    config = TrackingConfig(penalty_k=0, window_influence=0, lr=1)
    core = TrackerCore(Pointing(0, 0, 0, (0, 0, -4, -4)), CONFIG, config)
    frame = np.zeros((100, 100, 3), np.uint8)
    state = core.init([frame, frame], np.array([[2, 2, 30, 30], [2, 2, 3, 40]], float))
    for _ in range(5):
        state, found = core.step([frame, frame], state)
    assert (state.center == 0).all()
    assert found.boxes[:, 2:].tolist() == [[10, 10], [3, 10]]  # a target that began smaller may stay so


def test_the_window_prefers_the_middle():
    frame = np.zeros((400, 400, 3), np.uint8)
    calm = TrackerCore(Pointing(2, 0, 0), CONFIG, TrackingConfig(window_influence=1.0))
    state = calm.init([frame], np.array([[180.0, 180.0, 64.0, 64.0]]))
    _, found = calm.step([frame], state)
    assert found.boxes[0, :2] == pytest.approx([180, 180], abs=1)


class Random:
    """A network that answers at random, the same on every run, and notes what it was shown."""

    def __init__(self):
        self.shown = []

    def template(self, patches):
        self.shown.append(patches)
        return (np.zeros((len(patches), 1, 1, 1)),)

    def search(self, patches, features):
        self.shown.append(patches)
        rng = np.random.default_rng(len(self.shown))
        cls = rng.normal(size=(len(patches), 10, 25, 25)).astype(np.float32)
        loc = (rng.normal(size=(len(patches), 20, 25, 25)) * 0.3).astype(np.float32)
        self.cls, self.loc = cls, loc
        return Prediction(cls, loc)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_step_follows_the_specification_by_loops(legacy):
    """One target with random responses against SiamRPN's rules written out anchor by anchor; with PySOT's quirks."""
    rng = np.random.default_rng(5)
    frames = [rng.integers(0, 255, (240, 320, 3), np.uint8) for _ in range(6)]
    config = TrackingConfig(penalty_k=0.11, window_influence=0.35, lr=0.4, legacy=legacy)
    network = Random()
    core = TrackerCore(network, CONFIG, config)
    box = np.array([140.0, 90.0, 44.0, 31.0])
    state = core.init(frames[:1], box[None])
    fill = frames[0].mean((0, 1)).astype(np.uint8)[None]
    cx, cy, w, h = box[0] + (box[2] - legacy) / 2, box[1] + (box[3] - legacy) / 2, box[2], box[3]

    def side(w, h):
        return np.sqrt((w + (w + h) / 2) * (h + (w + h) / 2))

    def cut(frame, region, size):
        return crop([frame], np.array([[cx, cy]]), np.array([region]), size, fill, legacy)

    assert np.array_equal(network.shown[0], cut(frames[0], side(w, h), 127))
    hann = np.hanning(25)
    anchors = anchor_grid(AnchorConfig(), 25)
    for frame in frames[1:]:
        state, found = core.step([frame], state)
        region = side(w, h) * 255 / 127
        if not legacy:
            grid = 2.0 ** np.floor(np.log2(region / 255 / 4))
            cx, cy, region = (round(value / grid) * grid for value in (cx, cy, region))
        assert np.array_equal(network.shown[-1], cut(frame, region, 255))
        scale = 255 / region
        best = (-1.0,)
        for index, (ax, ay, aw, ah) in enumerate(anchors):
            a, row, column = index // 625, index // 25 % 25, index % 25
            background, foreground = network.cls[0, a, row, column], network.cls[0, 5 + a, row, column]
            score = np.exp(foreground) / (np.exp(background) + np.exp(foreground))
            dx, dy, dw, dh = (network.loc[0, 5 * part + a, row, column] for part in range(4))
            px, py, pw, ph = dx * aw + ax, dy * ah + ay, np.exp(dw) * aw, np.exp(dh) * ah
            s_change = side(pw, ph) / side(w * scale, h * scale)
            r_change = (w / h) / (pw / ph)
            penalty = np.exp(-(max(s_change, 1 / s_change) * max(r_change, 1 / r_change) - 1) * 0.11)
            ranked = penalty * score * 0.65 + hann[row] * hann[column] * 0.35
            if ranked > best[0]:
                best = (ranked, px / scale, py / scale, pw / scale, ph / scale, score, penalty)
        _, px, py, pw, ph, score, penalty = best
        rate = penalty * score * 0.4
        cx, cy = np.clip(cx + px, 0, 320), np.clip(cy + py, 0, 240)
        w, h = np.clip(w * (1 - rate) + pw * rate, 10, 320), np.clip(h * (1 - rate) + ph * rate, 10, 240)
        assert found.boxes[0] == pytest.approx([cx - w / 2, cy - h / 2, w, h], rel=1e-4)
        assert found.scores[0] == pytest.approx(score, rel=1e-4)
        assert not found.lost[0]


class Scripted(Pointing):
    """Certain of the middle, with a given score in each step."""

    def __init__(self, *scores):
        super().__init__(2, 0, 0)
        self.scores, self.sizes = list(scores), []

    def search(self, patches, features):
        self.sizes.append(patches.shape[1])
        cells = CONFIG.response_cells(patches.shape[1])
        self.place = (2, cells // 2, cells // 2 + 1)
        prediction = super().search(patches, features)
        logit = np.log(self.scores[0] / (1 - self.scores[0]))
        prediction.cls[:, 5:] = np.where(prediction.cls[:, 5:] > 0, logit, -20)
        self.scores.pop(0)
        return prediction


def test_long_term_states_and_search_regions():
    rules = LongTermConfig(low=0.8, high=0.95, search_sizes=(511, 831), window_influence=0.001)
    config = TrackingConfig(penalty_k=0, window_influence=0, lr=0, longterm=rules)
    network = Scripted(0.9, 0.5, 0.5, 0.9, 0.96, 0.9)
    core = TrackerCore(network, CONFIG, config)
    frame = np.zeros((400, 400, 3), np.uint8)
    state = core.init([frame], np.array([[180.0, 180.0, 63.5, 63.5]]))
    steps = []
    for _ in range(6):
        state, found = core.step([frame], state)
        steps.append((bool(found.lost[0]), round(float(state.center[0, 0] - 211.75))))
    # .9: followed. .5: lost, the position is kept. .5: still. .9: believed, but not found. .96: found.
    assert steps == [(False, 8), (True, 8), (True, 8), (True, 16), (False, 24), (False, 32)]
    assert network.sizes == [255, 255, 511, 831, 831, 255]
    again = core.init([frame], np.array([[180.0, 180.0, 63.5, 63.5]]))
    assert again.lost.tolist() == [0]  # a new start is never lost


def test_lost_and_followed_targets_share_a_step():
    """Targets with different search regions go apart through the network and come back in their order."""
    config = TrackingConfig(penalty_k=0, window_influence=0, lr=0, longterm=LongTermConfig(low=0.5, high=0.9))
    core = TrackerCore(Pointing(2, 12, 14), CONFIG, config)
    frame = np.zeros((900, 900, 3), np.uint8)
    boxes = np.array([[100, 100, 63.5, 63.5], [300, 300, 63.5, 63.5], [500, 500, 63.5, 63.5]])
    state = replace(core.init([frame] * 3, boxes), lost=np.array([0, 2, 0]))
    sizes = []
    search = core.network.search

    def noting(patches, features):
        sizes.append((len(patches), patches.shape[1]))
        return search(patches, features)

    core.network.search = noting
    state, found = core.step([frame] * 3, state)
    assert sorted(sizes) == [(1, 831), (2, 255)]
    middles = found.boxes[:, :2] + found.boxes[:, 2:] / 2
    assert middles[0] == pytest.approx([131.75 + 16, 131.75])
    assert middles[2] == pytest.approx([531.75 + 16, 531.75])
    # Cell (12, 14) of 97 is far to the upper left of the middle, (48, 48).
    assert middles[1] == pytest.approx([331.75 + (14 - 48) * 8, 331.75 + (12 - 48) * 8], abs=0.01)
    assert found.lost.tolist() == [False, False, False]


def test_small_objects_get_a_larger_region():
    config = TrackingConfig(search_size=271, adaptive=AdaptiveConfig(share=0.004, search_size=287))
    core = TrackerCore(Pointing(2, 12, 14), CONFIG, config)
    frame = np.zeros((100, 100, 3), np.uint8)
    state = core.init([frame, frame], np.array([[10, 10, 6, 6], [10, 10, 7, 6]], float))
    assert state.search_size.tolist() == [287, 271]


def test_distractors_are_apart_and_nearly_as_good():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [30, 0, 10, 10], [31, 0, 10, 10], [60, 0, 10, 10], [90, 0, 9, 9]])
    rank = np.array([0.9, 0.85, 0.7, 0.75, 0.6, 0.3])
    found = distractors.find(boxes.astype(float), rank, DistractorConfig(threshold=0.6, most=3))
    assert found[:, 0].tolist() == [31, 60]
    assert len(distractors.find(boxes.astype(float), rank, DistractorConfig(threshold=0.6, most=1))) == 1


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_distractors_are_subtracted_as_a_mean_over_time(convert):
    rng = np.random.default_rng(0)
    kernels = rng.normal(size=(2, 3, 4, 4))
    seen = [rng.normal(size=(2, 3, 4, 4)), rng.normal(size=(1, 3, 4, 4))]  # frame 1: two; frame 2: one; both target 1's
    memory = distractors.empty_memory((convert(kernels),))
    for each in seen:
        memory = distractors.add(memory, (convert(each),), np.ones(len(each), int), 0.01)
    (adjusted,) = distractors.subtract((convert(kernels),), memory, 0.5)
    ratio = 0.01 / 0.99
    weights = [1, 1 + ratio]
    mean = (weights[0] * seen[0].mean(0) + weights[1] * seen[1][0]) / sum(weights)
    np.testing.assert_allclose(np.asarray(adjusted)[0], kernels[0])
    np.testing.assert_allclose(np.asarray(adjusted)[1], kernels[1] - 0.5 * mean)


def test_a_mask_is_pasted_where_its_cell_is():
    logits = np.full((127, 127), -9.0, np.float32)
    logits[40:90, 30:100] = 9
    mask = paste(logits, np.array([200.0, 150.0]), 254.0, (400, 300)) > 0.5
    # Two pixels of the frame for one of the mask: rows 40..89 are 150 + 2 (40 - 63.5) = 103 to 203.
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert (rows[0], rows[-1]) == (103, 202)
    assert (columns[0], columns[-1]) == (133, 272)
    corners = rotated_rectangle(mask, np.zeros(4))
    assert sorted(corners.round().astype(int).tolist()) == [[133, 103], [133, 202], [272, 103], [272, 202]]


def test_a_mask_too_small_gives_the_box():
    mask = np.zeros((50, 50), bool)
    mask[10:15, 10:15] = True
    assert rotated_rectangle(mask, np.array([1.0, 2, 3, 4])).tolist() == [[1, 2], [4, 2], [4, 6], [1, 6]]
