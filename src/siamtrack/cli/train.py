"""``siamtrack train``: train a model."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from siamtrack.cli import options
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
        typer.Option("--out", help="Folder of the run [default: runs/NAME]; an unfinished one goes on."),
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
    resumed = training.step
    with progress_bar(loaded.name, training.config.steps, "steps") as bar:
        bar.update(bar.task_ids[0], completed=resumed)

        def show(step: int, numbers: dict[str, float]) -> None:
            text = " ".join(
                f"{key} {numbers[key]:.3f}" for key in ("loss", "iou", "sequences_auc", "held_auc") if key in numbers
            )
            bar.update(bar.task_ids[0], completed=step, description=f"{loaded.name} {text}")

        numbers = training.run(show)
    went_on = f" (went on from step {resumed})" if resumed else ""
    measured = ", ".join(f"{key} {value:.4g}" for key, value in numbers.items())
    print(f"trained {loaded.name} for {training.step} steps{went_on}: {measured}; wrote {folder}/best.safetensors")
    rejected = training.index.rejected
    if rejected:
        print(f"{len(rejected)} records of the training data were left out, the first: {rejected[0]}")
