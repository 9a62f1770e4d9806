"""Options that several verbs share."""

from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Option("--model", help="Name of a model (see 'siamtrack models'), or a .safetensors or .onnx file."),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads of the CPU; one a core if not given.")]
