"""Export of a network as graphs: of the template, of the search region and, with masks, one that draws them."""

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor, nn

from siamtrack.errors import UserError
from siamtrack.files import atomic
from siamtrack.models.fold import fold_batch_norm
from siamtrack.models.siamese import SiameseRPN
from siamtrack.models.zoo import Preset
from siamtrack.runtimes.graphs import PARTS, metadata, part_file
from siamtrack.runtimes.verify import Crops
from siamtrack.tracking.config import tracking_config

Format = Literal["onnx", "openvino", "torchscript", "executorch"]
Precision = Literal["fp32", "fp16", "int8"]

OPSET = 18
SUFFIXES: dict[Format, str] = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "torchscript": ".torchscript",
    "executorch": ".pte",
}
PRECISIONS: dict[Format, tuple[Precision, ...]] = {
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "fp16", "int8"),
    "torchscript": ("fp32", "fp16"),
    "executorch": ("fp32", "fp16", "int8"),
}
_PACKAGES: dict[Format, tuple[tuple[str, ...], str]] = {  # what a format needs, and the extra that has it
    "onnx": (("onnx", "onnxscript"), "train"),
    "openvino": (("onnx", "onnxscript", "openvino"), "train,openvino"),
    "torchscript": ((), "torch"),
    "executorch": (("executorch",), "executorch"),
}
_NO_CROPS = "int8 is calibrated on real crops; give some"


class _Template(nn.Module):
    """The template function on patches in OpenCV's layout."""

    def __init__(self, model: SiameseRPN) -> None:
        super().__init__()
        self.model = model

    def forward(self, patch: Tensor) -> tuple[Tensor, ...]:
        return tuple(kernel.float() for kernel in self.model.template(_image(self.model, patch)))


class _Search(nn.Module):
    """The search function on patches in OpenCV's layout."""

    def __init__(self, model: SiameseRPN) -> None:
        super().__init__()
        self.model = model

    def forward(self, patch: Tensor, *kernels: Tensor) -> tuple[Tensor, ...]:
        cast = tuple(kernel.to(_dtype(self.model)) for kernel in kernels)
        cls, loc, context = self.model.search(_image(self.model, patch), cast)
        return tuple(each.float() for each in (cls, loc, *context))


class _Draw(nn.Module):
    """The masks of one cell of each target."""

    def __init__(self, model: SiameseRPN) -> None:
        super().__init__()
        self.model = model

    def forward(self, correlation: Tensor, fine: Tensor, middle: Tensor, coarse: Tensor, cell: Tensor) -> Tensor:
        context = [each.to(_dtype(self.model)) for each in (correlation, fine, middle, coarse)]
        assert self.model.mask is not None  # there is no such graph without masks
        return self.model.mask.draw(context, torch.zeros_like(cell[:, 0]), cell[:, 0], cell[:, 1]).float()


def _dtype(model: SiameseRPN) -> torch.dtype:
    return next(model.parameters()).dtype


def _image(model: SiameseRPN, patch: Tensor) -> Tensor:
    """Return [1, S, S, 3] uint8 as [1, 3, S, S] of the network's type."""
    return patch.permute(0, 3, 1, 2).to(_dtype(model)).contiguous()  # ExecuTorch would reshape channels-last wrongly


@dataclass(frozen=True)
class _Part:
    """A graph before it is exported."""

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    """Examples."""
    names: list[str]
    """Of the inputs."""
    outputs: list[str]
    """Names of the outputs."""
    shapes: Any
    """Which dimensions may change, for torch.export."""


def check_export(form: Format, precision: Precision) -> None:
    """Check that there is such an export, and that its packages are installed.

    Raises:
        UserError: they are not, or the format does not have the precision.
    """
    if precision not in PRECISIONS[form]:
        raise UserError(f"--precision {precision}: {form} files are {' or '.join(PRECISIONS[form])} here")
    packages, extra = _PACKAGES[form]
    missing = [package for package in packages if not find_spec(package)]
    if missing:
        raise UserError(f"export to {form} needs {' and '.join(missing)}; pip install 'siamtrack[{extra}]'")


