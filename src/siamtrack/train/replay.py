"""The kernels of a training step recorded once and replayed as a CUDA graph.

A step of a small network is two thousand kernels; to start them one by one takes the host twice as long as a GPU needs
to run them.
"""

from collections.abc import Callable
from dataclasses import fields

import torch
from torch import Tensor, nn

from siamtrack.data.augment import Batch


class Replay:
    """Does what ``descend`` does, from memory.

    The gradient takes the place of the one before instead of being added to it. The first batch runs as it is written,
    which lets libraries choose their kernels, and leaves no trace in ``model``.

    Args:
        descend: computes the losses of a batch and their gradient, without waiting for the device.
        model: whose gradient that is.
        generator: what ``descend`` draws random numbers from.
    """

    def __init__(
        self, descend: Callable[[Batch], dict[str, Tensor]], model: nn.Module, generator: torch.Generator
    ) -> None:
        self._descend, self._model, self._generator = descend, model, generator
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: dict[str, Tensor] = {}
        self._losses: dict[str, Tensor] = {}

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of ``batch``; the gradient is in the weights' ``grad``."""
        given = {field.name: getattr(batch, field.name) for field in fields(batch)}
        if self._graph is None:
            self._batch = {name: value.clone() for name, value in given.items()}
            self._graph = self._record()
        for name, value in given.items():
            self._batch[name].copy_(value)
        self._graph.replay()
        return {name: value.clone() for name, value in self._losses.items()}

    def _record(self) -> torch.cuda.CUDAGraph:
        batch = Batch(**self._batch)
        drawn = self._generator.get_state()
        before = [buffer.clone() for buffer in self._model.buffers()]
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self._descend(batch)
        torch.cuda.current_stream().wait_stream(aside)
        for buffer, value in zip(self._model.buffers(), before, strict=True):
            buffer.copy_(value)
        self._generator.set_state(drawn)
        self._model.zero_grad()  # so that the graph owns the gradients
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._generator)
        with torch.cuda.graph(graph):
            self._losses = self._descend(batch)
        return graph
