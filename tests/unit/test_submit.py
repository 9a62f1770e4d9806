import zipfile
from dataclasses import replace

import numpy as np
import pytest

from siamtrack.errors import UserError
from siamtrack.evaluate.datasets import read_dataset
from siamtrack.evaluate.foreign import find_trackers, read_results
from siamtrack.evaluate.results import FAILED, SKIPPED, STARTED, TRACKED, Result, Run
from siamtrack.evaluate.submit import form_of, write_submission


def result(boxes, codes=None, **more) -> Result:
    boxes = np.array(boxes, float)
    count = len(boxes)
    codes = np.array(codes or [STARTED] + [TRACKED] * (count - 1), np.int8)
    return Result(boxes, np.array([np.nan] + [0.5] * (count - 1)), np.full(count, 0.25), codes, **more)


BOXES = [[1, 2, 3, 4], [2, 2, 3, 4], [3, 2, 3.12345, 4]]


def run(dataset="got10k", protocol="got10k", results=None, **facts) -> Run:
    return Run("mine", dataset, protocol, results or {"a": (result(BOXES),), "b": (result(BOXES[:2]),)}, facts)


def contents(path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_got10k(tmp_path):
    twice = {"b": (result(BOXES[:2]), result(BOXES[1:])), "a": (result(BOXES),)}
    write_submission(run(results=twice), "got10k", tmp_path / "a.zip")
    files = contents(tmp_path / "a.zip")
    assert list(files) == ["a/a_001.txt", "a/a_time.txt", "b/b_001.txt", "b/b_002.txt", "b/b_time.txt"]
    assert files["a/a_001.txt"] == "1.000,2.000,3.000,4.000\n2.000,2.000,3.000,4.000\n3.000,2.000,3.123,4.000\n"
    assert files["b/b_time.txt"] == "0.25000000,0.25000000\n" * 2


def test_trackingnet(tmp_path):
    write_submission(run("trackingnet", "one-pass"), "trackingnet", tmp_path / "a.zip")
    files = contents(tmp_path / "a.zip")
    assert list(files) == ["a.txt", "b.txt"]
    assert files["b.txt"] == "1.000,2.000,3.000,4.000\n2.000,2.000,3.000,4.000\n"
    with pytest.raises(UserError, match="sequence a has 2 repetitions, but TrackingNet takes one"):
        write_submission(run(results={"a": (result(BOXES),) * 2}), "trackingnet", tmp_path / "b.zip")


NOTHING = [np.nan] * 4


def test_vot_supervised(tmp_path):
    codes = [STARTED, TRACKED, FAILED, SKIPPED]
    content = run("vot2018", "supervised", {"a": (result([*BOXES, NOTHING], codes),)})
    assert form_of(content) == "vot"
    write_submission(content, "vot", tmp_path / "a.zip")
    files = contents(tmp_path / "a.zip")
    stem = "mine/baseline/a/a_001"
    assert list(files) == [f"{stem}.txt", f"{stem}_confidence.value", f"{stem}_time.value"]
    assert files[f"{stem}.txt"] == "1\n2.0000,2.0000,3.0000,4.0000\n2\n0\n"
    assert files[f"{stem}_confidence.value"] == "\n0.5\n0.5\n0.5\n"


def test_vot_multi_start_polygons_and_masks(tmp_path):
    polygons = np.array([[[0, 0], [4, 0], [4, 4], [0, 4]]] * 3, float)
    content = {
        "a": (
            result(BOXES, polygons=polygons),
            result(BOXES, masks=(None, "m1,2,2,1,1,1", None), start=2, backward=True),
        )
    }
    write_submission(run("vot2022", "multi-start", content, realtime=True), "vot", tmp_path / "a.zip")
    files = contents(tmp_path / "a.zip")
    assert (
        files["mine/realtime/a/a_00000000.txt"].splitlines()[1]
        == "0.0000,0.0000,4.0000,0.0000,4.0000,4.0000,0.0000,4.0000"
    )
    assert files["mine/realtime/a/a_00000002.txt"].splitlines() == ["1", "m1,2,2,1,1,1", "0"]


def test_the_vot_form_is_read_again(tmp_path, sequences):
    dataset = read_dataset("folder", sequences, ("boxes",))
    (sequence,) = dataset.sequences
    boxes = sequence.boxes + [0.5, 0, 0, 0]
    boxes[0], boxes[3:5] = sequence.boxes[0], np.nan
    codes = [STARTED, TRACKED, TRACKED, FAILED, SKIPPED] + [TRACKED] * 7
    written = result(boxes, codes)
    content = run("folder", "supervised", {"boxes": (written,)})
    write_submission(content, "vot", tmp_path / "a.zip", dataset)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "results")
    ((name, layout),) = find_trackers(tmp_path / "results", dataset).items()
    again = read_results(name, layout, dataset)
    assert (again.tracker, again.protocol) == ("mine", "supervised")
    for field in ("boxes", "codes", "scores", "seconds"):
        np.testing.assert_array_equal(getattr(again.results["boxes"][0], field), getattr(written, field))


def test_equal_runs_give_equal_bytes(tmp_path):
    other = {"b": (result(BOXES[:2]),), "a": (result(BOXES),)}
    write_submission(run(), "got10k", tmp_path / "a.zip")
    write_submission(run(results=other), "got10k", tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_what_cannot_be_submitted_is_refused(tmp_path, sequences):
    out = tmp_path / "a.zip"
    with pytest.raises(UserError, match="sequence a has no box in frame 1 .the tracker found nothing"):
        write_submission(run(results={"a": (result([BOXES[0], NOTHING]),)}), "got10k", out)
    with pytest.raises(UserError, match="no form is known .* one-pass on data set folder; give --format"):
        form_of(run("folder", "one-pass"))
    with pytest.raises(UserError, match="unknown format 'got-10k'; did you mean 'got10k'"):
        write_submission(run(), "got-10k", out)
    with pytest.raises(UserError, match="no finished sequences"):
        write_submission(replace(run(), results={}), "got10k", out)
    dataset = read_dataset("folder", sequences)
    complete = {name: (result(np.tile(BOXES, (4, 1))),) for name in ("boxes", "polygons")}
    with pytest.raises(UserError, match=r"lacks 1 of 2 sequences \(polygons\)"):
        write_submission(run(results={"boxes": complete["boxes"]}), "got10k", out, dataset)
    with pytest.raises(
        UserError, match="has 3 frames of sequence polygons, which has 12; run it again without --frames"
    ):
        write_submission(run(results=complete | {"polygons": (result(BOXES),)}), "got10k", out, dataset)
    assert list(tmp_path.iterdir()) == []
    write_submission(run(results=complete), "got10k", out, dataset)
    assert len(contents(out)) == 4
