"""A network in exported graphs: one of the template, one of the search region and, with masks, one that draws."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.models.prediction import Prediction
from siamtrack.tracking.network import Patches
from siamtrack.version import __version__

FORMAT = 1
"""Version of the graphs' inputs, outputs and metadata; files without one are of version 1."""
PARTS = ("template", "search", "draw")
FINE = 3
"""In int8 files convolutions whose input has more than a third of the search region's resolution stay fp32."""

Arrays = tuple[NDArray[np.float32], ...]


@dataclass(frozen=True)
class Graph:
    """A graph that a runtime has opened."""

    run: Callable[[Sequence[NDArray[Any]]], Sequence[NDArray[Any]]]
    """The graph as a function of its inputs, in their order; the outputs do not change when it runs again."""
    inputs: int
    outputs: int
    metadata: Mapping[str, str]
    """See :func:`metadata`."""


def metadata(preset: zoo.Preset, precision: str, weights: str) -> dict[str, str]:
    """Return what every exported file says of itself; ``weights`` tells trainings of one preset apart."""
    return {
        "siamtrack": preset.to_json(),
        "siamtrack_weights": weights,
        "siamtrack_version": __version__,
        "siamtrack_format": str(FORMAT),
        "siamtrack_precision": precision,
    }


def part_file(stem: Path, part: str, suffix: str) -> Path:
    """Return the file of a part of a model, such as ``<stem>.search.onnx``."""
    return stem.with_name(f"{stem.name}.{part}{suffix}")


def stem_of(path: Path) -> Path:
    """Return the path of any file of a model without its part and suffix."""
    name = path.name.removesuffix(path.suffix)
    for part in PARTS:
        name = name.removesuffix(f".{part}")
    return path.with_name(name)


class GraphNetwork:
    """A network in graphs that take one target each, as :func:`siamtrack.runtimes.export.export` writes them.

    It is a :class:`~siamtrack.tracking.network.Network` in numpy; targets run in turn.

    Args:
        runtime: what runs it, for people.
        stem: path of the files without ``.template`` and so on.
        suffix: of the files, such as ``.onnx``.
        open_graph: opens one of them. Any error but UserError means that the file cannot be used.

    Raises:
        UserError: a file is missing, damaged, not siamtrack's or of another version, or they do not belong together.
    """

    def __init__(self, runtime: str, stem: Path, suffix: str, open_graph: Callable[[Path], Graph]) -> None:
        self.runtime = runtime
        template, search, draw = (part_file(stem, part, suffix) for part in PARTS)
        self._template, self._search = _open(template, open_graph), _open(search, open_graph)
        self.preset = _preset(self._search.metadata, search)
        self.precision = self._search.metadata.get("siamtrack_precision", "fp32")
        self._draw = _open(draw, open_graph) if self.preset.model.mask else None
        _check_pair(search, self._search, template, self._template)
        if (self._template.inputs, self._template.outputs) != (1, self._search.inputs - 1):
            raise UserError(f"{template} and {search} do not belong together; export the model again")
        if self._draw:
            _check_pair(search, self._search, draw, self._draw)

    def template(self, patches: Patches) -> Arrays:
        """See :class:`~siamtrack.tracking.network.Network`."""
        return _stack([self._template.run([patch[None]]) for patch in patches])

    def search(self, patches: Patches, features: Arrays) -> Prediction:
        """See :class:`~siamtrack.tracking.network.Network`."""
        cls, loc, *context = _stack(
            [self._search.run([patches[one], *(feature[one] for feature in features)]) for one in _ones(len(patches))]
        )
        return Prediction(cls, loc, tuple(context))

    def draw(self, context: Arrays, cell: NDArray[np.int64]) -> NDArray[np.float32]:
        """See :class:`~siamtrack.tracking.network.Network`.

        Raises:
            UserError: the network has no masks.
        """
        if self._draw is None:
            raise UserError("this model gives boxes only; for masks take a SiamMask model")
        return _stack([self._draw.run([*(each[one] for each in context), cell[one]]) for one in _ones(len(cell))])[0]


def _ones(count: int) -> list[slice]:
    return [slice(index, index + 1) for index in range(count)]


def _stack(outputs: list[Sequence[NDArray[np.float32]]]) -> Arrays:
    """Join the outputs of single targets [1, ...] along the batch axis."""
    if len(outputs) == 1:
        return tuple(outputs[0])
    return tuple(np.concatenate(parts) for parts in zip(*outputs, strict=True))


def _open(path: Path, open_graph: Callable[[Path], Graph]) -> Graph:
    if not path.is_file():
        raise UserError(
            f"there is no file {path}; a model is a pair of .template{path.suffix} and .search{path.suffix}"
        )
    try:
        return open_graph(path)
    except UserError:
        raise
    except Exception as error:  # the runtimes' errors have nothing in common
        kind = {".onnx": "ONNX", ".xml": "OpenVINO", ".torchscript": "TorchScript", ".pte": "ExecuTorch"}[path.suffix]
        raise UserError(f"{path} is not a usable {kind} file ({type(error).__name__}); export it again") from None


def _check_pair(search: Path, ours: Graph, other: Path, theirs: Graph) -> None:
    """Check that two files are of one model and one training; older ones do not say which.

    Raises:
        UserError: they are not.
    """
    if ours.metadata != theirs.metadata:
        both = [each.metadata.get("siamtrack_weights") for each in (ours, theirs)]
        why = ": they hold the weights of different trainings" if both[0] != both[1] and None not in both else ""
        raise UserError(f"{other} and {search} do not belong together{why}; export the model again")


def _preset(values: Mapping[str, str], path: Path) -> zoo.Preset:
    if "siamtrack" not in values:
        raise UserError(f"{path} was not exported by siamtrack: it does not say which model it is")
    version = values.get("siamtrack_format", "1")
    if version != str(FORMAT):
        raise UserError(
            f"{path} has version {version} of the format, written by siamtrack {values.get('siamtrack_version')}; this "
            f"siamtrack {__version__} reads version {FORMAT}: export the model again"
        )
    return zoo.from_json(values["siamtrack"], path.name)
