"""Static int8 quantisation of a search graph of torch.export, for ExecuTorch, calibrated on real crops."""

from collections.abc import Sequence

import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import get_symmetric_quantization_config
from torch import Tensor
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, Quantizer
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from siamtrack.runtimes.graphs import FINE

_CONV = torch.ops.aten.conv2d.default
_ADD = {torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor}
_RECTIFIERS = {
    torch.ops.aten.relu.default,
    torch.ops.aten.relu_.default,
    torch.ops.aten.hardtanh.default,
    torch.ops.aten.hardtanh_.default,
}


class _Convolutions(Quantizer):  # type: ignore[misc]  # torchao has no types
    """Marks the convolutions that ONNX files quantise too, and the sums of their results."""

    def annotate(self, model: GraphModule) -> GraphModule:
        config = get_symmetric_quantization_config(is_per_channel=True)
        kept = _float_nodes(model)
        for node in model.graph.nodes:
            if node.target is _CONV and node not in kept:
                inputs = {node.args[0]: config.input_activation, node.args[1]: config.weight}
                (user, *others) = node.users
                rectified = not others and user.target in _RECTIFIERS
                output = None if rectified else config.output_activation
                node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(inputs, output, _annotated=True)
                if rectified:
                    user.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation({}, config.output_activation, _annotated=True)
            elif node.target in _ADD and any(Q_ANNOTATION_KEY in part.meta for part in node.args[:2]):
                inputs = dict.fromkeys(node.args[:2], config.input_activation)
                node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(inputs, config.output_activation, _annotated=True)
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing to check: the graph is the exporter's own."""


def _float_nodes(model: GraphModule) -> set[Node]:
    """Return the convolutions that stay in floating point, see :func:`siamtrack.runtimes.quantize.float_nodes`."""
    nodes = list(model.graph.nodes)
    size = next(node for node in nodes if node.op == "placeholder").meta["val"].shape[1]
    kept, pending = set(), list(nodes[-1].all_input_nodes)
    while pending:
        node = pending.pop()
        if node.target is _CONV:
            kept.add(node)
        else:
            pending += node.all_input_nodes
    for node in nodes:
        if node.target is _CONV:
            source, weight = node.args[:2]
            if weight.op != "get_attr" or source.meta["val"].shape[-1] * FINE > size:
                kept.add(node)
    return kept


def quantize(module: torch.nn.Module, calibration: Sequence[tuple[Tensor, ...]]) -> torch.nn.Module:
    """Return the search function quantised: weights a channel, activations a tensor.

    Args:
        module: of patches [1, S, S, 3] and kernels.
        calibration: its inputs; the ranges of the activations are the smallest and largest values that they give.
    """
    with torch.no_grad():
        prepared = prepare_pt2e(torch.export.export(module, calibration[0]).module(), _Convolutions())
        for inputs in calibration:
            prepared(*inputs)
        quantized: torch.nn.Module = convert_pt2e(prepared)
    return quantized
