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

    The folder receives best.safetensors and last.safetensors (usable as --model), checkpoint.pt, log.jsonl,
    TensorBoard event files and summary.html. Started again on the same folder, an interrupted run goes on exactly
    where its last checkpoint was. On several GPUs: torchrun --nproc-per-node N -m siamtrack train ... --device cuda
    """
    needed = ("torch", "accelerate", "tensorboard", "matplotlib", "jinja2")
    lacking = [name for name in needed if not find_spec(name)]
    if lacking:
        raise UserError(f"training needs {', '.join(lacking)}; pip install 'siamtrack[train]'")
    loaded = zoo.load(preset, settings or [])
    from siamtrack.runtimes.load import torch_device
    from siamtrack.train.loop import Training

    folder = out or Path("runs") / loaded.name
    training = Training(loaded, folder, torch_device(device))
    rejected = training.index.rejected
    if rejected and training.main:
        count = sum(each.count for each in rejected)
        print(f"{count} records of the training data were left out, the first: {rejected[0]}")
    began, several = training.step, training.accelerator.num_processes > 1
    if began >= training.config.steps:
        if training.main:
            print(f"{folder} is a finished run of {began} steps; raise train.steps in another folder to train longer")
        return
    with (
        progress_bar(loaded.name, training.config.steps, "steps", shown=training.main) as bar,
        until_interrupted(patient=several) as interrupted,  # torchrun passes a Ctrl-C on that all have heard
    ):
        bar.update(bar.task_ids[0], completed=began)

        def show(step: int, numbers: dict[str, float]) -> bool:
            keys = [key for key in ("loss", "iou", "sequences_auc", "held_auc") if key in numbers]
            text = " ".join(f"{key} {numbers[key]:.3f}" for key in keys)
            bar.update(bar.task_ids[0], completed=step, description=f"{loaded.name} {text}")
            return not interrupted()

        numbers = training.run(show)
    training.accelerator.end_training()
    went_on = f" (went on from step {began})" if began else ""
    measured = ", ".join(f"{key} {value:.4g}" for key, value in numbers.items())
    if training.step < training.config.steps:
        if training.main:
            print(f"stopped at step {training.step}{went_on} and saved; the same command goes on from there")
        raise typer.Exit(130)
    if training.main:
        print(f"trained {loaded.name} for {training.step} steps{went_on}: {measured}; wrote {folder}/best.safetensors")
