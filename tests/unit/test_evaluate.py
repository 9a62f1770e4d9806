import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest

from siamtrack.errors import TooMuchAtOnce, UserError
from siamtrack.evaluate import lockstep, running
from siamtrack.evaluate.datasets import read_dataset
from siamtrack.evaluate.datasets.folder import read_boxes
from siamtrack.evaluate.lockstep import one_pass_in_step, run_in_step
from siamtrack.evaluate.opencv import OpenCVTracker
from siamtrack.evaluate.protocols.one_pass import score_boxes
from siamtrack.evaluate.results import (
    SKIPPED,
    STARTED,
    Result,
    read_run,
    sequence_file,
    write_run,
    write_sequence,
)
from siamtrack.tracker import Tracker


def test_success_and_precision_by_hand():
    truth = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [100, 100, 10, 10], [0, 0, 10, 10]], float)
    predicted = np.array([[0, 0, 10, 10], [5, 0, 10, 10], [130, 100, 10, 10], [20, 0, 10, 10]], float)
    result = score_boxes(predicted, truth)
    # Overlaps 1, 1/3, 0, 0: above 20, 7, 0 and 0 of the thresholds 0, .05 .. 1. Distances 0, 5, 30, 20.
    assert result["auc"] == pytest.approx((20 + 7) / 21 / 4)
    assert result["precision"] == pytest.approx(3 / 4)


def test_frames_without_truth_do_not_count():
    truth = np.array([[0, 0, 10, 10], [np.nan] * 4, [0, 0, 0, 0]], float)
    result = score_boxes(np.zeros((3, 4)) + [0, 0, 10, 10], truth)
    assert result["precision"] == 1


def test_sequences_are_read(sequences):
    boxes, polygons = read_dataset("folder", sequences).sequences
    assert (boxes.name, polygons.name, len(boxes)) == ("boxes", "polygons", 12)
    assert np.array_equal(boxes.boxes[3], polygons.boxes[3])
    assert np.isnan(polygons.boxes[5]).all()
    assert boxes.frame(0).shape == (240, 320, 3)
    assert [s.name for s in read_dataset("folder", sequences, ("polygons",)).sequences] == ["polygons"]
    assert len(read_dataset("folder", sequences / "boxes", frames=5).sequences[0]) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [("1,2,3\n", "line 1 has 3 numbers"), ("1,2,3,4\na,b\n", "line 2: 'a,b' is not numbers"), ("", "is empty")],
)
def test_bad_ground_truth_is_refused(tmp_path, text, said):
    (tmp_path / "groundtruth.txt").write_text(text)
    with pytest.raises(UserError, match=said):
        read_boxes(tmp_path / "groundtruth.txt")


def test_separators_of_all_kinds(tmp_path):
    (tmp_path / "g.txt").write_text("1,2,3,4\r\n5\t6\t7\t8\r\n9 10 11 12\n\n")
    assert read_boxes(tmp_path / "g.txt").tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]


def test_what_is_no_dataset_is_refused(tmp_path, sequences):
    with pytest.raises(UserError, match="there is no folder"):
        read_dataset("folder", tmp_path / "no")
    with pytest.raises(UserError, match="holds no sequence"):
        read_dataset("folder", tmp_path)
    with pytest.raises(UserError, match="has no sequence 'other'"):
        read_dataset("folder", sequences, ("other",))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "groundtruth.txt").write_text("1,2,3,4\n")
    with pytest.raises(UserError, match="has no folder"):
        read_dataset("folder", tmp_path)
    (tmp_path / "a" / "img").mkdir()
    with pytest.raises(UserError, match="has no images in"):
        read_dataset("folder", tmp_path)


def test_lock_step_equals_one_after_the_other(sequences):
    tracker = Tracker()
    both = read_dataset("folder", sequences).sequences
    frames = [[s.frame(i) for i in range(n)] for s, n in zip(both, (12, 7), strict=True)]  # of different lengths
    together = run_in_step(tracker.core, frames, np.stack([s.boxes[0] for s in both]))
    (alone,) = running.one_pass(tracker, both[0])
    assert together[1].shape == (7, 4)
    np.testing.assert_allclose(together[0], alone.boxes, atol=1e-3)
    assert alone.seconds.shape == (12,)


