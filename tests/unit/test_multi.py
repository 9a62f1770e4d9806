"""Many targets at once. What depends on the network is checked against one tracker a target; the rest is bookkeeping,
checked with a made-up core, whose targets move by a pixel a frame."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import pytest

from siamtrack import MultiTracker, Target, Tracker, UserError
from siamtrack.multi import earliest, numbered
from siamtrack.tracking.config import TrackingConfig
from siamtrack.tracking.core import Step
from siamtrack.tracking.state import TrackResult
from siamtrack.video.frame import VideoFrame

LONGTERM = {"longterm": {"low": 0.3, "high": 0.4, "search_sizes": [255]}}


@pytest.fixture(scope="module")
def tracker():
    return Tracker(threads=1)


@pytest.fixture(scope="module")
def longterm():
    return Tracker(threads=1, tracking=LONGTERM)


@dataclass
class State:
    boxes: np.ndarray

    def take(self, index):
        return State(self.boxes[np.asarray(index)])

    @classmethod
    def join(cls, states):
        return cls(np.concatenate([state.boxes for state in states]))


class Core:
    """Targets move to the right; one right of x = 100 is lost. Only so many fit into memory."""

    def __init__(self, room=10**9):
        self.room, self.sizes = room, []

    def _work(self, count):
        self.sizes.append(count)
        if count > self.room:
            raise MemoryError

    def init(self, frames, boxes):
        assert len(frames) == len(boxes)
        self._work(len(boxes))
        return State(boxes.copy())

    def step(self, frames, state):
        assert len(frames) == len(state.boxes)
        self._work(len(frames))
        boxes = state.boxes + [1, 0, 0, 0]
        # The score tells which frame was shown.
        scores = np.array([frame[0, 0, 0] / 100 for frame in frames])
        return State(boxes), Step(boxes, scores, boxes[:, 0] > 100)

    def result(self, found, place):
        return TrackResult(found.boxes[place], float(found.scores[place]), bool(found.lost[place]))


def multi(tracker, core, **options):
    many = MultiTracker(tracker, **options)
    many._core = core
    return many


def frame(level=0, size=(200, 300)):
    return np.full((*size, 3), level, np.uint8)


def movie(count, level=0):
    return [VideoFrame(index, index / 10, frame(level)) for index in range(count)]


def test_each_target_is_followed_as_if_it_were_alone(tracker, square):
    images, boxes = square
    alone = {}
    for name, first, box in (("square", 0, boxes[0]), ("late", 3, boxes[3]), ("still", 1, (20, 20, 50, 50))):
        single = tracker.with_tracking(tracker.tracking)
        single.init(images[first], box)
        alone[name] = {number: single.update(images[number]) for number in range(first + 1, 7)}
    many = MultiTracker(tracker, batch=2)
    names = {many.add(images[0], boxes[0]): "square"}
    for number in range(1, 7):
        results = many.update(images[number])
        assert set(results) == set(names)
        for each, result in results.items():
            expected = alone[names[each]][number]
            assert result.box == pytest.approx(expected.box, abs=1e-3)
            assert result.score == pytest.approx(expected.score, abs=1e-5)
        if number == 1:
            names[many.add(images[1], (20, 20, 50, 50))] = "still"
        if number == 3:
            names[many.add(images[3], boxes[3])] = "late"
        if number == 4:
            many.remove(next(each for each, name in names.items() if name == "still"))
            names = {each: name for each, name in names.items() if name != "still"}


def test_thousands_go_in_batches(tracker):
    core = Core()
    many = multi(tracker, core, batch=64)
    boxes = np.column_stack([np.arange(5000) % 200, np.arange(5000) % 100, np.full((5000, 2), 9)]).astype(float)
    ids = many.add_all(frame(), boxes)
    assert max(core.sizes) == 64
    results = many.update(frame())
    assert [results[each].box.tolist() for each in ids] == (boxes + [1, 0, 0, 0]).tolist()
    many.remove(*ids[::2], *ids[1::4])
    assert many.ids == tuple(ids[3::4])
    core.sizes.clear()
    results = many.update(frame())
    assert len(core.sizes) < 2 * 1250 / 64 + 1, "batches that shrank are put together"
    assert [results[each].box.tolist() for each in ids[3::4]] == (boxes[3::4] + [2, 0, 0, 0]).tolist()
    assert many.add(frame(), boxes[0]) == 5001


def test_targets_that_are_added_one_by_one_share_batches(tracker):
    core = Core()
    many = multi(tracker, core, batch=4)
    for number in range(10):
        many.add(frame(), (number, 5, 20, 20))
    core.sizes.clear()
    assert [result.box[0] for result in many.update(frame()).values()] == list(range(1, 11))
    assert core.sizes == [4, 4, 2]


def test_batches_become_smaller_where_memory_does_not_suffice(tracker, caplog):
    core = Core(room=3)
    many = multi(tracker, core, batch=16)
    with caplog.at_level(logging.WARNING):
        ids = many.add_all(frame(), [(number, 5, 20, 20) for number in range(10)])
    assert caplog.messages == ["memory suffices for 3 targets at a time, not for 16; they now go in batches of 3"]
    assert many.batch == 3
    core.room = 2  # another program took some
    results = many.update(frame())
    assert [results[each].box[0] for each in ids] == list(range(1, 11))
    assert many.batch == 2
    core.room = 0
    with pytest.raises(UserError, match="not suffice even for one target at a time, beside the 10 that are followed"):
        many.update(frame())
    core.room = 2
    assert many.update(frame())[1].box[0] == 2, "nothing moved when it failed"


def test_an_error_of_a_gpu_is_known_by_its_name(tracker):
    class OutOfMemoryError(RuntimeError):  # torch's
        pass

    core = Core()
    many = multi(tracker, core)
    many.add_all(frame(), [(5, 5, 20, 20), (9, 5, 20, 20)])

    def step(frames, state, plain=core.step):
        if len(frames) > 1:
            raise OutOfMemoryError("CUDA out of memory")
        return plain(frames, state)

    core.step = step
    assert len(many.update(frame())) == 2
    assert many.batch == 1
    core.step = lambda frames, state: 1 / 0
    with pytest.raises(ZeroDivisionError):
        many.update(frame())


def test_a_target_that_stays_lost_is_dropped(longterm):
    many = multi(longterm, Core(), drop_after=3)
    many.add_all(frame(), [(98, 5, 20, 20), (5, 5, 20, 20)])
    lost = [[result.lost for result in many.update(frame()).values()] for _ in range(6)]
    assert lost == [[False, False], [False, False], [True, False], [True, False], [True, False], [False]]
    assert many.ids == (2,)


def test_a_target_that_was_found_again_is_lost_anew(longterm):
    class Blinking(Core):
        def step(self, frames, state):
            state, found = super().step(frames, state)
            return state, found._replace(lost=found.scores > 0.5)

    many = multi(longterm, Blinking(), drop_after=3)
    many.add(frame(), (5, 5, 20, 20))
    assert [len(many.update(frame(level)) or many.ids) for level in (60, 60, 0, 60, 60, 60, 60)] == [1] * 6 + [0]


def test_dropping_needs_a_tracker_that_knows_when_it_is_lost(tracker):
    with pytest.raises(UserError, match="drop_after 3 needs a tracker that knows when it has lost its target: take"):
        MultiTracker(tracker.with_tracking(TrackingConfig()), drop_after=3)
    with pytest.raises(UserError, match="batch 0: expected a number from 1"):
        MultiTracker(tracker, batch=0)


def test_streams_have_frames_of_their_own(tracker):
    many = multi(tracker, Core())
    left = many.add(frame(), (5, 5, 20, 20), stream="left")
    right = many.add(frame(size=(50, 60)), (7, 5, 20, 20), stream="right")
    results = many.update({"left": frame(30), "right": frame(60, (50, 60))})
    assert (results[left].score, results[right].score) == (0.3, 0.6)
    with pytest.raises(UserError, match="no frame was given for stream 'right', which has targets"):
        many.update({"left": frame()})
    many.remove(right)
    assert list(many.update({"left": frame()})) == [left]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda many: many.update(frame(size=(20, 30))),
            "is 30x20, the targets were added in frames of 300x200",
        ),
        (lambda many: many.update(np.zeros((20, 30))), "the frame is float64"),
        (lambda many: many.add(frame(size=(20, 30)), (1, 1, 5, 5)), "the frame is 30x20"),
        (lambda many: many.add(frame(), (400, 1, 5, 5)), "box 400,1,5,5 lies outside the frame"),
        (lambda many: many.remove(7), "there is no target 7 to remove; followed are 1$"),
    ],
)
def test_bad_input_is_a_sentence_and_changes_nothing(tracker, call, said):
    many = multi(tracker, Core())
    many.add(frame(), (5, 5, 20, 20))
    with pytest.raises(UserError, match=said):
        call(many)
    assert {each: result.box.tolist() for each, result in many.update(frame()).items()} == {1: [6, 5, 20, 20]}


def followed(many, streams, together=None):
    """Return the left edges of each stream's targets in each frame, and how it ended."""
    seen = {}
    planned = ((name, (frames, numbered(each))) for name, (frames, each) in streams.items())
    for name, image, results in many.in_step(planned, together):
        if image is None:
            entry = "end"
        elif isinstance(image, UserError):
            entry = str(image)
        else:
            entry = {each: result.box[0] for each, result in results.items()}
        seen.setdefault(name, []).append(entry)
    return seen


