"""Figures of protocols against the tools that define them."""

import json
from pathlib import Path

import numpy as np
import pytest

from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.protocols import got10k, multistart, one_pass, supervised, vos
from siamtrack.evaluate.results import STARTED, Result, Run
from siamtrack.evaluate.sequences import Sequence
from tests.conftest import DATA
from tests.parity import golden_vot
from tests.parity.multistart_runs import INTERVAL, SIZE, runs

GOLDEN = DATA.parent / "golden" / "vot"
HERE = Path(__file__).parent


def sequence(name, boxes, **facts):
    return Sequence(name, tuple(Path(f"{number}.jpg") for number in range(len(boxes))), boxes, **facts)


def result(boxes, **facts):
    codes = np.zeros(len(boxes), np.int8)
    codes[0] = STARTED
    unknown = np.full(len(boxes), np.nan)
    return Result(boxes, unknown, unknown, codes, **facts)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"PySOT's recorded figures are not in {GOLDEN}")
@pytest.mark.parametrize("year", ["VOT2016", "VOT2018", "VOT2019"])
@pytest.mark.parametrize("tracker", ["polygon", "box"])
def test_pysot_gives_the_same_vot_figures(year, tracker):
    expected = json.loads((GOLDEN / "expected.json").read_text())[year][tracker]
    scores = supervised.score(golden_vot.dataset(GOLDEN, year), golden_vot.run(GOLDEN, tracker, year))
    assert next(iter(scores.mean)) == "eao"
    assert scores.mean["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-4)
    assert scores.mean["robustness"] == pytest.approx(expected["robustness"], abs=1e-4)
    assert scores.mean["lost_number"] == expected["lost_number"]
    assert scores.mean["eao"] == pytest.approx(expected["eao"]["all"], abs=1e-4)
    for name, failures in expected["failures_per_sequence"].items():
        assert scores.sequences[name]["lost_number"] == np.mean(failures)
    for name, value in expected["mean_overlap_per_sequence"].items():
        assert scores.sequences[name]["accuracy"] == pytest.approx(value, abs=1e-4)
    assert {"camera_motion", "empty"} <= scores.attributes.keys()
    assert not scores.notes


def test_vot_toolkit_gives_the_same_multi_start_figures():
    # Recorded by benchmarks/record_vot_multistart.py with vot-toolkit 0.9.0.
    recorded = json.loads((HERE / "vot_multistart.json").read_text())
    sequences, results = [], {}
    for name, (truth, made) in runs().items():
        sequences.append(sequence(name, truth, size=SIZE, anchors=tuple(made)))
        results[name] = tuple(
            result(boxes, start=anchor if anchor >= 0 else ~anchor, backward=anchor < 0)
            for anchor, boxes in made.items()
        )
    run = Run("made up", "made up", "multi-start", results, {})
    scores = multistart.score(Dataset("made up", tuple(sequences)), run, INTERVAL)
    for figure in ("eao", "accuracy", "robustness"):
        assert scores.mean[figure] == pytest.approx(recorded[figure], abs=1e-6)
    np.testing.assert_allclose(scores.curves["eao"].y[:200], recorded["curve"], atol=1e-6)
    assert 0.1 < scores.mean["robustness"] < 0.9  # that some runs fail and some do not


class Annotations:
    """Sequences as the data sets of the got10k package give them."""

    def __init__(self, items):
        self.items, self.seq_names = items, [name for name, *_ in items]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        if isinstance(index, str):
            index = self.seq_names.index(index)
        return [], *self.items[index][1:]


@pytest.fixture
def made_up(tmp_path):
    """Sequences and a tracker's boxes, three digits after the point as in result files."""
    generator = np.random.default_rng(11)
    made = []
    for number, length in enumerate((60, 90, 41)):
        truth = np.concatenate([generator.normal(80, 40, (length, 2)), generator.uniform(5, 90, (length, 2))], 1).round(
            3
        )
        boxes = (truth + generator.normal(0, 15, truth.shape) * generator.random((length, 1))).round(3)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 1)
        boxes[0] = truth[0]
        made.append((f"sequence{number}", truth, boxes))
    return made


def test_got10k_package_gives_the_same_one_pass_figures(made_up, tmp_path):
    experiments = pytest.importorskip("got10k.experiments", reason="the got10k package is not installed")
    import matplotlib

    matplotlib.use("Agg")
    experiment = object.__new__(experiments.ExperimentOTB)
    experiment.dataset = Annotations([(name, truth) for name, truth, _ in made_up])
    experiment.result_dir, experiment.report_dir = str(tmp_path / "results"), str(tmp_path / "reports")
    experiment.nbins_iou, experiment.nbins_ce = 21, 51
    (tmp_path / "results" / "made up").mkdir(parents=True)
    for name, _, boxes in made_up:
        np.savetxt(tmp_path / "results" / "made up" / f"{name}.txt", boxes, fmt="%.3f", delimiter=",")
    theirs = experiment.report(["made up"])["made up"]
    dataset = Dataset("made up", tuple(sequence(name, truth) for name, truth, _ in made_up))
    run = Run("made up", "made up", "one-pass", {name: (result(boxes),) for name, _, boxes in made_up}, {})
    scores = one_pass.score(dataset, run)
    assert scores.mean["auc"] == pytest.approx(theirs["overall"]["success_score"], abs=1e-6)
    assert scores.mean["precision"] == pytest.approx(theirs["overall"]["precision_score"], abs=1e-6)
    np.testing.assert_allclose(scores.curves["success"].y, theirs["overall"]["success_curve"], atol=1e-6)
    np.testing.assert_allclose(scores.curves["precision"].y, theirs["overall"]["precision_curve"], atol=1e-6)
    for name, figures in theirs["seq_wise"].items():
        assert scores.sequences[name]["auc"] == pytest.approx(figures["success_score"], abs=1e-6)
        assert scores.sequences[name]["precision"] == pytest.approx(figures["precision_score"], abs=1e-6)


