"""What torchrun starts twice for test_processes.py, with DATA and OUT; each process writes what it saw to OUT."""

import sys
from pathlib import Path

import torch

from siamtrack.cli.main import app
from siamtrack.models import zoo
from siamtrack.train.loop import Training

data, out, *settings = sys.argv[1:]
settings.append(f"train.data.root={data}")
training = Training(zoo.load("siamrpnpp_lite", settings), Path(out, "run"), "cpu")
rank = training.accelerator.process_index
draw = training.loader.batch
gradients, weights = {}, []


def watch(step, numbers):
    if step == 2:
        gradients.update({n: w.grad.clone() for n, w in training.model.named_parameters() if w.grad is not None})
    weights.append({name: weight.detach().clone() for name, weight in training.model.named_parameters()})
    training.loader.batch = spoiled if (step, rank) == (2, 1) else draw
    return rank == 0 or step < 3  # one process hears Ctrl-C


def spoiled(number):
    batch = draw(number)
    batch.search.fill_(float("nan"))
    return batch


training.run(watch)
torch.save({"gradients": gradients, "weights": weights}, Path(out, f"{rank}.pt"))

options = [word for setting in (*settings, "train.steps=1") for word in ("--set", setting)]
app(["train", "siamrpnpp_lite", "--out", str(Path(out, "command")), *options], standalone_mode=False)
