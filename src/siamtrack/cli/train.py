"""``siamtrack train``: train a model."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from siamtrack.cli import options
from siamtrack.cli.interrupt import until_interrupted
from siamtrack.cli.progress import progress_bar
from siamtrack.errors import UserError
from siamtrack.models import zoo


def train(
    preset: Annotated[str, typer.Argument(help="Name of a model, or a preset's .yaml file.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value over the preset's, e.g. train.data.root=FOLDER; repeat."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the run (default: runs/NAME); an unfinished one goes on."),
    ] = None,
    device: options.Device = "cpu",
) -> None:
    """Train a model.

    The folder receives best.safetensors and last.safetensors (usable as --model), checkpoint.pt, log.jsonl and
    TensorBoard event files. Started again on the same folder, an interrupted run goes on exactly where its last
    checkpoint was.
    """
    if not (find_spec("torch") and find_spec("tensorboard")):
        raise UserError("training needs PyTorch and TensorBoard; pip install 'siamtrack[train]'")
    loaded = zoo.load(preset, settings or [])
    from siamtrack.runtimes.load import torch_device
    from siamtrack.train.loop import Training

    folder = out or Path("runs") / loaded.name
    training = Training(loaded, folder, torch_device(device))
    rejected = training.index.rejected
    if rejected:
        count = sum(each.count for each in rejected)
        print(f"{count} records of the training data were left out, the first: {rejected[0]}")
    began = training.step
    if began >= training.config.steps:
        print(f"{folder} is a finished run of {began} steps; raise train.steps in another folder to train longer")
        return
    with progress_bar(loaded.name, training.config.steps, "steps") as bar, until_interrupted() as interrupted:
        bar.update(bar.task_ids[0], completed=began)

        def show(step: int, numbers: dict[str, float]) -> bool:
            keys = [key for key in ("loss", "iou", "sequences_auc", "held_auc") if key in numbers]
            text = " ".join(f"{key} {numbers[key]:.3f}" for key in keys)
            bar.update(bar.task_ids[0], completed=step, description=f"{loaded.name} {text}")
            return not interrupted()

        numbers = training.run(show)
    went_on = f" (went on from step {began})" if began else ""
    measured = ", ".join(f"{key} {value:.4g}" for key, value in numbers.items())
    if training.step < training.config.steps:
        print(f"stopped at step {training.step}{went_on} and saved; the same command goes on from there")
        raise typer.Exit(130)
    print(f"trained {loaded.name} for {training.step} steps{went_on}: {measured}; wrote {folder}/best.safetensors")
