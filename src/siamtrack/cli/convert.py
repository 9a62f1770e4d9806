"""``siamtrack convert``: read a published checkpoint."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from siamtrack.errors import UserError
from siamtrack.files import writable


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of PySOT, foolwood's SiamMask or DaSiamRPN.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The .safetensors file to write (default: beside the checkpoint).")
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="The model that it is, where several have the same network.")
    ] = None,
) -> None:
    """Turn a published checkpoint into a weight file of this package.

    The network is recognised by the names and shapes of its weights; nothing in the file is executed.
    """
    if not (find_spec("torch") and find_spec("safetensors")):
        raise UserError("converting needs PyTorch; pip install 'siamtrack[torch]'")
    from siamtrack.runtimes.checkpoints import convert_checkpoint

    target = writable(out or checkpoint.with_suffix(".safetensors"))
    if target.suffix != ".safetensors":
        raise UserError(f"cannot write {target}: the name must end in .safetensors")
    converted = convert_checkpoint(checkpoint, target, preset)
    print(f"{checkpoint} is {converted.preset.name}; wrote {target}")
    if converted.alternatives:
        names = ", ".join(converted.alternatives)
        print(f"the same network with other parameters of tracking: {names} (--preset NAME)")
