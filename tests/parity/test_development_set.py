"""The shipped model on the development sequences, which do not travel with the project."""

import cv2
import numpy as np
import pytest

from siamtrack.evaluate.ope import score
from siamtrack.evaluate.opencv import OpenCVTracker
from siamtrack.evaluate.run import run_one_pass
from siamtrack.evaluate.sequences import read_sequences
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
    for sequence in read_sequences(SEQUENCES):
        for name, tracker in trackers.items():
            aucs[name].append(score(run_one_pass(tracker, sequence).boxes, sequence.boxes).auc)
    means = {name: np.mean(values) for name, values in aucs.items()}
    assert means["siamtrack"] >= 0.66
    assert means["siamtrack"] > means.get("csrt", 0)
