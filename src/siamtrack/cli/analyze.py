"""``siamtrack analyze``: the paper's figures, redone."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from siamtrack.cli import options
from siamtrack.cli.interrupt import until_interrupted
from siamtrack.cli.progress import progress_bar
from siamtrack.config import read_yaml
from siamtrack.errors import UserError
from siamtrack.models import zoo

if TYPE_CHECKING:
    from siamtrack.analysis.experiment import Watch


class Figure(StrEnum):
    """What can be drawn."""

    centre_bias = "centre-bias"
    shift = "shift"
    layers = "layers"
    correlation = "correlation"
    channels = "channels"


def analyze(
    figures: Annotated[list[Figure], typer.Argument(metavar="FIGURE...", help=", ".join(Figure))],
    dataset: Annotated[str, typer.Option("--dataset", help="Folder of sequences, or a data set's name (with --root).")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Training data, for figures that train networks (as in 'train').")
    ] = None,
    root: Annotated[Path | None, typer.Option("--root", help="Folder that the data set was unpacked to.")] = None,
    sequence: Annotated[list[str] | None, typer.Option("--sequence", help="Only this sequence; repeat.")] = None,
    frames: Annotated[int, typer.Option("--frames", min=2, help="At most so many frames of a sequence.")] = 100,
    out: Annotated[Path, typer.Option("--out", help="Folder of figures, numbers, page and trained networks.")] = Path(
        "analysis"
    ),
    preset: Annotated[
        str, typer.Option("--preset", help="What is trained: name of a model, or a preset's .yaml file.")
    ] = zoo.DEFAULT,
    model: Annotated[
        str, typer.Option("--model", help="What 'layers' and 'channels' look into: a name or a .safetensors file.")
    ] = zoo.DEFAULT,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of each training.")] = 300,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=100, help="Trainings of each kind.")] = 1,
    shifts: Annotated[
        str, typer.Option("--shifts", help="For 'centre-bias' and 'shift', pixels of the search region.")
    ] = "0,16,32,64",
    train: Annotated[bool, typer.Option("--train", help="For 'layers': train each choice of levels apart.")] = False,
    categories: Annotated[
        Path | None, typer.Option("--categories", help="For 'channels': a YAML mapping of sequences to categories.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value over the preset's in training, e.g. train.batch=32; repeat."),
    ] = None,
    device: options.Device = "cpu",
) -> None:
    """Redo the figures of the SiamRPN++ paper with networks of one's own.

    Each figure is written as .svg, .png and .json; index.html explains all that the folder holds. Trained networks are
    kept in the folder's runs: other figures use them too, and a command that was stopped goes on with them.
    """
    if not all(map(find_spec, ("torch", "tensorboard", "matplotlib", "jinja2"))):
        raise UserError(
            "the figures need PyTorch, TensorBoard, matplotlib and jinja2; pip install 'siamtrack[analysis]'"
        )
    shifted = _shifts(shifts)
    given = _categories(categories)
    if any(word.startswith(("train.steps=", "train.seed=", "train.data.root=")) for word in settings or []):
        raise UserError("--set train.steps, train.seed and train.data.root are the options --steps, --seeds and --data")
    from siamtrack.analysis.clips import read_clips
    from siamtrack.analysis.experiment import Experiment, Stopped
    from siamtrack.analysis.page import make
    from siamtrack.runtimes.load import torch_device

    place = torch_device(device)
    zoo.load(preset, settings or [])  # mistakes are found before anything is decoded
    chosen = options.read_data(dataset, root, tuple(sequence or ()), frames).sequences
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"--out {out} is a file; give a folder") from None
    experiment = Experiment(
        out=out,
        clips=read_clips(chosen),
        data=data,
        preset=preset,
        model=model,
        settings=tuple(settings or ()),
        device=place,
        steps=steps,
        seeds=seeds,
        shifts=shifted,
        train=train,
        categories=given,
        watched=_watched,
    )
    command = shlex.join(["siamtrack", *sys.argv[1:]])
    for figure in dict.fromkeys(figures):
        try:
            page = make(figure.value, experiment, command)
        except Stopped:
            print(f"stopped; the same command goes on with the networks in {out / 'runs'}")
            raise typer.Exit(130) from None
        print(f"wrote {out / figure.value}.svg, .png, .json and {page}")


@contextmanager
def _watched(title: str, total: int) -> Iterator["Watch"]:
    """Show a progress bar, and stop when Ctrl-C is pressed."""
    with progress_bar(title, total, "steps") as bar, until_interrupted() as interrupted:

        def watch(done: int) -> bool:
            bar.update(bar.task_ids[0], completed=done)
            return not interrupted()

        yield watch


def _shifts(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) <= 127 for part in parts) or len(set(map(int, parts))) < len(parts):
        raise UserError(
            f"--shifts {text!r}: expected different whole numbers of pixels from 0 to 127, such as 0,16,32,64"
        )
    return tuple(sorted(map(int, parts)))


def _categories(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    values = read_yaml(path)
    for name, category in values.items():
        if not (isinstance(name, str) and isinstance(category, str)):
            raise UserError(f"{path} holds {name!r}: {category!r}, expected names of sequences and of categories")
    return values