def test_streams_in_step(tracker):
    def breaks():
        yield from movie(2)
        raise UserError("the disk was taken out")

    def vanishes():
        yield from movie(1)
        raise FileNotFoundError(2, "no such file", "7.png")

    many = multi(tracker, Core())
    seen = followed(
        many,
        {
            "a": (movie(5), [(5, 5, 20, 20), Target((50, 5, 20, 20), start=2, end=4, id=9)]),
            "b": (movie(2), [Target((7, 5, 20, 20), start=0.1)]),
            "c": (breaks(), [(1, 5, 20, 20)]),
            "d": (movie(3), [(400, 5, 20, 20)]),
            "g": (vanishes(), [(1, 5, 20, 20)]),
            "e": (movie(9), [Target((9, 5, 20, 20), start=1, end=3)]),
            "f": (movie(2), [Target((9, 5, 20, 20), start=5)]),
        },
    )
    assert seen == {
        "a": [{1: 5}, {1: 6}, {1: 7, 9: 50}, {1: 8, 9: 51}, {1: 9}, "end"],
        "b": [{}, {1: 7}, "end"],
        "c": [{1: 1}, {1: 2}, "the disk was taken out"],
        "g": [{1: 1}, "[Errno 2] no such file: '7.png'"],
        "d": ["box 400,5,20,20 lies outside the frame, which is 300x200 pixels"],
        "e": [{}, {1: 9}, {1: 10}, "end"],
        "f": [{}, {}, "end"],
    }
    assert many.ids == ()


