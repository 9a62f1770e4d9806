"""Overlaps of regions against the two tools of the VOT benchmark."""

import json
from pathlib import Path

import numpy as np
import pytest

from siamtrack import regions
from tests.conftest import DATA

GOLDEN = DATA.parent / "golden" / "vot"
HERE = Path(__file__).parent
THIN = {3467, 3883, 4113, 4398}
"""Pairs that together cover one row or column inside the image: vot-toolkit gives 0 for them, whatever they share."""


def as_region(values):
    return np.array(values) if len(values) == 4 else np.array(values).reshape(-1, 2)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"PySOT's recorded overlaps are not in {GOLDEN}")
def test_recorded_pysot_overlaps_are_met_exactly():
    pairs = json.loads((GOLDEN / "overlaps.json").read_text())
    assert len(pairs) == 400
    a, b = ([as_region(pair[key]) for pair in pairs] for key in "ab")
    bounded = [regions.overlap(x, y, tuple(pair["bounds"])) for x, y, pair in zip(a, b, pairs, strict=True)]
    np.testing.assert_array_equal(bounded, [pair["overlap"] for pair in pairs])
    np.testing.assert_array_equal(regions.overlaps(a, b), [pair["overlap_unbounded"] for pair in pairs])


def test_vot_toolkit_gives_the_same_overlaps():
    # Recorded by benchmarks/record_vot_overlaps.py with vot-toolkit 0.9.0.
    from tests.parity.region_pairs import COUNT, pair

    recorded = np.load(HERE / "vot_overlaps.npz")["overlaps"]
    ours = np.empty(COUNT)
    for number in range(COUNT):
        a, b, bounds = pair(number)
        a, b = (regions.Mask(*region) if isinstance(region, tuple) else region for region in (a, b))
        ours[number] = regions.overlap(a, b, bounds, "vot-toolkit")
    compared = np.setdiff1d(np.arange(COUNT), list(THIN))
    assert len(compared) >= 10_000
    assert (recorded[compared] > 0).mean() > 0.7  # that it is not a comparison of zeros
    np.testing.assert_allclose(ours[compared], recorded[compared], atol=1e-6)
