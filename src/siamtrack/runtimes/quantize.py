"""Static int8 quantisation of a search graph, calibrated on real crops."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from siamtrack.runtimes.graphs import FINE
from siamtrack.runtimes.verify import Crops


class _Feeds(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, feeds: Iterator[dict[str, Any]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def quantize(template: Path, search: onnx.ModelProto, crops: Crops, kept: list[str]) -> onnx.ModelProto:
    """Return the graph ``search`` quantised: weights a channel, activations a tensor, as QDQ nodes.

    A rectifier behind a quantised convolution becomes the end of the range of its output, which then is neither wider
    than what the next one sees nor turned into floating point on the way there.

    Args:
        template: file of the ONNX graph that gives the kernels.
        search: the ONNX graph of the search region.
        crops: real crops; the ranges of the activations are the smallest and largest values that they give.
        kept: names of the convolutions that stay in floating point, see :func:`float_nodes`.
    """
    kernels = onnxruntime.InferenceSession(template, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in search.graph.input]

    def feeds() -> Iterator[dict[str, Any]]:
        for z, x in crops:
            yield dict(zip(names, [x, *kernels.run(None, {"patch": z})], strict=True))

    with TemporaryDirectory() as folder, _without_advice():
        path = Path(folder) / "search.onnx"
        quantize_static(
            search, path, _Feeds(feeds()), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Clip", "Relu"], nodes_to_exclude=kept,
        )  # fmt: skip
        return onnx.load(path)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Silence the quantiser's advice to prepare the graph, which the exporter has done; it goes to the root logger."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def float_nodes(model: onnx.ModelProto, search_size: int) -> list[str]:
    """Return the names of the convolutions of a search graph that are better not quantised.

    They are the first ones, at half the crop's resolution or more (8 bits there cost most of the accuracy that int8
    costs, docs/export.md), the correlations, and the last ones, whose outputs are the answer.
    """
    model = deepcopy(model)
    for axis in (1, 2):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = search_size
    shapes = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    sides = {
        value.name: value.type.tensor_type.shape.dim[-1].dim_value
        for value in shapes.value_info
        if value.type.tensor_type.shape.dim
    }
    weights = {entry.name for entry in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    last, pending = set(), ["cls", "loc"]
    while pending:
        node = made_by.get(pending.pop())
        if node is not None and node.op_type == "Conv":
            last.add(node.name)
        elif node is not None:
            pending += node.input
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv"
        and (node.input[1] not in weights or node.name in last or sides.get(node.input[0], 0) * FINE > search_size)
    ]