def test_tracking_stops_within_a_frame(tracker, clip):
    core = Core()
    many = multi(tracker, core, batch=2)
    boxes = [(number, 5, 20, 20) for number in range(6)]
    # Three batches are begun in the first frame, three step in the second, and the third is given up.
    seen = [frame.index for frame, _ in many.track(clip, boxes, stopped=lambda: len(core.sizes) >= 7)]
    assert (seen, core.sizes) == ([0, 1], [2] * 7)
    assert len(list(many.track(clip, boxes, end=3))) == 3, "another time it goes on"


def test_streams_take_the_place_of_those_that_ended(tracker, monkeypatch):
    many = multi(tracker, Core())
    turns, begun = [], {}

    def update(frames, plain=many.update):
        turns.append(len(frames))
        return plain(frames)

    def stream(name, count):
        begun[name] = len(turns)
        if not count:
            raise UserError("it cannot be opened")
        yield from movie(count)

    monkeypatch.setattr(many, "update", update)
    lengths = {"a": 6, "x": 0, "b": 2, "c": 3, "d": 1, "e": 3}
    seen = followed(many, {name: (stream(name, count), [(5, 5, 20, 20)]) for name, count in lengths.items()}, 2)
    assert {name: len(each) - 1 for name, each in seen.items()} == lengths
    assert (seen["e"], seen["x"]) == ([{1: 5}, {1: 6}, {1: 7}, "end"], ["it cannot be opened"])
    assert turns == [2, 2, 2, 2, 2, 2, 1, 1, 1], "both places are taken while there is a stream to come"
    assert begun == {"a": 0, "x": 0, "b": 0, "c": 2, "d": 5, "e": 6}, "a stream is opened when it begins"


def test_a_stream_ends_with_its_targets(longterm):
    many = multi(longterm, Core(), drop_after=2)
    taken = []

    def endless():
        for each in movie(1000):
            taken.append(each.index)
            yield each

    seen = followed(many, {"a": (endless(), [(98, 5, 20, 20), Target((5, 5, 20, 20), end=3)])})
    assert seen["a"] == [{1: 98, 2: 5}, {1: 99, 2: 6}, {1: 100, 2: 7}, {1: 101}, {1: 102}, "end"]
    assert len(taken) == 6


def test_results_tell_frame_and_time(tracker):
    many = multi(tracker, Core())
    images = [replace(each, index=each.index + 40, time=each.time + 4) for each in movie(2, level=50)]
    (_, _, first), (_, _, second), _ = many.in_step([(0, (images, {3: Target((5, 5, 20, 20))}))])
    assert [(each.frame, each.time, each.score) for each in (first[3], second[3])] == [(40, 4.0, 1.0), (41, 4.1, 0.5)]


def test_a_start_is_met_by_a_stamp_that_was_rounded_up(tracker):
    images = [VideoFrame(2, 0.067, frame()), VideoFrame(3, 0.1, frame())]
    found = [
        results for *_, results in multi(tracker, Core()).in_step([(0, (images, {1: Target((5, 5, 20, 20), 2 / 30)}))])
    ]
    assert [list(results) for results in found] == [[1], [1], []]


def test_targets_that_make_no_sense(tracker, clip):
    with pytest.raises(UserError, match="two targets have the id 2; give each its own"):
        numbered([Target((1, 2, 3, 4), id=2), (1, 2, 3, 4)])
    with pytest.raises(UserError, match="nothing to follow"):
        next(MultiTracker(tracker).track(clip, []))
    late = MultiTracker(tracker).track(clip, [(1, 2, 30, 40), Target((1, 2, 30, 40), start=3)], start=5)
    with pytest.raises(UserError, match="target 2 starts at frame 3, but the first frame that is read is number 5"):
        list(late)
    with pytest.raises(UserError, match="target 2: box 400,5,20,20 lies outside"):
        next(MultiTracker(tracker).track(clip, [(1, 2, 30, 40), (400, 5, 20, 20)]))


def test_reading_begins_at_the_first_start():
    box = (1, 2, 3, 4)
    assert earliest([Target(box, 7), Target(box, 5)]) == 5
    assert earliest([Target(box, 7.5), Target(box, 8.0)]) == 7.5
    assert earliest([Target(box, 7), Target(box, 0.5)]) is None
    assert earliest([Target(box, 7), Target(box)]) is None
