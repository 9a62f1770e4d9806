"""The shipped model on the development sequences, which do not travel with the project."""

import numpy as np
import pytest
from tests.conftest import DATA

from siamtrack.evaluate.ope import score
from siamtrack.evaluate.run import run_one_pass
from siamtrack.evaluate.sequences import read_sequences
from siamtrack.tracker import Tracker

SEQUENCES = DATA / "sequences"


@pytest.mark.skipif(not SEQUENCES.is_dir(), reason=f"needs the development sequences in {SEQUENCES}")
def test_the_default_model_reaches_its_bar():
    tracker, aucs = Tracker(), []
    for sequence in read_sequences(SEQUENCES, frames=100):
        aucs.append(score(run_one_pass(tracker, sequence).boxes, sequence.boxes).auc)
    assert np.mean(aucs) > 0.66