def test_got10k_package_gives_the_same_overlaps_and_success_rates(made_up, tmp_path):
    experiments = pytest.importorskip("got10k.experiments", reason="the got10k package is not installed")
    import matplotlib

    matplotlib.use("Agg")
    generator = np.random.default_rng(12)
    size = (150, 120)
    items, sequences = [], []
    for number, (name, truth, boxes) in enumerate(made_up):
        cover = generator.integers(0, 9, len(truth))
        items.append((name, truth.copy(), {"cover": cover, "resolution": str(size)}))
        sequences.append(sequence(name, truth, size=size, counts=cover > 0, group="a" if number else "b"))
        folder = tmp_path / "results" / "made up" / name
        folder.mkdir(parents=True)
        np.savetxt(folder / f"{name}_001.txt", boxes, fmt="%.3f", delimiter=",")
        np.savetxt(folder / f"{name}_time.txt", np.full(len(boxes), 0.01), fmt="%.8f", delimiter=",")
    experiment = object.__new__(experiments.ExperimentGOT10k)
    experiment.subset, experiment.nbins_iou, experiment.dataset = "val", 101, Annotations(items)
    experiment.result_dir, experiment.report_dir = str(tmp_path / "results"), str(tmp_path / "reports")
    theirs = experiment.report(["made up"])["made up"]
    run = Run("made up", "made up", "got10k", {name: (result(boxes),) for name, _, boxes in made_up}, {})
    scores = got10k.score(Dataset("made up", tuple(sequences)), run)
    assert scores.mean["ao"] == pytest.approx(theirs["overall"]["ao"], abs=1e-6)
    assert scores.mean["sr50"] == pytest.approx(theirs["overall"]["sr"], abs=1e-6)
    assert scores.mean["sr75"] == pytest.approx(theirs["overall"]["succ_curve"][75], abs=1e-6)
    np.testing.assert_allclose(scores.curves["success"].y, theirs["overall"]["succ_curve"], atol=1e-6)
    each = {name: figures["ao"] for name, figures in theirs["seq_wise"].items()}
    assert {name: scores.sequences[name]["ao"] for name in each} == pytest.approx(each, abs=1e-6)
    by_class = np.mean([each["sequence0"], (each["sequence1"] + each["sequence2"]) / 2])
    assert scores.mean["mao"] == pytest.approx(by_class, abs=1e-6)


def slow_contour(found, truth):
    """F by its definition: for each pixel of a contour, whether one of the other is within the disk."""
    height, width = truth.shape
    radius = np.ceil(0.008 * np.hypot(height, width))

    def contour(mask):
        return [
            (y, x)
            for y in range(height)
            for x in range(width)
            if any(
                mask[y, x] != mask[y + down, x + right]
                for down, right in ((0, 1), (1, 0), (1, 1))
                if y + down < height and x + right < width
            )
        ]

    def share(these, those):
        return np.mean([min((y - v) ** 2 + (x - u) ** 2 for v, u in those) <= radius**2 for y, x in these])

    mine, theirs = contour(found), contour(truth)
    if not mine or not theirs:
        return float(not mine and not theirs)
    precision, recall = share(mine, theirs), share(theirs, mine)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def blob(generator, height, width):
    y, x = np.mgrid[:height, :width]
    center, size = generator.uniform(0.2, 0.8, 2) * (height, width), generator.uniform(5, 25, 2)
    wave = 1 + 0.3 * np.sin(generator.uniform(1, 6) * np.arctan2(y - center[0], x - center[1]))
    return ((y - center[0]) / size[0]) ** 2 + ((x - center[1]) / size[1]) ** 2 < wave


def test_regions_and_contours_are_their_definitions():
    generator = np.random.default_rng(2)
    values = []
    for number in range(25):
        truth = blob(generator, 60, 90)
        found = np.roll(truth, generator.integers(-4, 5, 2), (0, 1)) if number % 3 else blob(generator, 60, 90)
        both, either = (found & truth).sum(), (found | truth).sum()
        assert vos.region(found, truth) == pytest.approx(both / either, abs=1e-6)
        values.append(vos.contour(found, truth))
        assert values[-1] == pytest.approx(slow_contour(found, truth), abs=1e-6)
    assert np.ptp(values) > 0.5
    empty = np.zeros((60, 90), bool)
    assert vos.contour(empty, empty) == vos.region(empty, empty) == 1
    assert vos.contour(empty, truth) == vos.region(truth, empty) == 0
