"""Options that several verbs share."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from siamtrack.config import override
from siamtrack.errors import UserError
from siamtrack.evaluate.datasets import READERS, Dataset, read_dataset
from siamtrack.runtimes.load import Runtime, check_runtime

Model = Annotated[
    str,
    typer.Option("--model", help="Name of a model (see 'siamtrack models'), or a file: .safetensors, .onnx, .pth."),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")]
RuntimeName = Annotated[
    Runtime,
    typer.Option(
        "--runtime",
        parser=str,
        callback=check_runtime,  # answers in one sentence; a parser's errors Typer would frame
        metavar="NAME",
        help=f"What runs the network, {' or '.join(get_args(Runtime))}; auto takes the fastest.",
    ),
]
Pipelined = Annotated[
    bool,
    typer.Option("--pipelined", help="Let the GPU work on a frame while the next is read; for its graph alone."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, max=1024, help="Threads of the CPU; one a core if not given.")
]
DropAfter = Annotated[
    int | None, typer.Option("--drop-after", min=1, help="Drop an object that was lost for so many frames on end.")
]
Tracking = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="tracking.key=value over the model's parameters of tracking, e.g. tracking.lr=0.3; repeat."
    ),
]


def tracking_values(settings: Iterable[str] | None) -> dict[str, Any]:
    """Return the settings of :data:`Tracking` as values for :class:`siamtrack.Tracker`.

    Raises:
        UserError: a setting is not ``tracking.key=value``.
    """
    values = override({}, settings or [])
    for key in values:
        if key != "tracking":
            raise UserError(f"--set {key}: only the parameters of tracking can be set here, as tracking.key=value")
    tracking = values.get("tracking", {})
    if not isinstance(tracking, dict):
        raise UserError("--set tracking: expected tracking.key=value")
    return tracking


def read_data(name: str, root: Path | None, only: tuple[str, ...], frames: int | None) -> Dataset:
    """Return the data set called ``name`` in ``root``, or the folder of sequences ``name``.

    Raises:
        UserError: see :func:`siamtrack.evaluate.datasets.read_dataset`, or a name without a root.
    """
    if root is not None:
        return read_dataset(name, root.absolute(), only, frames)
    if not Path(name).is_dir() and name.lower() in READERS:
        raise UserError(f"--dataset {name} needs --root, the folder that it was unpacked to")
    if not Path(name).is_dir():
        raise UserError(f"there is no folder {name}, nor a data set of that name; known are {', '.join(READERS)}")
    return read_dataset("folder", Path(name).absolute(), only, frames)
