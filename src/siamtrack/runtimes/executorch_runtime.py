"""ExecuTorch: the graphs of phones and small devices, run here to see that they are right."""

import json
import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from siamtrack.errors import UserError
from siamtrack.runtimes.graphs import Graph, GraphNetwork


class ExecuTorchNetwork(GraphNetwork):
    """A network in ``.pte`` files, on the CPU. It takes search regions of the size it was exported for.

    Args:
        stem: path without ``.template.pte`` and so on.

    Raises:
        UserError: see :class:`~siamtrack.runtimes.graphs.GraphNetwork`, or ExecuTorch is not installed.
    """

    def __init__(self, stem: Path) -> None:
        if not find_spec("executorch"):
            raise UserError(".pte files need ExecuTorch; pip install 'siamtrack[executorch]'")
        logging.getLogger("torchao").setLevel(logging.ERROR)  # notes about its GPU kernels
        from executorch.runtime import Runtime

        def open_graph(path: Path) -> Graph:
            program = Runtime.get().load_program(path)
            forward = program.load_method("forward")
            (metadata,) = program.load_method("metadata").execute([])

            def run(values: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
                sizes = [tuple(forward.metadata.input_tensor_meta(i).sizes()) for i in range(len(values))]
                if [value.shape for value in values] != sizes:
                    raise UserError(
                        f"{path} takes search regions of {sizes[0][1]} pixels, not {values[0].shape[1]}; "
                        "other sizes need another format"
                    )
                outputs = forward.execute([torch.from_numpy(value.copy()) for value in values])
                return [output.numpy().copy() for output in outputs]

            sides = forward.metadata
            return Graph(run, sides.num_inputs(), sides.num_outputs(), json.loads(metadata))

        super().__init__("executorch", stem, ".pte", open_graph)
