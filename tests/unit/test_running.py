"""Protocols with a made-up tracker: it follows the truth, except where its script says otherwise."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrack.errors import UserError
from siamtrack.evaluate import running
from siamtrack.evaluate.results import FAILED, SKIPPED, STARTED, TRACKED
from siamtrack.evaluate.running import Clock, start_box
from siamtrack.evaluate.sequences import Sequence
from siamtrack.regions import decode_mask
from siamtrack.tracking.state import TrackResult

T, S, F, K = TRACKED, STARTED, FAILED, SKIPPED
WIDTH, HEIGHT = 60, 40


class Scripted:
    """Reads the number of the frame off its first pixel, and answers with the truth or what the script has for it."""

    def __init__(self, sequence, script=None, score=0.5, masks=False):
        self.sequence, self.script, self.score, self.masks = sequence, script or {}, score, masks
        self.started, self.asked = [], []

    def init(self, frame, box):
        self.started.append((int(frame[0, 0, 0]), np.asarray(box).tolist()))

    def update(self, frame):
        number = int(frame[0, 0, 0])
        self.asked.append(number)
        box = np.array(self.script.get(number, self.sequence.boxes[number]), float)
        if not self.masks:
            return TrackResult(box, self.score)
        x, y, w, h = box.astype(int)
        mask = np.zeros(frame.shape[:2], bool)
        mask[y : y + h, x : x + w] = True
        corners = np.array([[x + w / 2, y], [x + w, y + h / 2], [x + w / 2, y + h], [x, y + h / 2]])
        return TrackResult(box, self.score, mask=mask, polygon=corners)


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("frames")
    for number in range(20):
        cv2.imwrite(str(folder / f"{number:02d}.png"), np.full((HEIGHT, WIDTH, 3), number, np.uint8))
    return tuple(sorted(folder.iterdir()))


def made(frames, **values) -> Sequence:
    boxes = np.array([(5 + 2 * number, 10, 8, 6) for number in range(len(frames))], float)
    return Sequence("made", frames, **{"boxes": boxes, **values})


def test_one_pass_never_starts_again(frames):
    sequence = made(frames)
    lost = dict.fromkeys(range(4, 20), (0, 30, 4, 4))
    (result,) = running.one_pass(Scripted(sequence, lost), sequence)
    assert result.codes.tolist() == [S] + [T] * 19
    assert result.boxes[3].tolist() == sequence.boxes[3].tolist()
    assert result.boxes[19].tolist() == [0, 30, 4, 4]
    assert result.scores.tolist() == [1] + [0.5] * 19
    assert (result.seconds >= 0).all()
    assert (result.polygons, result.masks) == (None, None)


def test_one_pass_starts_where_the_object_comes_in(frames):
    sequence = made(frames)
    sequence.boxes[:3] = np.nan
    tracker = Scripted(sequence)
    (result,) = running.one_pass(tracker, sequence)
    assert result.codes.tolist() == [K] * 3 + [S] + [T] * 16
    assert np.isnan(result.boxes[:3]).all()
    assert tracker.started == [(3, [11, 10, 8, 6])]
    sequence.boxes[:] = np.nan
    with pytest.raises(UserError, match="has no box in any frame"):
        running.one_pass(tracker, sequence)


def test_polygons_and_masks_are_kept(frames):
    sequence = made(frames[:4])
    (result,) = running.one_pass(Scripted(sequence, masks=True), sequence)
    assert result.polygons[0].tolist() == [[5, 10], [13, 10], [13, 16], [5, 16]]
    assert result.polygons[2].tolist() == [[13, 10], [17, 13], [13, 16], [9, 13]]
    assert result.masks[0] is None
    x, y, pixels = decode_mask(result.masks[2])
    assert (x, y, pixels.shape, pixels.all()) == (9, 10, (6, 8), True)


def test_supervised_restarts_five_frames_after_a_failure(frames):
    sequence = made(frames)
    tracker = Scripted(sequence, {2: (8, 15, 2, 9), 3: (25, 10, 4, 6), 11: (0, 0, 4, 4)})  # 2: a pixel is enough
    (result,) = running.supervised(tracker, sequence)
    assert result.codes.tolist() == [S, T, T, F, K, K, K, K, S, T, T, F, K, K, K, K, S, T, T, T]
    assert [number for number, _ in tracker.started] == [0, 8, 16]
    assert tracker.asked == [1, 2, 3, 9, 10, 11, 17, 18, 19]
    assert np.isnan(result.boxes[4:8]).all()
    assert result.boxes[3].tolist() == [25, 10, 4, 6]
    assert result.boxes[8].tolist() == sequence.boxes[8].tolist()


def test_supervised_looks_at_the_image_only(frames):
    """What overlaps outside the image only has failed."""
    boxes = np.array([(5, 10, 8, 6)] * 20, float)
    boxes[3] = (-6, 10, 8, 6)
    sequence = made(frames, boxes=boxes)
    (result,) = running.supervised(Scripted(sequence, {3: (-6, 10, 5, 6)}), sequence)
    assert result.codes[3] == F
    (result,) = running.supervised(Scripted(sequence, {3: (-6, 10, 7, 6)}), sequence)
    assert result.codes[3] == T


def test_supervised_without_truth(frames):
    """Frames without truth neither fail nor start."""
    sequence = made(frames)
    sequence.boxes[[5, 13, 14]] = np.nan
    tracker = Scripted(sequence, {5: (0, 0, 4, 4), 8: (0, 0, 4, 4)})
    (result,) = running.supervised(tracker, sequence)
    assert result.codes[:9].tolist() == [S] + [T] * 7 + [F]
    assert result.codes[9:17].tolist() == [K] * 6 + [S, T]


def test_supervised_starts_with_a_box_of_the_polygons_area(frames):
    corners = np.array([[20, 5], [30, 15], [20, 25], [10, 15]], float)  # a square of side sqrt(200) on its corner
    sequence = made(frames, boxes=np.array([(10, 5, 20, 20)] * 20, float), regions=(corners,) * 20)
    tracker = Scripted(sequence)
    running.supervised(tracker, sequence)
    # Half the enclosing box's area: sides of sqrt(1/2) * 20, and a pixel; the pixel (20, 15) in the middle.
    side = np.sqrt(0.5) * 20 + 1
    assert tracker.started[0][1] == pytest.approx([20 - (side - 1) / 2, 15 - (side - 1) / 2, side, side])
    assert start_box(np.array([1.0, 2, 3, 4])).tolist() == [1, 2, 3, 4]


def test_multi_start_runs_both_ways(frames):
    sequence = made(frames, anchors=(0, 15, ~19, ~2))
    tracker = Scripted(sequence)
    results = running.multi_start(tracker, sequence)
    assert [(len(each), each.start, each.backward) for each in results] == [
        (20, 0, False), (5, 15, False), (20, 19, True), (3, 2, True)
    ]  # fmt: skip
    assert [number for number, _ in tracker.started] == [0, 15, 19, 2]
    assert tracker.asked[-2:] == [1, 0]
    assert results[1].boxes.tolist() == sequence.boxes[15:].tolist()
    assert results[3].boxes.tolist() == sequence.boxes[2::-1].tolist()
    assert results[3].codes.tolist() == [S, T, T]
    with pytest.raises(UserError, match="has no anchors"):
        running.multi_start(tracker, made(frames))
    broken = made(frames, anchors=(7,))
    broken.boxes[7] = np.nan
    with pytest.raises(UserError, match="anchor in frame 7, but no box"):
        running.multi_start(tracker, broken)


def test_objects_share_no_pixel(frames):
    left, right = (made(frames[:3], boxes=np.array([(x, 10, 10, 6)] * 3, float)) for x in (0, 6))
    right.boxes[0] = np.nan  # comes in later
    runs = [
        running.one_object(Scripted(left, score=0.4), left),
        running.one_object(Scripted(right, score=0.6), right),
    ]
    (one,), (other,) = running.separate(runs)
    assert other.masks[0] is None
    # Frame 0: the left is alone. 1: both; the right has just been started, with score 1. 2: the right is surer.
    windows = [[decode_mask(mask) if mask else None for mask in each.masks] for each in (one, other)]
    assert (windows[0][0].x, windows[0][0].pixels.shape) == (0, (6, 10))
    assert (windows[0][2].x, windows[0][2].pixels.shape) == (0, (6, 6))
    assert (windows[1][2].x, windows[1][2].pixels.shape) == (6, (6, 10))
    # With equal scores the first object keeps them.
    (one,), (other,) = running.separate([running.one_object(Scripted(each), each) for each in (left, right)])
    assert decode_mask(other.masks[2])[0] == 10


def test_realtime_drops_what_comes_while_busy():
    """Frames every 0.1 s. The first three late answers are forgiven, as in VOT."""
    clock = Clock(10)
    clock.started()
    for place in range(3):
        assert not clock.busy(place)
        clock.spend(place, 0.35)
    clock.spend(3, 0.1)  # in time, just
    assert not clock.busy(4)
    clock.spend(4, 0.35)  # busy until 0.75
    assert [clock.busy(place) for place in (5, 6, 7, 8)] == [True, True, True, False]


def test_realtime_repeats_the_last_answer(frames, monkeypatch):
    sequence = made(frames)
    monkeypatch.setattr(running, "GRACE", 0)
    now = iter(np.cumsum([0, 0.25] + [0, 0.15] * 19))  # init takes 0.25 s, each update 0.15
    monkeypatch.setattr(running, "perf_counter", lambda: next(now))
    tracker = Scripted(sequence)
    (result,) = running.one_pass(tracker, sequence, fps=10)
    # Frame 3 comes at 0.3 s, when init is over at 0.25; frame 5 at 0.5, when frame 3 is done at 0.45, and so on.
    assert tracker.asked == list(range(3, 20, 2))
    assert result.codes.tolist() == [S, K, K] + [T, K] * 8 + [T]
    assert result.boxes[2].tolist() == sequence.boxes[0].tolist()
    assert result.boxes[6].tolist() == sequence.boxes[5].tolist()
    assert result.scores[6] == 0.5
    assert np.isnan(result.seconds[[1, 2, 4]]).all()
    assert result.seconds[[0, 3]] == pytest.approx([0.25, 0.15])


def test_realtime_failures_restart_the_clock(frames, monkeypatch):
    """The box that is repeated may fail, too; each start has its own grace."""
    sequence = made(frames, boxes=np.array([(5 + 2 * number, 10, 7, 6) for number in range(20)], float))
    now = iter(np.cumsum([0, 0.05] + [0, 0.65] * 19))
    monkeypatch.setattr(running, "perf_counter", lambda: next(now))
    tracker = Scripted(sequence)
    (result,) = running.supervised(tracker, sequence, fps=10)
    # Answers 1 to 3 are forgiven; the one of frame 4 keeps the tracker busy until 1.05 s; frame 8 has no overlap.
    assert result.codes[:14].tolist() == [S, T, T, T, T, K, K, K, F, K, K, K, K, S]
    assert tracker.asked[:4] == [1, 2, 3, 4]


def test_frames_are_counted(frames):
    counts = []
    for run, values in (
        (running.one_pass, {}),
        (running.supervised, {}),
        (running.multi_start, {"anchors": (15, ~4)}),
        (running.one_object, {}),
    ):
        sequence, seen = made(frames, **values), []
        run(Scripted(sequence, {4: (50, 0, 2, 2)}), sequence, lambda seen=seen: seen.append(1))
        counts.append(len(seen))
    assert counts == [20, 20, 10, 20]
