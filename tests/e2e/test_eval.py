"""``siamtrack eval`` as a user runs it: runs that are killed, broken, shared among workers and machines."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import siamtrack

NAMES = ["a", "b", "c", "d"]


def command(*arguments):
    return [sys.executable, "-m", "siamtrack", "eval", *map(str, arguments)]


def evaluate(*arguments, folder, code=0):
    return siamtrack("eval", *arguments, folder=folder, code=code)


@pytest.fixture(scope="module")
def folder(sequences, tmp_path_factory) -> Path:
    """A folder in which ``set`` has four sequences, the first the longest."""
    folder = tmp_path_factory.mktemp("eval")
    for name in NAMES:
        shutil.copytree(sequences / "boxes", folder / "set" / name)
    images = sorted((folder / "set" / "a" / "img").iterdir())
    for number in range(13, 25):  # and back again
        shutil.copy(images[24 - number], images[0].with_name(f"{number:08d}.png"))
    truth = folder / "set" / "a" / "groundtruth.txt"
    lines = truth.read_text().splitlines()
    truth.write_text("\n".join(lines + lines[::-1]) + "\n")
    return folder


@pytest.fixture(scope="module")
def plain(folder):
    """What the default model does with it, in one process: the folder of the run."""
    evaluate("--dataset", "set", "--out", "plain", "--threads", "1", folder=folder)
    return folder / "plain" / "set" / "siamrpnpp_lite"


def written(run: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted((run / "sequences").glob("[!.]*.json"))}


def assert_same(run: Path, other: Path, names=NAMES):
    assert list(written(run)) == list(names)
    for name in names:
        ours, theirs = (json.loads(written(each)[name].read_text())[0] for each in (run, other))
        np.testing.assert_allclose(ours["boxes"], theirs["boxes"], atol=0.01)
        np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=1e-3)


def started(arguments, folder, ready, seconds=60):
    """Start the command and return its process once ``ready()``."""
    process = subprocess.Popen(
        command(*arguments),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it did not get so far"
        time.sleep(0.005)
    return process


def test_scores_are_printed_ranked_and_written(folder):
    arguments = ("--dataset", "set", "--tracker", "opencv-mil", "--tracker", "siamrpnpp_lite", "--json", "s.json")
    done = evaluate(*arguments, "--sequence", "b", "--sequence", "c", "--frames", "6", folder=folder)
    head = next(line for line in done.stdout.splitlines() if line.startswith("  sequence "))
    assert head.split() == ["sequence", "siamrpnpp_lite", "opencv-mil"]
    assert max(map(len, done.stdout.splitlines())) <= 80
    report = json.loads((folder / "s.json").read_text())
    mean, each = report["mean"]["siamrpnpp_lite"], report["sequences"]["siamrpnpp_lite"]
    assert mean["auc"] == pytest.approx(np.mean([each[name]["auc"] for name in ("b", "c")]))
    assert mean["auc"] > report["mean"]["opencv-mil"]["auc"] > 0.3
    assert mean["update_ms"] > 0
    run = json.loads((folder / "results" / "set" / "opencv-mil" / "run.json").read_text())
    assert (run["tracker"], run["protocol"], run["frames"], run["only"]) == ("opencv-mil", "one-pass", 6, ["b", "c"])
    assert Path(run["root"]) == folder / "set"
    # Again: nothing is left to do, and the same is shown.
    stamp = written(folder / "results" / "set" / "opencv-mil")["b"].stat().st_mtime_ns
    again = evaluate(*arguments, "--sequence", "b", "--sequence", "c", "--frames", "6", folder=folder)
    assert again.stdout == done.stdout
    assert written(folder / "results" / "set" / "opencv-mil")["b"].stat().st_mtime_ns == stamp


def test_two_runs_of_one_name_are_refused(folder):
    arguments = ("--dataset", "set", "--out", "twice", "--sequence", "b", "--frames", "3")
    evaluate(*arguments, folder=folder)
    done = evaluate(*arguments, "--set", "tracking.lr=0.2", folder=folder, code=2)
    assert "siamrpnpp_lite holds another run: settings was {} and is {'lr': 0.2}; choose another" in done.stderr
    for name in ("one", "two"):
        (folder / name / "x").mkdir(parents=True)
        for part in ("template", "search"):
            source = Path(__file__).parents[2] / "src/siamtrack/weights" / f"siamrpnpp_lite.{part}.onnx"
            shutil.copy(source, folder / name / "x" / f"best.{part}.onnx")
    both = [part for name in ("one", "two") for part in ("--tracker", f"{name}/x/best.search.onnx")]
    done = evaluate(*arguments, *both, folder=folder, code=2)
    assert "one/x/best.search.onnx and two/x/best.search.onnx would both be kept in twice/set/x-best" in done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_goes_on(folder, plain, workers):
    out = f"killed{workers}"
    run = folder / out / "set" / "siamrpnpp_lite"
    arguments = ("--dataset", "set", "--out", out, "--threads", "1", "--workers", workers)
    process = started(arguments, folder, lambda: written(run))
    process.kill()
    process.communicate()
    before = {name: path.stat().st_mtime_ns for name, path in written(run).items()}
    assert 0 < len(before) < len(NAMES)
    evaluate(*arguments, folder=folder)
    assert_same(run, plain)
    assert {name: written(run)[name].stat().st_mtime_ns for name in before} == before


@pytest.mark.parametrize(("workers", "sent", "by"), [(1, signal.SIGINT, "Ctrl-C"), (2, signal.SIGTERM, "SIGTERM")])
def test_ctrl_c_and_sigterm_keep_what_was_done(folder, workers, sent, by):
    out = f"{by}{workers}"
    run = folder / out / "set" / "siamrpnpp_lite"
    process = started(("--dataset", "set", "--out", out, "--workers", workers), folder, lambda: written(run))
    os.killpg(process.pid, sent)  # as a terminal and systemd do, workers and all
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    done = len(written(run))
    assert 0 < done < len(NAMES)
    assert f"stopped by {by} after {done} of 4 sequences; the same command goes on" in output
    assert "Traceback" not in errors
    assert not list((run / "sequences").glob(".*")), "parts were left behind"


@pytest.mark.parametrize("options", [("--workers", "1"), ("--batch", "3"), ("--workers", "2", "--batch", "2")])
def test_a_broken_sequence_is_reported_and_the_others_go_on(folder, plain, tmp_path, options):
    """They have the same boxes, however many go at a time."""
    shutil.copytree(folder / "set", tmp_path / "set")
    (tmp_path / "set" / "b" / "img" / "00000007.png").write_bytes(b"no image")
    arguments = ("--dataset", "set", "--json", "s.json", "--threads", "1", *options)
    done = evaluate(*arguments, folder=tmp_path, code=2)
    assert "1 sequences were left out: b: " in done.stderr
    assert "00000007.png is no image that can be read" in done.stderr
    assert_same(tmp_path / "results" / "set" / "siamrpnpp_lite", plain, ["a", "c", "d"])
    assert list(json.loads((tmp_path / "s.json").read_text())["sequences"]["siamrpnpp_lite"]) == ["a", "c", "d"]


def workers_of(process) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the workers in /proc")
def test_a_worker_that_is_killed_takes_its_sequence_only(folder):
    """As the system does when memory runs out."""
    run = folder / "oom" / "set" / "siamrpnpp_lite"
    arguments = ("--dataset", "set", "--out", "oom", "--workers", "2", "--threads", "1")
    process = started(arguments, folder, lambda: written(run))
    for victim in workers_of(process)[:1]:
        os.kill(victim, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "1 sequences were left out" in errors
    assert "its worker was killed by SIGKILL" in errors
    assert len(written(run)) == 3
    evaluate(*arguments, folder=folder)  # does what is missing
    assert len(written(run)) == 4


def test_what_nothing_is_known_of_is_run_but_not_scored(folder, tmp_path):
    shutil.copytree(folder / "set" / "b", tmp_path / "set" / "b")
    truth = tmp_path / "set" / "b" / "groundtruth.txt"
    first, *others = truth.read_text().splitlines()
    truth.write_text("\n".join([first, *["nan,nan,nan,nan"] * len(others)]) + "\n")
    done = evaluate("--dataset", "set", folder=tmp_path)
    assert "no truth but that of the start, left out: b" in done.stdout
    assert "nothing can be scored here" in " ".join(done.stdout.split())
    assert (tmp_path / "results" / "set" / "siamrpnpp_lite" / "sequences" / "b.json").is_file()


def test_realtime_drops_frames(folder):
    """At a million frames a second, every frame comes too early once the grace is spent."""
    evaluate("--dataset", "set", "--sequence", "b", "--realtime", "1e6", folder=folder)
    run = folder / "results" / "set" / "siamrpnpp_lite-realtime1e+06"
    (result,) = json.loads(written(run)["b"].read_text())
    assert result["codes"] == [1, 0, 0, 0] + [3] * 8
    assert result["boxes"][4:] == [result["boxes"][3]] * 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dataset", "otb"], "there is no folder otb, nor a data set of that name"),
        (["--dataset", "folder"], "--dataset folder needs --root"),
        (["--dataset", "otbx", "--root", "set"], "unknown data set 'otbx'"),
        (["--dataset", "set", "--protocol", "onepass"], "unknown protocol 'onepass'; did you mean 'one-pass'?"),
        (["--dataset", "set", "--sequence", "z"], "has no sequence 'z'"),
        (["--dataset", "set", "--json", "no/s.json"], "there is no folder no"),
        (["--dataset", "set", "--protocol", "vos"], "has no masks, which vos needs"),
        (["--dataset", "set", "--protocol", "multi-start"], "has no anchors, which multi-start needs"),
        (["--dataset", "set", "--out", "a.json"], "--json FILE writes the scores"),
        (["--dataset", "set", "--cluster", "127.0.0.1:1"], " cluster "),
    ],
)
def test_bad_input_is_one_sentence(arguments, said, folder):
    done = evaluate("--out", "bad", *arguments, folder=folder, code=2)
    assert not (folder / "bad").exists() or "--cluster" in arguments
    assert said in " ".join(done.stderr.split())
    assert len(done.stderr.splitlines()) <= 2


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two nodes with a CPU each."""
    pytest.importorskip("ray", reason="Ray is the extra [cluster]")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.second = cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


def test_a_ray_cluster_gives_the_same_boxes(folder, plain, cluster):
    evaluate("--dataset", "set", "--out", "ray", "--cluster", cluster.address, folder=folder)
    assert_same(folder / "ray" / "set" / "siamrpnpp_lite", plain)


def test_a_machine_that_leaves_takes_its_sequence_only(folder, cluster):
    run = folder / "left" / "set" / "siamrpnpp_lite"
    process = started(("--dataset", "set", "--out", "left", "--cluster", cluster.address), folder, lambda: written(run))
    cluster.remove_node(cluster.second, allow_graceful=False)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert "1 sequences were left out" in errors
    assert "its worker on the cluster died" in errors
    assert len(written(run)) == 3
