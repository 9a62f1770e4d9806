"""``siamtrack export``: write a model as ONNX."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from siamtrack.errors import UserError
from siamtrack.files import writable


def export(
    weights: Annotated[Path, typer.Argument(help="The model's .safetensors file.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Name of the result without .template.onnx and .search.onnx.")
    ] = None,
) -> None:
    """Write a model as two ONNX files, which run without PyTorch."""
    if not (find_spec("torch") and find_spec("onnxscript")):
        raise UserError("export needs PyTorch and onnxscript; pip install 'siamtrack[train]'")
    from siamtrack.runtimes.export import export_onnx
    from siamtrack.runtimes.torch_runtime import load

    model, preset = load(weights)
    stem = out or weights.with_suffix("")
    writable(stem.with_name(f"{stem.name}.search.onnx"))
    written = export_onnx(model, preset, stem)
    print("wrote " + ", ".join(f"{path} ({path.stat().st_size / 1e6:.1f} MB)" for path in written))
