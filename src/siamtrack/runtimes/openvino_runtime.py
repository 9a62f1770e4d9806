"""OpenVINO: the fastest runtime on the CPUs that were measured (docs/export.md); reads ONNX files as well."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from siamtrack.errors import UserError
from siamtrack.runtimes.graphs import Graph, GraphNetwork


class OpenVinoNetwork(GraphNetwork):
    """A network in OpenVINO's ``.xml`` files, or in ONNX graphs, on a CPU.

    Files of precision fp16 are computed with the CPU's own 16-bit numbers (bfloat16 or half) where it has such; all
    others in fp32, as by the other runtimes, and in int8 where they are quantised.

    Args:
        stem: path without ``.template.xml`` and so on.
        threads: number of threads; None for one a core.
        suffix: ``.xml`` or ``.onnx``.

    Raises:
        UserError: see :class:`~siamtrack.runtimes.graphs.GraphNetwork`, or OpenVINO is not installed.
    """

    def __init__(self, stem: Path, threads: int | None = None, suffix: str = ".xml") -> None:
        if not find_spec("openvino"):
            raise UserError("the runtime openvino is not installed; pip install 'siamtrack[openvino]'")
        import openvino

        core = openvino.Core()
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads

        def open_graph(path: Path) -> Graph:
            model = core.read_model(path)
            # Where OpenVINO keeps the metadata of an ONNX file, after conversion as well.
            found = model.get_rt_info(["framework"]).value if "framework" in model.get_rt_info() else {}
            return _graph(core, model, {key: str(getattr(each, "value", each)) for key, each in found.items()}, options)

        super().__init__("openvino", stem, suffix, open_graph)


def _graph(core: Any, model: Any, metadata: dict[str, str], options: dict[str, Any]) -> Graph:
    if metadata.get("siamtrack_precision") != "fp16":
        options = {**options, "INFERENCE_PRECISION_HINT": "f32"}
    compiled: dict[tuple[tuple[int, ...], ...], Any] = {}

    def run(values: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        # Known shapes make a search faster; there are one or two sizes of search region in a run.
        shapes = tuple(value.shape for value in values)
        if shapes not in compiled:
            sized = model.clone()
            sized.reshape({index: list(shape) for index, shape in enumerate(shapes)})
            compiled[shapes] = core.compile_model(sized, "CPU", options).create_infer_request()
        return list(compiled[shapes].infer(list(values), share_inputs=True).values())

    return Graph(run, len(model.inputs), len(model.outputs), metadata)