def export(
    model: SiameseRPN,
    preset: Preset,
    stem: Path,
    form: Format = "onnx",
    precision: Precision = "fp32",
    crops: Crops = (),
) -> list[Path]:
    """Write ``<stem>.template<suffix>``, ``<stem>.search<suffix>`` and, with masks, ``<stem>.draw<suffix>``.

    The graphs have one target each and the same inputs and outputs in every format and precision. template: ``patch``
    uint8 [1, T, T, 3] BGR -> ``kernels_0..`` float32; search: ``patch`` uint8 [1, S, S, 3] BGR and ``kernels_0..`` ->
    ``cls`` [1, 2 A, m, m], ``loc`` [1, 4 A, m, m] and with masks ``context_0..3``; draw: ``context_0..3`` and ``cell``
    int64 [1, 2] as row, column -> ``mask`` [1, 127, 127] logits. S may be any size that differs from T by whole
    strides, but with ExecuTorch it is the preset's. The preset travels in the files' metadata.

    Args:
        model: is not changed.
        preset: its name, configuration and parameters of tracking.
        stem: path of the files without part and suffix.
        form: see :data:`SUFFIXES`.
        precision: int8 quantises the search graph; the template's runs once a target and stays as it is.
        crops: what int8 is calibrated with.

    Raises:
        UserError: the format does not have the precision, a package is missing, int8 without crops, or a file cannot be
            written.
    """
    check_export(form, precision)
    if form in ("onnx", "openvino"):
        with TemporaryDirectory() as folder:
            plain = Path(folder) / "plain"
            export_onnx(model, preset, plain)
            return convert(plain, preset, stem, form, precision, crops)
    if precision == "int8" and not crops:
        raise UserError(_NO_CROPS)
    about = metadata(preset, precision, _digest(model))
    model = fold_batch_norm(model).cpu()
    parts = _parts(model, preset)
    if precision == "fp16":
        model.half()
    if precision == "int8":
        parts[1] = _quantized(parts[0], parts[1], crops)
    write = _torchscript if form == "torchscript" else _executorch
    written = [part_file(stem, part.name, SUFFIXES[form]) for part in parts]
    for part, path in zip(parts, written, strict=True):
        write(part, path, about)
    return written


def export_onnx(model: SiameseRPN, preset: Preset, stem: Path) -> list[Path]:
    """Write the graphs of :func:`export` as ONNX in fp32.

    Raises:
        UserError: a file cannot be written.
    """
    import onnx

    about = metadata(preset, "fp32", _digest(model))
    parts = _parts(fold_batch_norm(model).cpu(), preset)
    written = [part_file(stem, part.name, ".onnx") for part in parts]
    for part, path in zip(parts, written, strict=True):
        with atomic(path) as temporary:
            with warnings.catch_warnings(), _quiet("torch.onnx"):
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    part.module, part.inputs, temporary, input_names=part.names, output_names=part.outputs,
                    opset_version=OPSET, dynamo=True, dynamic_shapes=part.shapes, verbose=False, external_data=False,
                )  # fmt: skip
            graph = onnx.load(temporary)
            onnx.helper.set_model_props(graph, about)
            onnx.save(graph, temporary)
    return written


def convert(
    plain: Path, preset: Preset, stem: Path, form: Format, precision: Precision, crops: Crops = ()
) -> list[Path]:
    """Write the ONNX graphs of :func:`export_onnx` in another precision, or for OpenVINO.

    Args:
        plain: their path without part and suffix.
        preset: the model's.
        stem: path of the result, likewise.
        form: ``onnx`` or ``openvino``.
        precision: see :func:`export`.
        crops: see :func:`export`.

    Raises:
        UserError: int8 without crops, or a file cannot be written.
    """
    import onnx

    if precision == "int8" and not crops:
        raise UserError(_NO_CROPS)
    parts = PARTS if preset.model.mask else PARTS[:2]
    written = [part_file(stem, part, SUFFIXES[form]) for part in parts]
    for part, path in zip(parts, written, strict=True):
        graph = onnx.load(part_file(plain, part, ".onnx"))
        weights = next(entry.value for entry in graph.metadata_props if entry.key == "siamtrack_weights")
        if precision == "fp16" and form == "onnx":
            from onnxruntime.transformers.float16 import convert_float_to_float16

            graph = convert_float_to_float16(graph, keep_io_types=True)
        if precision == "int8" and part == "search":
            from siamtrack.runtimes.quantize import float_nodes, quantize

            kept = float_nodes(graph, preset.model.search_size)
            graph = quantize(part_file(plain, "template", ".onnx"), graph, crops, kept)
        onnx.helper.set_model_props(graph, metadata(preset, precision, weights))
        if form == "openvino":
            _openvino(graph.SerializeToString(), path, precision)
        else:
            with atomic(path) as temporary:
                onnx.save(graph, temporary)
    return [*written, *(path.with_suffix(".bin") for path in written if form == "openvino")]


