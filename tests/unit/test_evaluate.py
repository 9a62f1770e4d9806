import cv2
import numpy as np
import pytest

from siamtrack.errors import UserError
from siamtrack.evaluate.ope import score
from siamtrack.evaluate.opencv import OpenCVTracker
from siamtrack.evaluate.run import run_in_step, run_one_pass
from siamtrack.evaluate.sequences import read_boxes, read_sequences
from siamtrack.tracker import Tracker


def test_success_and_precision_by_hand():
    truth = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [100, 100, 10, 10], [0, 0, 10, 10]], float)
    predicted = np.array([[0, 0, 10, 10], [5, 0, 10, 10], [130, 100, 10, 10], [20, 0, 10, 10]], float)
    result = score(predicted, truth)
    # Overlaps 1, 1/3, 0, 0: above 20, 7, 0 and 0 of the thresholds 0, .05 .. 1. Distances 0, 5, 30, 20.
    assert result.auc == pytest.approx((20 + 7) / 21 / 4)
    assert result.precision == pytest.approx(3 / 4)
    assert result.frames == 4


def test_frames_without_truth_do_not_count():
    truth = np.array([[0, 0, 10, 10], [np.nan] * 4, [0, 0, 0, 0]], float)
    result = score(np.zeros((3, 4)) + [0, 0, 10, 10], truth)
    assert (result.frames, result.precision) == (1, 1)


def test_sequences_are_read(sequences):
    boxes, polygons = read_sequences(sequences)
    assert (boxes.name, polygons.name, len(boxes)) == ("boxes", "polygons", 12)
    assert np.array_equal(boxes.boxes[3], polygons.boxes[3])
    assert np.isnan(polygons.boxes[5]).all()
    assert boxes.frame(0).shape == (240, 320, 3)
    assert [s.name for s in read_sequences(sequences, ("polygons",))] == ["polygons"]
    assert len(read_sequences(sequences / "boxes", frames=5)[0]) == 5


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
        read_sequences(tmp_path / "no")
    with pytest.raises(UserError, match="holds no sequence"):
        read_sequences(tmp_path)
    with pytest.raises(UserError, match="has no sequence 'other'"):
        read_sequences(sequences, ("other",))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "groundtruth.txt").write_text("1,2,3,4\n")
    with pytest.raises(UserError, match="has no folder"):
        read_sequences(tmp_path)
    (tmp_path / "a" / "img").mkdir()
    with pytest.raises(UserError, match="0 images but 1 lines"):
        read_sequences(tmp_path)


def test_lock_step_equals_one_after_the_other(sequences):
    tracker = Tracker()
    both = read_sequences(sequences)
    frames = [[s.frame(i) for i in range(n)] for s, n in zip(both, (12, 7), strict=True)]  # of different lengths
    together = run_in_step(tracker._core, frames, np.stack([s.boxes[0] for s in both]))
    alone = run_one_pass(tracker, both[0])
    assert together[1].shape == (7, 4)
    np.testing.assert_allclose(together[0], alone.boxes, atol=1e-3)
    assert alone.seconds.shape == (12,)


@pytest.mark.parametrize("name", ["opencv-csrt", "opencv-kcf", "opencv-mil"])
def test_opencv_trackers_share_the_interface(name, sequences):
    if not hasattr(cv2, f"Tracker{name[7:].upper()}"):
        with pytest.raises(UserError, match="opencv-contrib-python-headless"):
            OpenCVTracker(name)
        return
    run = run_one_pass(OpenCVTracker(name), read_sequences(sequences, ("boxes",))[0])
    assert score(run.boxes, read_sequences(sequences, ("boxes",))[0].boxes).auc > 0.3
