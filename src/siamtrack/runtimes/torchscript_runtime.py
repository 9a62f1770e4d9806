"""TorchScript: exported graphs run by PyTorch without the network's Python code."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from siamtrack.runtimes.graphs import Graph, GraphNetwork


class TorchScriptNetwork(GraphNetwork):
    """A network in ``.torchscript`` files.

    Args:
        stem: path without ``.template.torchscript`` and so on.
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: see :class:`~siamtrack.runtimes.graphs.GraphNetwork`.
    """

    def __init__(self, stem: Path, device: str = "cpu") -> None:
        def open_graph(path: Path) -> Graph:
            extra = {"metadata.json": ""}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of TorchScript's age
                module = torch.jit.load(  # type: ignore[no-untyped-call]
                    path, map_location=device, _extra_files=extra
                )
            return _graph(module, extra["metadata.json"], device)

        super().__init__("torchscript", stem, ".torchscript", open_graph)


def _graph(module: Any, metadata: str | bytes, device: str) -> Graph:
    @torch.inference_mode()
    def run(values: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        outputs = module(*(torch.from_numpy(value).to(device) for value in values))
        return [output.cpu().numpy() for output in ((outputs,) if alone else outputs)]

    gives = next(iter(module.graph.outputs())).type()
    alone = gives.kind() == "TensorType"
    count = 1 if alone else len(gives.elements())
    return Graph(run, len(list(module.graph.inputs())) - 1, count, json.loads(metadata or "{}"))