def test_sequences_begin_where_others_end(sequences, tmp_path, monkeypatch):
    tracker = Tracker(threads=1)
    long, polygons = read_dataset("folder", sequences).sequences
    short = replace(polygons, paths=polygons.paths[:5], boxes=polygons.boxes[:5])
    (tmp_path / "bad.png").write_bytes(b"no image")
    bad = replace(long, paths=(*long.paths[:2], tmp_path / "bad.png", *long.paths[3:]))
    worse = replace(bad, paths=bad.paths[2:], boxes=bad.boxes[2:])
    last = replace(long, paths=long.paths[:8], boxes=long.boxes[:8])
    sizes, seen, step = [], [], tracker.core.step

    def counted(frames, state):
        sizes.append(len(frames))
        return step(frames, state)

    monkeypatch.setattr(tracker.core, "step", counted)
    monkeypatch.setattr(lockstep, "perf_counter", itertools.count().__next__)  # a step takes a second
    ended = list(one_pass_in_step(tracker.core, [long, worse, short, bad, last], lambda: seen.append(1), 2))
    assert [place for place, _ in ended] == [1, 2, 3, 0, 4], "as they end"
    # Where one ends the next one starts, and takes its first step in the turn after.
    assert sizes == [2] * 4 + [1, 2, 1] + [2] * 4 + [1] * 3
    assert len(seen) == 12 + 5 + 2 + 8, "frames that were used"
    results = dict(ended)
    np.testing.assert_array_equal(results[2][0].seconds, [np.nan] + [0.5] * 4)  # its share of two
    for place, sequence in ((0, long), (2, short), (4, last)):
        (alone,) = running.one_pass(tracker, sequence)
        np.testing.assert_allclose(results[place][0].boxes, alone.boxes, atol=1e-3)
        np.testing.assert_array_equal(results[place][0].codes, alone.codes)
    assert all("bad.png is no image that can be read" in str(results[place]) for place in (1, 3))


def test_sequences_that_do_not_fit_into_memory_take_turns(sequences, monkeypatch, caplog):
    tracker = Tracker(threads=1)
    long, _ = read_dataset("folder", sequences).sequences
    some = [replace(long, paths=long.paths[:count], boxes=long.boxes[:count]) for count in (6, 4, 6, 5, 6)]
    room, sizes, init, step = 2, [], tracker.core.init, tracker.core.step

    def fits(frames):
        sizes.append(len(frames))
        if len(frames) > room:
            raise TooMuchAtOnce(f"too little free memory for {len(frames)} frames at once")

    monkeypatch.setattr(tracker.core, "init", lambda frames, boxes: fits(frames) or init(frames, boxes))
    monkeypatch.setattr(tracker.core, "step", lambda frames, state: fits(frames) or step(frames, state))
    results = dict(one_pass_in_step(tracker.core, some, lambda: None, 4))
    assert sizes[:5] == [4, 2, 2, 2, 2]
    assert caplog.messages == ["memory suffices for 2 sequences at a time, not for 4; they now go in batches of 2"]
    for place, sequence in enumerate(some):
        (alone,) = running.one_pass(tracker.with_tracking(tracker.tracking), sequence)
        np.testing.assert_allclose(results[place][0].boxes, alone.boxes, atol=1e-3)
    room = 0
    with pytest.raises(UserError, match="too little free memory for 1 frames"):
        list(one_pass_in_step(tracker.core, some, lambda: None))

    def full(frames, boxes):
        raise MemoryError

    monkeypatch.setattr(tracker.core, "init", full)
    with pytest.raises(UserError, match="does not suffice even for one sequence"):
        list(one_pass_in_step(tracker.core, some, lambda: None))


@pytest.mark.parametrize("name", ["opencv-csrt", "opencv-kcf", "opencv-mil"])
def test_opencv_trackers_share_the_interface(name, sequences):
    if not hasattr(cv2, f"Tracker{name[7:].upper()}"):
        with pytest.raises(UserError, match="opencv-contrib-python-headless"):
            OpenCVTracker(name)
        return
    (sequence,) = read_dataset("folder", sequences, ("boxes",)).sequences
    (result,) = running.one_pass(OpenCVTracker(name), sequence)
    assert score_boxes(result.boxes, sequence.boxes)["auc"] > 0.3


def test_a_run_is_what_was_written(tmp_path):
    result = Result(
        boxes=np.array([[1, 2, 3, 4], [np.nan] * 4]),
        scores=np.array([1, np.nan]),
        seconds=np.array([0.01, np.nan]),
        codes=np.array([STARTED, SKIPPED], np.int8),
        masks=(None, "m0,0,2,1,0,2"),
        start=3,
        backward=True,
    )
    write_run(tmp_path / "run", "a", "folder", "one-pass", {"device": "cpu"})
    write_sequence(tmp_path / "run", "video/1: a?", (result, result))
    run = read_run(tmp_path / "run")
    assert (run.tracker, run.dataset, run.protocol, run.facts) == ("a", "folder", "one-pass", {"device": "cpu"})
    again = run.results["video/1: a?"][1]
    for field in ("boxes", "scores", "seconds", "codes"):
        np.testing.assert_array_equal(getattr(again, field), getattr(result, field))
    assert (again.masks, again.polygons, again.start, again.backward) == (result.masks, None, 3, True)
    write_run(tmp_path / "run", "a", "folder", "one-pass", {"device": "cpu"})  # the same goes on
    with pytest.raises(UserError, match="holds another run: device was 'cpu' and is 'cuda'"):
        write_run(tmp_path / "run", "a", "folder", "one-pass", {"device": "cuda"})
    sequence_file(tmp_path / "run", "video/1: a?").write_text('[{"boxes": []}]')
    with pytest.raises(UserError, match="is damaged"):
        read_run(tmp_path / "run")
    with pytest.raises(UserError, match="is no run"):
        read_run(tmp_path)
