"""The work queue, with a made-up tracker in this process; processes and clusters are in tests/e2e/test_eval.py."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from siamtrack import workers
from siamtrack.evaluate import running, work
from siamtrack.evaluate.protocols import PROTOCOLS, Protocol, one_pass
from siamtrack.evaluate.results import read_run, sequence_file, write_run
from siamtrack.evaluate.sequences import Sequence
from siamtrack.regions import decode_mask
from siamtrack.tracking.state import TrackResult


class Still:
    """Says that the object does not move."""

    def init(self, frame, box):
        self.box = box

    def update(self, frame):
        return TrackResult(self.box, 0.5)


class Broken(Still):
    def update(self, frame):
        raise ZeroDivisionError("of a made-up tracker")


@pytest.fixture
def sequences(tmp_path):
    (tmp_path / "0.png").write_bytes(cv2.imencode(".png", np.zeros((30, 40, 3), np.uint8))[1].tobytes())
    boxes = np.array([[5, 5, 10, 10]] * 4, float)
    return [
        Sequence(name, (tmp_path / "0.png",) * count, boxes[:count]) for name, count in (("a", 2), ("b", 4), ("c", 3))
    ]


def names(jobs):
    return [(job.run.name, *(sequence.name for sequence in job.sequences)) for job in jobs]


def test_long_sequences_come_first_and_trackers_take_turns(sequences, tmp_path):
    runs = {tmp_path / "x": Still, tmp_path / "y": Still}
    jobs = work.plan(runs, sequences, "one-pass")
    assert names(jobs) == [("x", "b"), ("y", "b"), ("x", "c"), ("y", "c"), ("x", "a"), ("y", "a")]
    assert [job.frames(0) for job in jobs] == [4, 4, 3, 3, 2, 2]
    write_run(tmp_path / "y", "y", "d", "one-pass", {})
    sequence_file(tmp_path / "y", "c").write_text("[]")
    jobs = work.plan(runs, sequences, "one-pass", batch=2)
    assert names(jobs) == [("x", "b", "c", "a"), ("y", "b", "a")]
    recipe = work.TrackerRecipe("opencv-mil")  # follows one only
    assert names(work.plan({tmp_path / "m": recipe}, sequences, "one-pass", batch=2))[0] == ("m", "b")
    assert len(work.plan({tmp_path / "x": Still}, sequences, "one-pass", fps=20, batch=2)) == 3


def test_what_breaks_is_told_and_the_rest_is_written(sequences, tmp_path):
    runs = {tmp_path / "good": Still, tmp_path / "bad": Broken}
    for run in runs:
        write_run(run, run.name, "d", "one-pass", {})
    seen = []
    failures = work.execute(work.plan(runs, sequences, "one-pass"), on_frames=seen.append)
    assert [(failure.run.name, failure.sequence) for failure in failures] == [("bad", "b"), ("bad", "c"), ("bad", "a")]
    assert failures[0].reason.startswith("ZeroDivisionError: of a made-up tracker (test_work.py, line ")
    assert sorted(read_run(tmp_path / "good").results) == ["a", "b", "c"]
    assert not read_run(tmp_path / "bad").results
    assert sum(seen) == 9 + 3  # the broken one got through its first frames


def test_stopping_drops_the_sequence_under_way(sequences, tmp_path):
    write_run(tmp_path / "x", "x", "d", "one-pass", {})
    seen = []
    jobs = work.plan({tmp_path / "x": Still}, sequences, "one-pass")
    assert work.execute(jobs, on_frames=seen.append, stopped=lambda: len(seen) == 6) == []
    assert list(read_run(tmp_path / "x").results) == ["b"]


def test_the_objects_of_a_video_are_one_job(sequences, tmp_path, monkeypatch):
    monkeypatch.setitem(
        PROTOCOLS, "objects", Protocol(running.one_object, one_pass.score, one_pass.overlap, running.separate)
    )
    one = replace(sequences[0], name="video/1", masks=(None, None))
    two = replace(one, name="video/2", boxes=one.boxes + [5, 0, 0, 0])
    jobs = work.plan({tmp_path / "x": Still}, [one, *sequences, two], "objects")
    assert names(jobs) == [("x", "video/1", "video/2"), ("x", "b"), ("x", "c"), ("x", "a")]
    write_run(tmp_path / "x", "x", "d", "objects", {})
    assert work.execute(jobs) == []
    results = read_run(tmp_path / "x").results
    # They overlap by half, are equally sure, and so the first keeps its pixels.
    assert [decode_mask(results[f"video/{n}"][0].masks[1]).pixels.shape for n in (1, 2)] == [(10, 10), (10, 5)]


@pytest.mark.parametrize(
    ("count", "together", "given", "sizes"),
    [
        (3, 1, 1, [1, 1, 1]),
        (100, 16, 1, [100]),
        (100, 16, 2, [50, 50]),
        (10, 2, 4, [3, 3, 3, 1]),
        (20, 2, 2, [8, 8, 4]),
        (100, 16, None, [16] * 6 + [4]),
        (0, 4, 1, []),
    ],
)
def test_what_goes_into_a_job(count, together, given, sizes):
    assert [len(each) for each in workers.portions(range(count), together, given)] == sizes


def test_workers_share_the_cores(monkeypatch):
    if not hasattr(workers.os, "sched_getaffinity"):
        pytest.skip("this system does not pin processes")
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda pid: {0, 1, 4, 5, 6})
    assert [workers.share(2, number) for number in (0, 1)] == [[0, 1], [4, 5]]
    assert [workers.share(7, number) for number in (0, 5, 6)] == [[0], [0], [1]]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None, None), None),
        ((None, 1, None), None),
        ((3, 1, None), 3),
        ((None, 4, None), 2),
        ((3, 4, None), 3),
        ((None, 16, None), 1),
        ((None, 4, "auto"), 1),
        ((3, None, "auto"), 3),
    ],
)
def test_threads_of_a_worker(monkeypatch, given, expected):
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(workers.os, "sched_setaffinity", None, raising=False)
    assert workers.fair_share(*given) == expected
