"""Export of a network to ONNX: one graph for the template, one for the search region."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from siamtrack.errors import UserError
from siamtrack.files import atomic
from siamtrack.models.siamese import SiameseRPN
from siamtrack.models.zoo import Preset

OPSET = 18


class _Template(nn.Module):
    """The template function on patches in OpenCV's layout."""

    def __init__(self, model: SiameseRPN) -> None:
        super().__init__()
        self.model = model

    def forward(self, patch: Tensor) -> tuple[Tensor, ...]:
        return self.model.template(_image(patch))


class _Search(nn.Module):
    """The search function on patches in OpenCV's layout."""

    def __init__(self, model: SiameseRPN) -> None:
        super().__init__()
        self.model = model

    def forward(self, patch: Tensor, kernels: list[Tensor]) -> tuple[Tensor, Tensor]:
        prediction = self.model.search(_image(patch), tuple(kernels))
        return prediction.cls, prediction.loc


def _image(patch: Tensor) -> Tensor:
    """Return [1, S, S, 3] uint8 as [1, 3, S, S] float."""
    return patch.permute(0, 3, 1, 2).float()


def fold_batch_norm(model: SiameseRPN) -> SiameseRPN:
    """Fold every batch norm into the convolution before it, in place, and return the network in eval mode."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Sequential):
            children = list(module.children())
            for index, (layer, norm) in enumerate(pairwise(children)):
                if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[index] = fuse_conv_bn_eval(layer, norm)
                    module[index + 1] = nn.Identity()
    return model


def export_onnx(model: SiameseRPN, preset: Preset, stem: Path) -> tuple[Path, Path]:
    """Write ``<stem>.template.onnx`` and ``<stem>.search.onnx``.

    Graphs (one target each): template: ``patch`` uint8 [1, T, T, 3] BGR -> ``kernels_0..``;
    search: ``patch`` uint8 [1, S, S, 3] BGR, of any size S that differs from T by whole strides, and ``kernels_0..`` ->
    ``cls`` [1, 2 A, m, m], ``loc`` [1, 4 A, m, m].
    The preset travels in the files' metadata. ``model`` is folded in place.

    Raises:
        UserError: the network has masks, or a file cannot be written.
    """
    if model.mask:
        raise UserError(f"{preset.name} has masks, which are not exported; run it with torch")
    fold_batch_norm(model)
    config = model.config
    z = torch.zeros(1, config.template_size, config.template_size, 3, dtype=torch.uint8)
    x = torch.zeros(1, config.search_size, config.search_size, 3, dtype=torch.uint8)
    with torch.no_grad():
        kernels = _Template(model)(z)
    names = [f"kernels_{index}" for index in range(len(kernels))]
    template, search = (stem.with_name(f"{stem.name}.{part}.onnx") for part in ("template", "search"))
    _export(_Template(model), (z,), ["patch"], names, preset, template)
    # Search regions of any size, for long-term tracking among others.
    stride = config.anchors.stride
    side = stride * torch.export.Dim("n", min=16, max=256) + config.template_size % stride
    shapes = {"patch": {1: side, 2: side}, "kernels": [None for _ in kernels]}
    _export(_Search(model), (x, list(kernels)), ["patch", *names], ["cls", "loc"], preset, search, shapes)
    return template, search


def _export(
    module: nn.Module,
    inputs: tuple[Any, ...],
    names: list[str],
    outputs: list[str],
    preset: Preset,
    path: Path,
    shapes: Any = None,
) -> None:
    with atomic(path) as temporary:
        with warnings.catch_warnings(), _quiet("torch.onnx"):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module.eval(), inputs, temporary, input_names=names, output_names=outputs,
                opset_version=OPSET, dynamo=True, dynamic_shapes=shapes, verbose=False, external_data=False,
            )  # fmt: skip
        graph = onnx.load(temporary)
        onnx.helper.set_model_props(graph, {"siamtrack": preset.to_json()})
        onnx.save(graph, temporary)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Silence the exporter's notes about packages that are not needed."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
