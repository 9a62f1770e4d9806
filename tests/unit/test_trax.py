"""siamtrack as a TraX tracker, driven by the reference client of vot-trax; and the VOT toolkit's workspace."""

import configparser
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from siamtrack.errors import UserError
from siamtrack.evaluate.running import start_box
from siamtrack.evaluate.workspace import tracker_name, write_workspace
from siamtrack.tracker import Tracker

ROOT = Path(__file__).parents[2]


@pytest.fixture
def frames(square, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for path, image in zip(paths, square[0], strict=False):
        cv2.imwrite(str(path), image)
    return paths


@pytest.mark.parametrize("kind", ["rectangle", "polygon", "mask"])
def test_a_client_gets_what_the_tracker_finds(square, frames, kind):
    pytest.importorskip("trax", reason="vot-trax is not installed (extra vot)")
    from trax.client import Client
    from trax.image import FileImage
    from trax.region import Mask, Polygon, Rectangle

    x, y, w, h = map(float, square[1][0])
    corners = [(x - 4, y + 10), (x + 30, y - 4), (x + 44, y + 30), (x + 10, y + 44)]
    mask = np.zeros((240, 320), np.uint8)
    mask[90:130, 100:140] = 1
    region, box = {
        "rectangle": lambda: (Rectangle.create(x, y, w, h), square[1][0]),
        "polygon": lambda: (Polygon.create(corners), start_box(np.array(corners))),
        "mask": lambda: (Mask.create(mask), np.array([100, 90, 40, 40])),
    }[kind]()
    command = [sys.executable, "-m", "siamtrack", "trax", "--threads", "1"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "TRAX": "1"})
    client = Client(stream=(process.stdin.fileno(), process.stdout.fileno()), log=lambda text: None)
    answers = [client.initialize({"color": FileImage.create(str(frames[0]))}, [(region, {})], {})[0]]
    for path in frames[1:]:
        answers.append(client.frame({"color": FileImage.create(str(path))}, {}, [])[0])
    client.quit()
    assert process.wait(10) == 0

    tracker = Tracker(threads=1)
    tracker.init(cv2.imread(str(frames[0])), box)
    for path, ((found, properties),) in zip(frames[1:], answers[1:], strict=True):
        expected = tracker.update(cv2.imread(str(path)))
        np.testing.assert_allclose(found.bounds(), expected.box, atol=1e-3)
        assert float(properties["confidence"]) == pytest.approx(expected.score, abs=1e-4)


def test_trax_without_a_client_ends_with_a_sentence(tmp_path):
    pytest.importorskip("trax", reason="vot-trax is not installed (extra vot)")
    done = subprocess.run(
        [sys.executable, "-m", "siamtrack", "trax"], input="hello\n", capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert "no TraX client answers on stdin" in done.stderr + done.stdout


def test_what_is_wrong_is_told_to_the_client(frames):
    pytest.importorskip("trax", reason="vot-trax is not installed (extra vot)")
    from trax import TraxException
    from trax.client import Client
    from trax.image import FileImage
    from trax.region import Rectangle

    command = [sys.executable, "-m", "siamtrack", "trax", "--threads", "1", "--masks"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    client = Client(stream=(process.stdin.fileno(), process.stdout.fileno()), log=lambda text: None)
    image = {"color": FileImage.create(str(frames[0]))}
    client.initialize(image, [(Rectangle.create(100, 90, 40, 40), {})], {})
    with pytest.raises(TraxException):
        client.frame(image, {}, [])
    assert process.wait(10) == 2
    assert b"this model finds boxes only; leave --masks away" in process.stderr.read()


def test_a_workspace_says_how_to_start_the_tracker(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=r"no sequences in VOT's layout: there is no file .*list.txt"):
        write_workspace(tmp_path / "w", "vot2022/shortterm", tmp_path / "data", {})
    (tmp_path / "data" / "list.txt").write_text("")
    trackers = {"a": ["--model", "100 % mine"]}
    write_workspace(tmp_path / "w", "vot2022/shortterm", tmp_path / "data", trackers)
    config = yaml.safe_load((tmp_path / "w" / "config.yaml").read_text())
    assert config == {
        "registry": ["./trackers.ini"],
        "stack": "vot2022/shortterm",
        "sequences": str(tmp_path / "data"),
    }
    write_workspace(tmp_path / "w", "vot2022/shortterm", tmp_path / "data", {"b": ["--model", "b"]})
    registry = configparser.ConfigParser()
    registry.read(tmp_path / "w" / "trackers.ini")
    assert registry.sections() == ["a", "b"]
    assert registry["a"]["protocol"] == "trax"
    assert shlex.split(registry["a"]["command"]) == [
        sys.executable, "-m", "siamtrack", "trax", "--model", "100 % mine"
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"has stack 'vot2022/shortterm', but 'vot2019/shortterm' was asked for"):
        write_workspace(tmp_path / "w", "vot2019/shortterm", tmp_path / "data", trackers)
    with pytest.raises(UserError, match="there is no stack"):
        write_workspace(tmp_path / "w", "no.yaml", None, trackers)


def test_names_of_trackers_are_such_as_the_toolkit_takes():
    assert tracker_name("siamrpnpp_lite") == "siamrpnpp_lite"
    assert tracker_name("/a/b/My net.v2.safetensors") == "My_net_v2"


@pytest.mark.skipif("SIAMTRACK_VOT_PYTHON" not in os.environ, reason="SIAMTRACK_VOT_PYTHON names no VOT toolkit")
def test_the_vot_toolkit_records_what_our_own_runner_does(tmp_path):
    out = tmp_path / "outcome.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "vot_toolkit.py"), os.environ["SIAMTRACK_VOT_PYTHON"]]
    subprocess.run([*command, "--out", str(out)], check=True, capture_output=True)
    outcome = json.loads(out.read_text())
    compared = 0
    for experiment, ours in outcome["siamtrack"].items():
        for sequence in ("boxes", "polygons"):
            assert ours[sequence]["codes that differ"] == 0
            assert ours[sequence]["pixels apart"] < 1e-3, (experiment, sequence)  # TraX sends 4 decimals
            compared += ours[sequence]["frames"]
        same = "" if experiment == "multistart" else ", by the toolkit's definitions"
        for whose in ("read", "run"):
            assert {key: ours[whose + same][key] for key in outcome["toolkit"][experiment]} == pytest.approx(
                outcome["toolkit"][experiment], abs=1e-4
            )
    assert compared > 100
    baseline = outcome["siamtrack"]["baseline"]["read"]
    assert baseline["failures"] == outcome["toolkit"]["baseline"]["failures"] == 1  # a jump that nobody follows
    assert baseline["accuracy"] == pytest.approx(outcome["toolkit"]["baseline"]["accuracy"], abs=5e-3)  # PySOT's pixels
