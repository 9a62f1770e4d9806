"""``siamtrack report`` as a user runs it."""

import csv
import io
import json
import os
import subprocess
import sys
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from tests.conftest import siamtrack

from siamtrack.evaluate.datasets import read_dataset
from siamtrack.evaluate.results import STARTED, Result, write_run, write_sequence

HOSTILE = "b<i>&_|"


def report(*arguments, folder, code=0):
    return siamtrack("report", *arguments, folder=folder, code=code)


def write(folder, root, tracker, pixels, **changes):
    """Write the run of a made-up tracker that is off by so many pixels more in each frame."""
    facts = {"protocol": "one-pass", "dataset": "folder", "root": str(root), "only": [], "frames": None} | changes
    write_run(folder, tracker, facts.pop("dataset"), facts.pop("protocol"), facts)
    for sequence in read_dataset("folder", root).sequences:
        boxes = np.nan_to_num(sequence.boxes, nan=50.0) + np.arange(len(sequence))[:, None] * [pixels, 0, 0, 0]
        codes = np.zeros(len(boxes), np.int8)
        codes[0] = STARTED
        result = Result(boxes, np.ones(len(boxes)), np.full(len(boxes), 0.01 * pixels), codes)
        write_sequence(folder, sequence.name, (result,))


@pytest.fixture
def runs(sequences, tmp_path):
    write(tmp_path / "runs" / "a", sequences, "a", 1)
    write(tmp_path / "runs" / "b", sequences, HOSTILE, 3)
    return tmp_path / "runs"


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.addresses, self.text, self.tags = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("href", "src", "xlink:href", "srcset", "action")]

    def handle_data(self, data):
        self.text += data


def test_page(runs, tmp_path):
    done = report(runs, "--out", "page.html", folder=tmp_path)
    assert done.stdout == "wrote page.html\n"
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Links(text)
    assert "://" not in text  # nothing is fetched, nothing could be
    assert page.addresses
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert "url(" not in text.replace("url(#", "")
    for name in ("a", HOSTILE, "boxes", "polygons", "mean overlap"):
        assert name in page.text
    assert "i" not in page.tags
    assert page.tags.count("image") == 8  # 4 moments of 2 sequences
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "runs"]


def test_page_by_default_and_without_frames(runs, tmp_path):
    report(runs / "a", runs / "b", "--no-frames", folder=tmp_path)
    assert "data:image/jpeg" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_tables_to_the_terminal_and_to_files(runs, tmp_path):
    done = report(runs, "--format", "csv", folder=tmp_path)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["part"], row["name"], row["tracker"]) for row in rows[:3]] == [
        ("all", "", "a"),
        ("all", "", HOSTILE),
        ("sequence", "boxes", "a"),
    ]
    assert float(rows[0]["auc"]) > float(rows[1]["auc"])
    assert [float(row["update_ms"]) for row in rows[:2]] == [10, 30]
    done = report(runs, "--format", "md", folder=tmp_path)
    assert "| b&lt;i>&amp;\\_\\| |" in done.stdout
    report(runs, "--out", "tables.tex", folder=tmp_path)
    assert r"b\textless{}i\textgreater{}\&\_\textbar{}" in (tmp_path / "tables.tex").read_text(encoding="utf-8")


def test_data_set_that_moved(runs, sequences, tmp_path):
    for name in ("a", "b"):
        path = runs / name / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"root": "/gone"}))
    done = report(runs, folder=tmp_path, code=2)
    assert done.stderr == "error: the data set folder is not at /gone; say where it is with --root\n"
    done = report(runs, "--dataset", "folder", "--root", sequences, "--format", "md", folder=tmp_path)


def test_missing_images_are_not_fatal(square, tmp_path):
    (tmp_path / "data" / "one" / "img").mkdir(parents=True)
    (tmp_path / "data" / "one" / "groundtruth.txt").write_text("100,90,40,40\n" * 12)
    for number in range(12):
        path = tmp_path / "data" / "one" / "img" / f"{number:02d}.png"
        cv2.imwrite(str(path), square[0][number])
        if number % 3 == 0:
            path.write_bytes(b"")
    write(tmp_path / "run", tmp_path / "data", "t", 2)
    report("run", folder=tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "pictures are left out: images cannot be read" in text
    assert "data:image/jpeg" in text


def test_runs_of_one_tracker_are_called_as_their_folders(runs, sequences, tmp_path):
    write(runs / "a-again", sequences, tracker="a", pixels=2)
    done = report(runs, "--format", "csv", folder=tmp_path)
    assert "a-again" in done.stdout
    done = report(runs, runs / "a", folder=tmp_path, code=2)
    assert "two runs are of a tracker named 'a'" in done.stderr
    done = report(runs, "--out", "report.pdf", folder=tmp_path, code=2)
    assert "report.pdf: the name must end in .html, .md, .tex, .csv" in done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "other"}, "differ in dataset"),
        ({"protocol": "long-term"}, "differ in protocol"),
    ],
)
def test_runs_that_do_not_belong_together(runs, sequences, tmp_path, changes, message):
    write(runs / "c", sequences, **{"tracker": "c", "pixels": 2} | changes)
    done = report(runs, folder=tmp_path, code=2)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "report.html").exists()


def test_nothing_to_report(sequences, tmp_path):
    write_run(tmp_path / "runs" / "a", "a", "folder", "one-pass", {"root": str(sequences)})
    for arguments, message in [
        (["runs"], "nothing is finished in runs/a"),
        (["gone"], "there is no run gone"),
        (["."], "is no run and holds none"),
        (["runs", "--out", "gone/report.html"], "there is no folder gone"),
    ]:
        done = report(*arguments, folder=tmp_path, code=2)
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_page_needs_the_extra_and_tables_do_not(runs, tmp_path):
    # An interpreter in which matplotlib cannot be found.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Without:\n"
        "    def __init__(self, finder): self.finder = finder\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        hidden = name.split('.')[0] in ('matplotlib', 'jinja2')\n"
        "        return None if hidden else self.finder.find_spec(name, path, target)\n"
        "sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command, environment = [sys.executable, "-m", "siamtrack", "report", str(runs)], {**os.environ, "PYTHONPATH": path}
    tables, page = (
        subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, env=environment)
        for options in (("--format", "md"), ())
    )
    assert tables.returncode == 0, tables.stderr
    assert page.returncode == 2
    assert "pip install 'siamtrack[report]'" in page.stderr
