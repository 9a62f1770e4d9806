"""PySOT's recorded result files (shared/golden/vot) are read as PySOT reads them."""

import json
from pathlib import Path

import numpy as np
import pytest

from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.foreign import find_trackers, read_results
from siamtrack.evaluate.results import FAILED, STARTED
from siamtrack.evaluate.sequences import Sequence
from siamtrack.regions import enclosing_box
from tests.conftest import DATA

GOLDEN = DATA.parent / "golden" / "vot"


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"there is no {GOLDEN}")
@pytest.mark.parametrize("tracker", ["polygon", "box"])
def test_failures_are_those_that_pysot_counts(tracker):
    videos = json.loads((GOLDEN / "dataset.json").read_text())
    sequences = []
    for name, video in videos.items():
        regions = tuple(np.array(region, float).reshape(-1, 2) for region in video["gt_rect"])
        boxes = np.array([enclosing_box(region) for region in regions])
        paths = (Path("no.jpg"),) * len(boxes)
        sequences.append(Sequence(name, paths, boxes, regions, size=(video["width"], video["height"])))
    dataset = Dataset("vot2018", tuple(sequences), "supervised")
    layout = find_trackers(GOLDEN / "results", dataset)[tracker]
    run = read_results(tracker, layout, dataset)
    expected = json.loads((GOLDEN / "expected.json").read_text())["VOT2018"][tracker]
    assert run.protocol == "supervised"
    assert {name: [int((result.codes == FAILED).sum()) for result in each] for name, each in run.results.items()} == (
        expected["failures_per_sequence"]
    )
    for name, (result,) in run.results.items():
        starts, failures = (np.flatnonzero(result.codes == code) for code in (STARTED, FAILED))
        assert starts.tolist() == [0, *(number + 5 for number in failures if number + 5 < len(result))], name
        assert (result.polygons is not None) == (tracker == "polygon")
