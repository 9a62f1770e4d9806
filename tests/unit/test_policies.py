"""The rules of long-term tracking, distractors, masks and legacy mode, inside the step."""

import numpy as np
import pytest

from siamtrack.models import zoo
from siamtrack.models.prediction import Prediction
from siamtrack.tracking import distractors, longterm
from siamtrack.tracking.config import AdaptiveConfig, DistractorConfig, LongTermConfig, TrackingConfig
from siamtrack.tracking.core import TrackerCore
from siamtrack.tracking.crop import context_side, crop

MODEL = zoo.load("siamrpnpp_lite").model
CALM = {"penalty_k": 0, "window_influence": 0, "lr": 0}


class Peaks:
    """A network with a peak of a given logit at each of some cells, whose kernels are the mean of what they show."""

    def __init__(self, *peaks, offsets=(0.0, 0.0)):
        self.peaks, self.offsets, self.used = list(peaks), offsets, []

    def template(self, patches):
        return tuple(patches.mean((1, 2, 3)).reshape(-1, 1, 1, 1) for _ in range(3)) * 2

    def search(self, patches, features):
        self.used.append([float(feature[0, 0, 0, 0]) for feature in features])
        cells = MODEL.response_cells(patches.shape[1])
        cls, loc = (np.zeros((len(patches), n, cells, cells), np.float32) for n in (10, 20))
        cls[:, 5:] = -20
        for row, column, logit in self.peaks:
            cls[:, 5 + 2, cells // 2 + row, cells // 2 + column] = logit
        loc[:, :5], loc[:, 5:10] = self.offsets
        return Prediction(cls, loc, (np.zeros((len(patches), 1)),))

    def draw(self, context, cell):
        return np.full((len(cell), 127, 127), 9.0, np.float32)


def test_the_thresholds_belong_to_being_believed_and_to_being_lost():
    config = TrackingConfig(longterm=LongTermConfig(low=0.5, high=0.75))
    scores = np.array([0.49, 0.5, 0.75, 0.76, np.nan])
    assert longterm.believed(scores, config).tolist() == [False, True, True, True, False]
    assert longterm.next_lost(scores, np.zeros(5, int), config).tolist() == [1, 0, 0, 0, 1]
    assert longterm.next_lost(scores, np.full(5, 3), config).tolist() == [4, 4, 4, 0, 4]
    assert longterm.window_influence(np.array([0, 1]), config).tolist() == [0.42, 0.001]


def test_the_adaptive_bound_is_a_share_of_the_frame():
    core = TrackerCore(Peaks(), MODEL, TrackingConfig(adaptive=AdaptiveConfig(share=0.01, search_size=287)))
    frame = np.zeros((100, 100, 3), np.uint8)
    state = core.init([frame] * 3, np.array([[10, 10, 9.9, 10], [10, 10, 10, 10], [10, 10, 10.1, 10]], float))
    assert state.search_size.tolist() == [287, 255, 255]


@pytest.mark.parametrize(("legacy", "outside"), [(True, True), (False, False)])
def test_only_pysots_long_term_tracker_leaves_the_frame(legacy, outside):
    config = TrackingConfig(**CALM, longterm=LongTermConfig(low=0.1, high=0.9), legacy=legacy)
    core = TrackerCore(Peaks((-8, -8, 9.0)), MODEL, config)
    frame = np.zeros((100, 100, 3), np.uint8)
    state = core.init([frame], np.array([[10.0, 10.0, 30.0, 30.0]]))
    state, found = core.step([frame], state)
    assert (state.center[0] < 0).all() == outside
    assert (found.boxes[0, :2] + found.boxes[0, 2:] / 2).tolist() == [0, 0]


@pytest.mark.parametrize(("legacy", "size"), [(True, [10, 40]), (False, [4, 40])])
def test_small_objects_stay_small_except_in_legacy_mode(legacy, size):
    core = TrackerCore(Peaks((0, 0, 9.0)), MODEL, TrackingConfig(**CALM, legacy=legacy))
    frame = np.zeros((100, 100, 3), np.uint8)
    state = core.init([frame], np.array([[10.0, 10.0, 4.0, 40.0]]))
    _, found = core.step([frame], state)
    assert found.boxes[0, 2:].tolist() == size


def test_distractors_are_remembered_and_subtracted():
    rules = DistractorConfig(strength=0.5, threshold=0.5)
    core = TrackerCore(network := Peaks((0, 0, 4.0), (8, -9, 3.0)), MODEL, TrackingConfig(**CALM, distractors=rules))
    frame = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    frame[170:, :130] //= 4  # where the distractor is, it is dark
    state = core.init([frame], np.array([[120.0, 120.0, 63.5, 63.5]]))
    target = float(state.features[0][0, 0, 0, 0])
    for _ in range(2):
        state, _ = core.step([frame], state)
    middle = np.array([[151.75 - 9 * 8, 151.75 + 8 * 8]])
    box = np.array([[64.0, 64.0]])  # the anchor of ratio 1; a pixel of the search region is one of the frame
    shown = crop([frame], middle, context_side(box), 127, state.fill).mean()
    assert shown < 0.8 * target
    assert network.used[0] == pytest.approx([target] * 6)
    # Three kernels of classification less half the distractor's, three of regression as they were.
    assert network.used[1] == pytest.approx([target - 0.5 * shown] * 3 + [target] * 3, rel=2e-3)


def test_lost_targets_learn_no_distractors():
    rules = LongTermConfig(low=0.9, high=0.99, search_sizes=(255,))
    config = TrackingConfig(**CALM, longterm=rules, distractors=DistractorConfig(threshold=0.5))
    frame = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    learned = []
    for logit in (1.0, 5.0):
        core = TrackerCore(Peaks((0, 0, logit), (8, -9, logit - 0.5)), MODEL, config)
        state, found = core.step([frame], core.init([frame], np.array([[120.0, 120.0, 63.5, 63.5]])))
        learned.append((bool(found.lost[0]), float(state.memory[-1][0, 1])))
    assert learned == [(True, 0.0), (False, 1.0)]
    assert distractors.find(np.zeros((1, 4)), np.ones(1), DistractorConfig()).shape == (0, 4)


def test_targets_come_back_in_their_order():
    """Scores, masks and states of targets that took different search regions."""

    class Bright(Peaks):
        def search(self, patches, features):
            prediction = super().search(patches, features)
            middle = prediction.cls.shape[-1] // 2
            prediction.cls[:, 7, middle, middle + 1] = features[0][:, 0, 0, 0] / 20
            return prediction._replace(context=(features[0][:, :, 0, 0],))

        def draw(self, context, cell):
            return np.ones((len(cell), 127, 127), np.float32) * (context[0][:, :, None] - 100) / 10

    model = MODEL.model_copy(update={"mask": True})
    config = TrackingConfig(**CALM, longterm=LongTermConfig(low=0.0, high=1.0))
    core = TrackerCore(Bright(), model, config)
    frames = [np.full((200, 200, 3), value, np.uint8) for value in (110, 20, 80, 50)]
    boxes = np.array([[60.0 + 5 * n, 70.0, 40.0, 40.0] for n in range(4)])
    state = core.init(frames, boxes)
    alone = [core.step([frame], core.init([frame], box[None])) for frame, box in zip(frames, boxes, strict=True)]
    mixed = np.array([0, 2, 0, 3])
    state, found = core.step(frames, type(state)(**{**vars(state), "lost": mixed}))
    assert (np.diff(found.scores) < 0).tolist() == [True, False, True]
    for index, (one, answer) in enumerate(alone):
        assert found.scores[index] == pytest.approx(answer.scores[0])
        assert state.fill[index].tolist() == one.fill[0].tolist()
        assert state.features[0][index] == one.features[0][0]
        assert np.max(found.masks[index]) == pytest.approx(np.max(answer.masks[0]), rel=1e-3)
    assert state.lost.tolist() == [0, 3, 0, 4]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_mask_is_drawn_about_the_best_cell_of_where_was_searched(legacy):
    model = zoo.load("siammask_resnet50").model
    core = TrackerCore(Peaks((-3, 5, 9.0), offsets=(0.5, 0.5)), model, TrackingConfig(**CALM, legacy=legacy))
    frame = np.zeros((400, 400, 3), np.uint8)
    state = core.init([frame], np.array([[180.0, 170.0, 64.0, 48.0]]))
    side = context_side(np.array([64.0, 48.0])) / 127  # pixels of the frame in one of the search region
    _, found = core.step([frame], state)
    rows, columns = np.nonzero(found.masks[0] > 0.5)
    assert columns.mean() + 0.5 == pytest.approx(212 + 5 * 8 * side, abs=1.2)
    assert rows.mean() + 0.5 == pytest.approx(194 - 3 * 8 * side, abs=1.2)
    assert np.ptp(columns) + 1 == pytest.approx(127 * side, abs=2.1)
