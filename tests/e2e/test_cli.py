"""The commands as a user runs them, in a process of their own where that makes a difference."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
from tests.conftest import siamtrack

from siamtrack.boxes import iou
from siamtrack.video.source import VideoSource


def in_a_process(*arguments, folder):
    command = [sys.executable, "-m", "siamtrack", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_track_writes_boxes_and_video(clip, square, tmp_path):
    done = in_a_process("track", clip, "--box", "100,90,40,40", folder=tmp_path)
    assert "tracked 24 frames" in done.stdout
    table = rows(tmp_path / "square.boxes.jsonl")
    assert [list(row) for row in table] == [["frame", "time", "x", "y", "w", "h", "score", "lost"]] * 24
    assert [row["frame"] for row in table] == list(range(24))
    assert table[5]["time"] == pytest.approx(0.2)
    assert (table[0]["x"], table[0]["score"]) == (100, 1)
    boxes = np.array([[row[key] for key in "xywh"] for row in table])
    assert iou(boxes, square[1]).mean() > 0.7
    film = list(VideoSource(tmp_path / "square.tracked.mp4"))
    assert len(film) == 24
    # The box is drawn: green where its upper border is.
    x, y, w, _ = boxes[12]
    line = film[12].image[round(y) - 1 : round(y) + 2, round(x + 0.2 * w) : round(x + 0.8 * w)].astype(int)
    assert (line[..., 1] - line[..., 0]).max() > 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["square.boxes.jsonl", "square.tracked.mp4"]


def test_track_options(clip, tmp_path):
    siamtrack(
        "track", clip, "--box", "115,100,40,40", "--start", "5", "--end", "0.4s", "--out", "a.csv", "--no-video",
        "--threads", "1", "--model", "siamrpnpp_lite", "--device", "cpu", folder=tmp_path,
    )  # fmt: skip
    with (tmp_path / "a.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in table] == [5, 6, 7, 8, 9]
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_track_reads_folders_and_globs(square, tmp_path):
    (tmp_path / "frames").mkdir()
    for number, image in enumerate(square[0][:6]):
        cv2.imwrite(str(tmp_path / "frames" / f"f{number}.png"), image)
    siamtrack("track", "frames", "--box=100,90,40,40", folder=tmp_path)
    siamtrack("track", "frames/f[0-3].png", "--box=100,90,40,40", "--out", "g.jsonl", "--no-video", folder=tmp_path)
    assert len(rows(tmp_path / "frames.boxes.jsonl")) == 6
    assert rows(tmp_path / "g.jsonl") == rows(tmp_path / "frames.boxes.jsonl")[:4]


def test_sigterm_keeps_what_was_done(tmp_path):
    (tmp_path / "many").mkdir()
    frame = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "many" / "0000.jpg"), frame)
    for number in range(1, 3000):
        os.link(tmp_path / "many" / "0000.jpg", tmp_path / "many" / f"{number:04d}.jpg")
    command = [sys.executable, "-m", "siamtrack", "track", "many", "--box", "100,90,40,40"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    for _ in range(400):  # until it is under way
        time.sleep(0.05)
        if any(tmp_path.glob(".many.tracked.*.part.mp4")):
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped by SIGTERM" in output
    table = rows(tmp_path / "many.boxes.jsonl")
    assert 0 < len(table) < 3000
    assert len(list(VideoSource(tmp_path / "many.tracked.mp4"))) == len(table)
    assert sorted(os.listdir(tmp_path)) == ["many", "many.boxes.jsonl", "many.tracked.mp4"]


def test_a_video_that_breaks_keeps_its_frames(clip, tmp_path):
    data = clip.read_bytes()
    damaged = bytearray(data)
    start = data.index(b"mdat")
    for place in range(start + (data.index(b"moov") - start) * 4 // 5, data.index(b"moov") - 8):
        damaged[place] = 0xFF
    (tmp_path / "broken.mp4").write_bytes(damaged)
    done = siamtrack("track", "broken.mp4", "--box", "100,90,40,40", folder=tmp_path, code=2)
    table = rows(tmp_path / "broken.boxes.jsonl")
    assert 0 < len(table) < 24
    assert f"broke after {len(table)} frames" in done.stdout
    assert len(list(VideoSource(tmp_path / "broken.tracked.mp4"))) == len(table)


def test_demo_follows_the_rabbit(tmp_path):
    done = in_a_process("demo", folder=tmp_path)
    assert "tracked 132 frames" in done.stdout
    out = tmp_path / "siamtrack-demo"
    assert sorted(path.name for path in out.iterdir()) == ["boxes.jsonl", "contact-sheet.jpg", "tracked.mp4"]
    table = {row["frame"]: [row[key] for key in "xywh"] for row in rows(out / "boxes.jsonl")}
    # The head as a person would draw it, in three frames: with its ears, and at the end, where they lie aside, without.
    truth = {33: (460, 150, 190, 250), 66: (370, 60, 190, 170), 121: (395, 110, 150, 185)}
    for frame, box in truth.items():
        assert iou(table[frame], box) > 0.3, (frame, table[frame])
    assert cv2.imread(str(out / "contact-sheet.jpg")).shape[1] == 4 * 480


def test_models_are_listed_and_shown(tmp_path):
    assert "siamrpnpp_lite" in siamtrack("models", folder=tmp_path).stdout
    shown = siamtrack("models", "show", "siamrpnpp_lite", folder=tmp_path).stdout
    line = next(line for line in shown.splitlines() if line.startswith("operations"))
    gmac = float(line.split(" GMAC a search crop")[0].split()[-1])
    assert 0.3 < gmac <= 1.2
    assert "torch's flop counter" in line
    assert "trained_on" in shown
    assert "sha256" in shown


def test_train_export_and_track_with_the_result(training_folder, clip, tmp_path):
    settings = [
        "model.backbone={name: alexnet, width: 0.125, stages: [5]}", "model.base_size=0",
        "model.head={widths: [32], adjust: false}",
        "train.optimizer.backbone_stages=[5]", "train.pretrained=''", "train.data.canvas=192", "train.batch=2",
        "train.steps=3", f"train.data.root={training_folder}",
    ]  # fmt: skip
    options = [part for setting in settings for part in ("--set", setting)]
    done = siamtrack("train", "siamrpnpp_lite", "--out", "run", *options, folder=tmp_path)
    assert "trained siamrpnpp_lite for 3 steps" in done.stdout
    again = siamtrack("train", "siamrpnpp_lite", "--out", "run", *options, folder=tmp_path)
    assert "is a finished run of 3 steps" in again.stdout
    siamtrack("export", "run/best.safetensors", "--out", "small", "--frames", "3", folder=tmp_path)
    tables = []
    for model in ("run/best.safetensors", "small.search.onnx"):
        siamtrack("track", clip, "--box", "100,90,40,40", "--no-video", "--model", model, folder=tmp_path)
        tables.append([[row[key] for key in "xywh"] for row in rows(tmp_path / "square.boxes.jsonl")])
    np.testing.assert_allclose(*tables, atol=0.5)


def test_an_output_that_is_the_source_is_refused(clip, tmp_path):
    data = clip.read_bytes()
    (tmp_path / "a.mp4").write_bytes(data)
    done = siamtrack("track", "a.mp4", "--box", "100,90,40,40", "--video", "./a.mp4", folder=tmp_path, code=2)
    assert "a.mp4 is what is read" in done.stderr
    assert (tmp_path / "a.mp4").read_bytes() == data
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_full_disk_is_one_sentence_and_leaves_no_parts(clip, tmp_path):
    """A limit on the size of files stands for the full disk."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); sys.argv[0] = 'siamtrack'\n"
        "from siamtrack.cli.main import run; run()"
    )
    command = [sys.executable, "-c", code, "track", str(clip), "--box", "100,90,40,40"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot write" in done.stderr or "writing stopped" in done.stderr
    assert not [name for name in os.listdir(tmp_path) if "part" in name]


def test_long_term_presets_say_when_they_are_lost(clip, tmp_path):
    rules = "tracking.longterm={low: 0.99, high: 0.999, search_sizes: [255]}"
    done = siamtrack("track", clip, "--box", "100,90,40,40", "--set", rules, "--out", "a.csv", folder=tmp_path)
    with (tmp_path / "a.csv").open() as file:
        lost = [int(row["lost"]) for row in csv.DictReader(file)]
    assert lost[0] == 0
    assert sum(lost) > 0
    assert f"lost in {sum(lost)} frames" in done.stdout


def test_search_finds_tests_and_goes_on(sequences, clip, tmp_path):
    search = ("search", "siamrpnpp_lite", "--dataset", sequences, "--out", "study", "--threads", "1")
    first = siamtrack(*search, "--trials", "2", folder=tmp_path)
    assert "for auc (one-pass) on 1 sequences of folder, 1 held out" in first.stdout
    done = siamtrack(*search, "--trials", "5", "--workers", "2", folder=tmp_path)
    assert "5 trials (went on from 2)" in done.stdout
    for row in ("searched on", "held out"):
        assert row in done.stdout
    result = json.loads((tmp_path / "study" / "result.json").read_text())
    assert (result["trials"], result["searched"]["sequences"], result["held"]["sequences"]) == (5, 1, 1)
    assert result["searched"]["best"] >= result["searched"]["own"] > 0.5
    assert (tmp_path / "study" / "importance.png").stat().st_size > 10000
    siamtrack(
        "track", clip, "--box", "100,90,40,40", "--model", "study/best.safetensors", "--no-video", folder=tmp_path
    )
    other = siamtrack(*search, "--seed", "1", folder=tmp_path, code=2)
    assert "study holds another study" in other.stderr


@pytest.mark.skipif(not find_spec("ray"), reason="needs Ray (siamtrack[cluster])")
def test_search_runs_on_a_ray_cluster_of_two_nodes(sequences, tmp_path):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        siamtrack(
            "search", "siamrpnpp_lite", "--dataset", sequences, "--frames", "4", "--trials", "4", "--workers", "2",
            "--threads", "1", "--out", "study", "--cluster", cluster.address, folder=tmp_path,
        )  # fmt: skip
        done = siamtrack(
            "search", "siamrpnpp_lite", "--dataset", sequences, "--threads", "64", "--cluster", cluster.address,
            folder=tmp_path, code=2,
        )  # fmt: skip
        assert "no room for a worker of 64 cores" in done.stderr
    finally:
        cluster.shutdown()
    assert json.loads((tmp_path / "study" / "result.json").read_text())["trials"] == 4


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_keep_the_study(sent, sequences, tmp_path):
    arguments = ["search", "siamrpnpp_lite", "--dataset", str(sequences), "--out", "study", "--trials", "100000"]
    command = [sys.executable, "-m", "siamtrack", *arguments, "--workers", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True)
    journal = tmp_path / "study" / "journal.log"
    for _ in range(1200):  # until a trial has run
        time.sleep(0.05)
        if journal.is_file() and '"values"' in journal.read_text():
            break
    os.killpg(process.pid, sent)  # as the terminal and systemd do: to the workers as well
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from there" in stdout
    assert "Traceback" not in stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["track", "no.mp4", "--box", "1,2,3,4"], "there is no file no.mp4"),
        (["track", "text.mp4", "--box", "1,2,3,4"], "text.mp4 is no video that can be read"),
        (["track", "empty.mp4", "--box", "1,2,3,4"], "empty.mp4 is no video that can be read"),
        (["track", "noframes.mp4", "--box", "1,2,3,4"], "noframes.mp4"),
        (
            ["track", "CLIP", "--box", "400,2,30,40"],
            "box 400,2,30,40 lies outside the frame, which is 320x240 pixels",
        ),
        (["track", "CLIP", "--box", "1,2,0,4"], "has width 0 and height 4; both must be above 0"),
        (["track", "CLIP", "--box", "1,2,-3,4"], "has width -3"),
        (["track", "CLIP", "--box", "nan,2,3,4"], "is not finite"),
        (["track", "CLIP", "--box", "-50,2,500,40"], "larger than the frame"),
        (["track", "CLIP", "--box", "1,2,3"], "has 3 values, expected 4"),
        (["track", "CLIP", "--box", "100,90,40,40", "--model", "siamrpnp_lite"], "did you mean 'siamrpnpp_lite'?"),
        (
            ["track", "CLIP", "--box", "100,90,40,40", "--model", "corrupt.safetensors"],
            "not a usable safetensors file",
        ),
        (["track", "CLIP", "--box", "100,90,40,40", "--model", "corrupt.search.onnx"], "corrupt.template.onnx"),
        (["track", "CLIP", "--box", "100,90,40,40", "--model", "model.pth"], "not a usable PyTorch checkpoint"),
        (["track", "CLIP", "--box", "100,90,40,40", "--model", "my.yaml"], "preset without weights; train it with"),
        (
            ["track", "CLIP", "--box", "100,90,40,40", "--model", "siamrpnpp_resnet50"],
            "are not in the package; convert",
        ),
        (["track", "CLIP", "--box", "100,90,40,40", "--model", "runs/siamrpnpp_lit"], "there is no model"),
        (
            ["track", "CLIP", "--box", "100,90,40,40", "--set", "tracking.lrr=1"],
            "error: --set tracking: unknown key 'lrr'; did you mean 'lr'?",
        ),
        (["track", "CLIP", "--box", "100,90,40,40", "--set", "train.steps=1"], "only the parameters of tracking"),
        (["track", "CLIP", "--box", "100,90,40,40", "--threads", "100000"], "--threads 100000 should be"),
        (["track", "CLIP", "--box", "100,90,40,40", "--no-video", "--video", "a.mp4"], "contradict each other"),
        (["track", "CLIP", "--box", "1,2,3,4,"], "is not four numbers"),
        (["track", "99999999999999999999", "--box", "1,2,3,4"], "no camera has so high a number"),
        (["track", "text.mp4", "--box", "1,2,3,4", "--out", "/proc/a.csv"], "text.mp4 is no video"),
        (["convert", "no.pth"], "there is no file no.pth"),
        (["convert", "model.pth"], "not a usable PyTorch checkpoint"),
        (["export", "."], "there is no file ."),
        (["track", "CLIP", "--box", "100,90,40,40", "--out", "no/a.csv"], "there is no folder no"),
        (["track", "CLIP", "--box", "100,90,40,40", "--out", "a.xml"], "must end in .jsonl, .csv or .txt"),
        (["track", "CLIP", "--box", "100,90,40,40", "--video", "no/a.mp4"], "there is no folder no"),
        (["track", "CLIP", "--box", "100,90,40,40", "--start", "soon"], "neither a frame number"),
        (["track", "CLIP", "--box", "100,90,40,40", "--start", "99"], "no frame between start frame 99"),
        (["track", "CLIP", "--box", "100,90,40,40", "--device", "tpu"], "unknown device 'tpu'"),
        (["track", "97", "--box", "100,90,40,40"], "camera 97 cannot be opened"),
        (["track", "CLIP"], "say what to follow: give --box"),
        (["train", "siamrpnpp_lite", "--set", "train.step=3"], "unknown key 'step'; did you mean 'steps'?"),
        (["train", "siamrpnpp_lite", "--set", "train.steps"], "expected key=value"),
        (["train", "siamrpnpp_lite"], "add --set train.data.root=FOLDER"),
        (["train", "no.yaml"], "there is no file no.yaml"),
        (["eval", "--dataset", "no"], "there is no folder no"),
        (["eval", "--dataset", "SEQUENCES", "--tracker", "opencv-kfc"], "unknown tracker 'opencv-kfc'"),
        (["models", "show", "lite"], "there is no model 'lite'"),
        (["search", "siamrpnpp_lite", "--dataset", "SEQUENCES", "--objective", "auk"], "did you mean 'auc'?"),
        (["search", "siamrpnpp_lite", "--dataset", "SEQUENCES", "--holdout", "2"], "--holdout 2: expected a share"),
        (["search", "siamrpnpp_lite", "--dataset", "SEQUENCES", "--sequence", "boxes"], "1 sequences of 1 video"),
        (["search", "siamrpnpp_lite", "--dataset", "SEQUENCES", "--set", "search.lrr=1"], "did you mean 'lr'?"),
        (["search", "siamrpnpp_lite", "--dataset", "SEQUENCES", "--protocol", "onepass"], "did you mean 'one-pass'?"),
        (["search", "my.yaml", "--dataset", "SEQUENCES"], "say where they are with --model"),
        (["search", "siamrpnpp_lite", "--dataset", "no"], "there is no folder no"),
        (["export", "no.safetensors"], "there is no file no.safetensors"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, said, clip, sequences, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "noframes.mp4").write_bytes(without_frames(clip.read_bytes()))
    (tmp_path / "corrupt.safetensors").write_bytes(b"\xff" * 100)
    (tmp_path / "corrupt.search.onnx").write_bytes(b"\xff" * 100)
    (tmp_path / "corrupt.template.onnx").write_bytes(b"\xff" * 100)
    (tmp_path / "model.pth").write_bytes(b"")
    (tmp_path / "my.yaml").write_text("name: my\n")
    before = sorted(os.listdir(tmp_path))
    named = {"CLIP": clip, "SEQUENCES": sequences}
    done = siamtrack(*(named.get(each, each) for each in arguments), folder=tmp_path, code=2)
    assert said in " ".join(done.stderr.split())
    assert sorted(os.listdir(tmp_path)) == before, "something was left behind"


def without_frames(data: bytes) -> bytes:
    """Return an MP4 whose frames are all damaged."""
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    return data[:start] + b"\xff" * (end - start) + data[end:]
