"""Training as two processes on a CPU, started by torchrun as people start it."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from siamtrack.models import zoo
from siamtrack.train.loop import Training

SETTINGS = (
    "model.backbone={name: alexnet, width: 0.1, stages: [5]}",
    "model.head={widths: [25], adjust: false}",
    "model.base_size=0",
    "model.search_size=191",
    "train.pretrained=''",
    "train.data.canvas=192",
    "train.batch=4",
    "train.log_every=2",
    "train.optimizer={name: sgd, lr: 0.01, lr_end: 0.01, clip: 1.0e+9, backbone_from: 0.125, backbone_stages: [5]}",
    "train.steps=8",
)


@pytest.fixture(scope="module")
def run(training_folder, tmp_path_factory):
    """Return the folder of a run of two_processes.py, and what it printed."""
    out = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = str(Path(__file__).parent / "two_processes.py")
    done = subprocess.run(
        [*command, script, str(training_folder), str(out), *SETTINGS],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out, done.stdout


def test_two_processes_have_the_gradient_of_one_that_accumulates(run, training_folder, tmp_path):
    settings = [*SETTINGS, f"train.data.root={training_folder}", "train.accumulate=2", "train.log_every=1"]
    alone = Training(zoo.load("siamrpnpp_lite", settings), tmp_path, "cpu")
    for alone.step in range(2):  # in the second step the trunk is trained too
        alone._train_step()
    ranks = [torch.load(run[0] / f"{rank}.pt") for rank in range(2)]
    expected = {name: weight.grad for name, weight in alone.model.named_parameters() if weight.grad is not None}
    assert any(name.startswith("backbone") for name in expected)
    for rank in ranks:
        assert rank["gradients"].keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(rank["gradients"][name], gradient, rtol=1e-3, atol=1e-5)
    for mine, theirs in zip(*(rank["weights"] for rank in ranks), strict=True):
        assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_a_step_that_is_not_finite_in_one_process_is_skipped_by_all(run):
    for rank in range(2):
        weights = torch.load(run[0] / f"{rank}.pt")["weights"]
        moved = [
            any(not torch.equal(value, after[name]) for name, value in before.items())
            for before, after in pairwise(weights)
        ]
        assert moved == [True, False, True]
    lines = [json.loads(line) for line in (run[0] / "run" / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["skipped"]) for line in lines] == [(2, 0), (4, 1)]


def test_all_stop_where_one_hears_ctrl_c_and_one_saves(run, training_folder, tmp_path):
    assert len(torch.load(run[0] / "0.pt")["weights"]) == 4  # at the next line of the log
    settings = [*SETTINGS, f"train.data.root={training_folder}", "train.accumulate=2"]
    assert Training(zoo.load("siamrpnpp_lite", settings), run[0] / "run", "cpu").step == 4  # one can go on for two


def test_the_command_trains_and_speaks_once(run):
    assert run[1].count("trained siamrpnpp_lite for 1 steps") == 1
    assert (run[0] / "command" / "best.safetensors").is_file()
    assert "in 2 parts" in (run[0] / "command" / "summary.html").read_text()
