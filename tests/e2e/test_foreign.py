"""Results of other tools in, archives out, and a workspace, through the command line."""

import zipfile

import numpy as np
import pytest
from tests.conftest import siamtrack

from siamtrack.evaluate.datasets import read_dataset
from siamtrack.evaluate.protocols import PROTOCOLS
from siamtrack.evaluate.results import read_run


@pytest.fixture
def results(sequences, tmp_path):
    """Two trackers in PySOT's layout: one perfect, one that lacks a sequence."""
    for sequence in read_dataset("folder", sequences).sequences:
        for tracker in ("perfect", "partial")[: 1 if sequence.name == "polygons" else 2]:
            (tmp_path / "results" / tracker).mkdir(parents=True, exist_ok=True)
            boxes = np.where(np.isnan(sequence.boxes), 1, sequence.boxes)
            np.savetxt(tmp_path / "results" / tracker / f"{sequence.name}.txt", boxes, "%.2f", ",")
    return tmp_path / "results"


def test_import_score_and_submit(sequences, results, tmp_path):
    options = ["--dataset", "folder", "--root", sequences, "--out", "runs"]
    done = siamtrack("import", results, *options, folder=tmp_path)
    assert "perfect: one-pass, 2 of 2 sequences" in done.stdout
    assert "partial: one-pass, 1 of 2 sequences" in done.stdout
    assert "no results of polygons; means are over the other 1" in done.stdout
    dataset = read_dataset("folder", sequences)
    for tracker, count in (("perfect", 2), ("partial", 1)):
        run = read_run(tmp_path / "runs" / tracker)
        scores = PROTOCOLS[run.protocol].score(dataset, run)
        assert len(scores.sequences) == count
        assert scores.mean["auc"] == pytest.approx(20 / 21)
        assert run.facts["root"] == str(sequences)

    siamtrack("submit", "runs/perfect", "--format", "trackingnet", "--out", "a.zip", folder=tmp_path)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["boxes.txt", "polygons.txt"]
        assert len(archive.read("boxes.txt").splitlines()) == 12
    done = siamtrack("submit", "runs/partial", "--format", "got10k", "--out", "b.zip", folder=tmp_path, code=2)
    assert "lacks 1 of 2 sequences (polygons)" in done.stderr
    assert not (tmp_path / "b.zip").exists()


def test_two_runs_of_one_name_are_refused(sequences, results, tmp_path):
    options = ["--dataset", "folder", "--root", sequences, "--out", "runs", "--tracker", "mine"]
    siamtrack("import", results / "perfect", *options, folder=tmp_path)
    siamtrack("import", results / "perfect", *options, folder=tmp_path)  # the same again
    done = siamtrack("import", results / "partial", *options, folder=tmp_path, code=2)
    assert "holds another run: imported was" in done.stderr
    done = siamtrack("import", results, *options, folder=tmp_path, code=2)
    assert "no results of tracker 'mine'; there are partial, perfect" in done.stderr


def test_counting_from_one_must_be_said(sequences, results, tmp_path):
    path = results / "partial" / "boxes.txt"
    np.savetxt(path, np.loadtxt(path, delimiter=",") + [1, 1, 0, 0], "%.2f", ",")
    options = [results / "partial", "--dataset", "folder", "--root", sequences, "--out", "runs"]
    done = siamtrack("import", *options, folder=tmp_path, code=2)
    assert "off by exactly 1,1 (so in 1 of 1 files): do they count pixels from 1?" in done.stderr
    assert not (tmp_path / "runs").exists()
    siamtrack("import", *options, "--one-based", folder=tmp_path)
    (result,) = read_run(tmp_path / "runs" / "partial").results["boxes"]
    np.testing.assert_allclose(result.boxes, read_dataset("folder", sequences).sequences[0].boxes)


def test_vot_makes_a_workspace(tmp_path):
    done = siamtrack("vot", "w", "--stack", "vot2022/shortterm", folder=tmp_path)
    assert "vot evaluate --workspace w siamrpnpp_lite" in done.stdout
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == [
        "config.yaml", "results", "sequences", "trackers.ini"
    ]  # fmt: skip
    done = siamtrack("vot", "v", "--stack", "vot2022/shortterm", "--model", "nothing", folder=tmp_path, code=2)
    assert not (tmp_path / "v").exists()