def _digest(model: SiameseRPN) -> str:
    """Return what tells a training of a model from another: the start of the SHA-256 of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _parts(model: SiameseRPN, preset: Preset) -> list[_Part]:
    """Return the graphs of a network, with examples of their inputs."""
    config = model.config
    size = tracking_config(preset).search_size or config.search_size
    z = torch.zeros(1, config.template_size, config.template_size, 3, dtype=torch.uint8)
    x = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    with torch.no_grad():
        kernels = _Template(model)(z)
        _, _, *context = _Search(model)(x, *kernels)
    names = [f"kernels_{index}" for index in range(len(kernels))]
    contexts = [f"context_{index}" for index in range(len(context))]
    # Search regions of any size, for long-term tracking among others.
    stride = config.anchors.stride
    side = stride * torch.export.Dim("n", min=16, max=256) + config.template_size % stride
    any_search: Any = ({1: side, 2: side}, tuple({} for _ in kernels))
    parts = [
        _Part("template", _Template(model), (z,), ["patch"], names, None),
        _Part("search", _Search(model), (x, *kernels), ["patch", *names], ["cls", "loc", *contexts], any_search),
    ]
    if context:
        any_context = ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},) * len(context)
        cell = torch.zeros(1, 2, dtype=torch.int64)
        inputs = (*context, cell)
        parts.append(_Part("draw", _Draw(model), inputs, [*contexts, "cell"], ["mask"], (*any_context, {})))
    for part in parts:
        part.module.eval()
    return parts


def _openvino(graph: bytes, path: Path, precision: Precision) -> None:
    """Convert an ONNX graph; its metadata stays with it."""
    import openvino

    model = openvino.Core().read_model(graph)
    with TemporaryDirectory() as folder:
        made = Path(folder) / "graph.xml"
        openvino.save_model(model, made, compress_to_fp16=precision == "fp16")
        for suffix in (".bin", ".xml"):  # the .xml last, which makes the pair complete
            with atomic(path.with_suffix(suffix)) as temporary:
                temporary.write_bytes(made.with_suffix(suffix).read_bytes())


def _torchscript(part: _Part, path: Path, about: dict[str, str]) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of shapes that the tracer keeps, and of TorchScript's age
        traced = torch.jit.freeze(
            torch.jit.trace(part.module, part.inputs, check_trace=False)  # type: ignore[no-untyped-call]
        )
        with atomic(path) as temporary:
            torch.jit.save(traced, str(temporary), _extra_files={"metadata.json": json.dumps(about)})


def _quantized(template: _Part, search: _Part, crops: Crops) -> _Part:
    """Return ``search`` in int8, for ExecuTorch."""
    with warnings.catch_warnings(), _quiet("torchao"), _quiet("torch.utils._pytree"), torch.no_grad():
        warnings.simplefilter("ignore")
        from siamtrack.runtimes.quantize_torch import quantize

        inputs = [(torch.from_numpy(x), *template.module(torch.from_numpy(z))) for z, x in crops]
        return replace(search, module=quantize(search.module, inputs))


def _executorch(part: _Part, path: Path, about: dict[str, str]) -> None:
    with warnings.catch_warnings(), _quiet("torchao"), _quiet("torch.utils._pytree"), torch.no_grad():
        warnings.simplefilter("ignore")
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = to_edge_transform_and_lower(
            torch.export.export(part.module, part.inputs),
            partitioner=[XnnpackPartitioner()],
            constant_methods={"metadata": json.dumps(about)},
        ).to_executorch()
        with atomic(path) as temporary:
            temporary.write_bytes(program.buffer)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Silence the notes of an exporter about packages that are not needed."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
