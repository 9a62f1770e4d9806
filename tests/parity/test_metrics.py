"""Figures of protocols against the tools that define them."""

import json

import numpy as np
import pytest

from siamtrack.evaluate.protocols import supervised
from tests.conftest import DATA
from tests.parity import golden_vot

GOLDEN = DATA.parent / "golden" / "vot"


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"PySOT's recorded figures are not in {GOLDEN}")
@pytest.mark.parametrize("year", ["VOT2016", "VOT2018", "VOT2019"])
@pytest.mark.parametrize("tracker", ["polygon", "box"])
def test_pysot_gives_the_same_vot_figures(year, tracker):
    expected = json.loads((GOLDEN / "expected.json").read_text())[year][tracker]
    scores = supervised.score(golden_vot.dataset(GOLDEN, year), golden_vot.run(GOLDEN, tracker, year))
    assert scores.mean["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-4)
    assert scores.mean["robustness"] == pytest.approx(expected["robustness"], abs=1e-4)
    assert scores.mean["lost_number"] == expected["lost_number"]
    assert scores.mean["eao"] == pytest.approx(expected["eao"]["all"], abs=1e-4)
    for tag, value in expected["eao"].items():
        assert tag == "all" or scores.attributes[tag]["eao"] == pytest.approx(value, abs=1e-4)
    for name, failures in expected["failures_per_sequence"].items():
        assert scores.sequences[name]["lost_number"] == np.mean(failures)
    for name, value in expected["mean_overlap_per_sequence"].items():
        assert scores.sequences[name]["accuracy"] == pytest.approx(value, abs=1e-4)
    assert not scores.notes
