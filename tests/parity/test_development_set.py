"""The shipped model on the development sequences, which do not travel with the project."""

import cv2
import numpy as np
import pytest

from siamtrack.evaluate import running
from siamtrack.evaluate.datasets import read_dataset
from siamtrack.evaluate.opencv import OpenCVTracker
from siamtrack.evaluate.protocols import one_pass
from siamtrack.tracker import Tracker
from tests.conftest import DATA

SEQUENCES = DATA / "sequences"


@pytest.mark.skipif(not SEQUENCES.is_dir(), reason=f"needs the development sequences in {SEQUENCES}")
def test_the_default_model_reaches_its_bar():
    """Success AUC of at least .66, and above OpenCV CSRT's in the same run, where CSRT is installed."""
    trackers = {"siamtrack": Tracker()}
    if hasattr(cv2, "TrackerCSRT"):
        trackers["csrt"] = OpenCVTracker("opencv-csrt")
    aucs = {name: [] for name in trackers}
    for sequence in read_dataset("folder", SEQUENCES).sequences:
        for name, tracker in trackers.items():
            (result,) = running.one_pass(tracker, sequence)
            aucs[name].append(one_pass.score_boxes(result.boxes, sequence.boxes)["auc"])
    means = {name: np.mean(values) for name, values in aucs.items()}
    assert means["siamtrack"] >= 0.66
    assert means["siamtrack"] > means.get("csrt", 0)
