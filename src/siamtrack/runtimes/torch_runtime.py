"""PyTorch: the network as it is trained, on a CPU or a GPU; and its weight files."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from siamtrack.errors import UserError
from siamtrack.files import atomic
from siamtrack.models import zoo
from siamtrack.models.fold import fold_batch_norm
from siamtrack.models.prediction import Prediction
from siamtrack.models.siamese import SiameseRPN
from siamtrack.runtimes.onednn import pack
from siamtrack.tracking.network import Array, Patches


class TorchNetwork:
    """A torch network for tracking: batch norm folded, channels last and, on a CPU, weights packed for oneDNN.

    Results are torch tensors on ``device``; on a CPU class logits and box offsets are NumPy's arrays.

    Args:
        model: copied; later changes of it are not seen.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...
        search_size: pixels a side of the search crops that shall be fast on a CPU; None for the network's own.
        compiled: the search goes through ``torch.compile``, once for each number of targets and size of search region,
            the first time right here.

    Raises:
        UserError: ``torch.compile`` does not work here.
    """

    def __init__(
        self, model: SiameseRPN, device: str = "cpu", search_size: int | None = None, compiled: bool = False
    ) -> None:
        self.device = torch.device(device)
        self.runtime = "torch-compile" if compiled else "torch"
        folded = fold_batch_norm(model).to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model = pack(folded, search_size) if self.device.type == "cpu" else folded
        self._response = self._compiled() if compiled else self._plain

    @torch.inference_mode()
    def template(self, patches: Patches) -> tuple[Array, ...]:
        """See :class:`~siamtrack.tracking.network.Network`."""
        with _full_precision():
            return self.model.template(_images(torch.from_numpy(patches).to(self.device)))

    @torch.inference_mode()
    def search(self, patches: Patches, features: tuple[Array, ...]) -> Prediction:
        """See :class:`~siamtrack.tracking.network.Network`."""
        with _full_precision():
            prediction = self._response(torch.from_numpy(patches).to(self.device), features)
        if self.device.type == "cpu":  # NumPy decodes candidates in less time
            return prediction._replace(cls=prediction.cls.numpy(), loc=prediction.loc.numpy())
        return prediction

    @torch.inference_mode()
    def draw(self, context: tuple[Array, ...], cell: NDArray[np.int64]) -> NDArray[np.float32]:
        """See :class:`~siamtrack.tracking.network.Network`.

        Raises:
            UserError: the network has no mask branch.
        """
        if self.model.mask is None:
            raise UserError("this model gives boxes only; for masks take a SiamMask model")
        row, column = torch.from_numpy(cell).to(self.device).T
        target = torch.arange(len(cell), device=self.device)
        with _full_precision():
            masks: NDArray[np.float32] = self.model.mask.draw(context, target, row, column).cpu().numpy()
        return masks

    def _plain(self, patches: Tensor, features: tuple[Tensor, ...]) -> Prediction:
        return self.model.search(_images(patches), features)

    def _compiled(self) -> Callable[[Tensor, tuple[Tensor, ...]], Prediction]:
        """Return the search compiled, after a first call."""
        compiled: Callable[[Tensor, tuple[Tensor, ...]], Prediction] = torch.compile(self._plain, dynamic=False)
        config = self.model.config
        z, x = (np.zeros((1, side, side, 3), np.uint8) for side in (config.template_size, config.search_size))
        try:
            with torch.inference_mode(), _full_precision():
                compiled(torch.from_numpy(x).to(self.device), self.template(z))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of the compiler, its parts and what it calls, which have nothing in common
            reason = next((line for line in str(error).splitlines() if line.strip()), "").strip()
            raise UserError(
                f"torch.compile does not work here ({type(error).__name__}: {reason}); it needs a C++ compiler on a "
                f"CPU and Triton on a GPU; install that, or take --runtime torch"
            ) from None
        return compiled


def _images(patches: Tensor) -> Tensor:
    """Return [B, S, S, 3] uint8 as [B, 3, S, S] float."""
    return patches.permute(0, 3, 1, 2).float()


def _full_precision() -> AbstractContextManager[None]:
    """Return a block without TF32, whose 10 bits would make a GPU's boxes differ from a CPU's."""
    block: AbstractContextManager[None] = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return block


def save(path: Path, model: SiameseRPN, preset: zoo.Preset) -> None:
    """Write weights and preset to a .safetensors file, atomically.

    Raises:
        UserError: the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic(path) as temporary:
        save_file(tensors, temporary, {"siamtrack": preset.to_json()})


def read(path: Path) -> tuple[dict[str, Tensor], zoo.Preset]:
    """Return the weights and the preset in a .safetensors file.

    Raises:
        UserError: no such file, it is damaged, or was not written by siamtrack.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not a usable safetensors file: {error}") from None
    damaged = [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if damaged:
        raise UserError(f"{path} holds weights that are not finite, the first in {damaged[0]}; it cannot track")
    if "siamtrack" not in metadata:
        raise UserError(f"{path} was not written by siamtrack: it does not say which model it is")
    return tensors, zoo.from_json(metadata["siamtrack"], str(path))


def load_weights(model: SiameseRPN, path: Path, spare_mask: bool = False) -> zoo.Preset:
    """Load a .safetensors file into ``model`` and return its preset.

    Args:
        model: receives the weights.
        path: the file.
        spare_mask: whether a mask branch keeps its weights where the file has none.

    Raises:
        UserError: see :func:`read`, or the weights do not fit.
    """
    tensors, preset = read(path)
    if spare_mask and not any(name.startswith("mask.") for name in tensors):
        tensors |= {name: value for name, value in model.state_dict().items() if name.startswith("mask.")}
    _fill(model, tensors, path)
    return preset


def _fill(model: SiameseRPN, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        detail = str(error).split("\n")[1].strip()
        raise UserError(f"{path} does not hold the weights of this model: {detail}") from None


def load(path: Path) -> tuple[SiameseRPN, zoo.Preset]:
    """Return the network in a .safetensors file and its preset.

    Raises:
        UserError: see :func:`read`, or the weights do not fit the preset.
    """
    tensors, preset = read(path)
    model = SiameseRPN(preset.model)
    _fill(model, tensors, path)
    return model.eval(), preset
