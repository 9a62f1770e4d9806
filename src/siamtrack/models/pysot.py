"""Checkpoints of PySOT, of foolwood's SiamMask and of DaSiamRPN, read into this package's networks."""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.models.siamese import SiameseRPN

# Names of other projects, rewritten to PySOT's (specification: PySOT's loader, SiamMask's and DaSiamRPN's modules).
_TO_PYSOT = (
    (r"^module\.", ""),
    (r"^features\.features\.", "backbone."),
    (r"^features\.downsample\.", "neck.downsample."),
    (r"^rpn_model\.", "rpn_head."),
    (r"^mask_model\.mask\.", "mask_head."),
    (r"^refine_model\.", "refine_head."),
    (r"^featureExtract\.", "backbone.features."),
    (r"^conv_cls1\.", "rpn_head.template_cls_conv."),
    (r"^conv_r1\.", "rpn_head.template_loc_conv."),
    (r"^conv_cls2\.", "rpn_head.search_cls_conv."),
    (r"^conv_r2\.", "rpn_head.search_loc_conv."),
    (r"^regress_adjust\.", "rpn_head.loc_adjust."),
)
_LEGACY_ALEXNET = {
    0: "1.0",
    1: "1.1",
    4: "2.0",
    5: "2.1",
    8: "3.0",
    9: "3.1",
    11: "4.0",
    12: "4.1",
    14: "5.0",
    15: "5.1",
}
_PARTS = {"conv_kernel": "template", "conv_search": "search", "head": "decode"}
# PySOT's training checkpoints keep learning rates as NumPy scalars; these types cannot run code.
_SCALAR = np.float64(0).__reduce__()[0]
_HARMLESS: list[Any] = [
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)),
    (_SCALAR, "numpy.core.multiarray.scalar"),  # its name before NumPy 2
    (_SCALAR, "numpy._core.multiarray.scalar"),
]


def our_name(name: str) -> str:
    """Return the name in this package of an entry of a checkpoint's state dict."""
    for pattern, replacement in _TO_PYSOT:
        name = re.sub(pattern, replacement, name)
    if match := re.match(r"backbone\.features\.(\d+)\.(.+)", name):
        number, rest = int(match[1]), match[2]
        return f"backbone.layer{_LEGACY_ALEXNET[number]}.{rest}" if number in _LEGACY_ALEXNET else name
    if match := re.match(r"neck\.downsample(\d*)\.downsample\.(.+)", name):
        return f"neck.levels.{_level(match[1])}.{match[2]}"
    if match := re.match(r"rpn_head\.(?:rpn(\d)\.)?(cls|loc)\.(conv_kernel|conv_search|head)\.(.+)", name):
        return f"rpn.{match[2]}.{_level(match[1])}.{_PARTS[match[3]]}.{match[4]}"
    if match := re.match(r"rpn_head\.(template|search)_(cls|loc)_conv\.(.+)", name):
        return f"rpn.{match[2]}_{match[1]}.{match[3]}"
    if match := re.match(r"mask_head\.(conv_kernel|conv_search|head)\.(.+)", name):
        return f"mask.correlation.{_PARTS[match[1]]}.{match[2]}"
    return re.sub(r"^refine_head\.", "mask.refine.", re.sub(r"^rpn_head\.", "rpn.", name))


def _level(number: str | None) -> int:
    """PySOT counts levels from 2, and does not where there is but one."""
    return int(number) - 2 if number else 0


@dataclass(frozen=True)
class Converted:
    """A checkpoint as a model of this package."""

    preset: zoo.Preset
    tensors: dict[str, Tensor]
    alternatives: tuple[str, ...]
    """Other presets with the same network, which differ in the parameters of tracking."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a PyTorch checkpoint, bare or of a training run. No code in it is run.

    Raises:
        UserError: no such file, it is damaged, holds anything but tensors and plain values, or no state dict.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail anywhere in torch's reader
        found = re.search(r"(?:GLOBAL|global|Unsupported class) (\w+\.[\w.]+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and found:
            raise UserError(
                f"{path} is refused: it holds more than weights ({found[1].rstrip('.')}), which could run code; save "
                "its state_dict alone"
            ) from None
        raise UserError(
            f"{path} is not a usable PyTorch checkpoint ({type(error).__name__}); is it one, and is it complete?"
        ) from None
    if isinstance(values, dict) and isinstance(values.get("state_dict"), dict):
        values = values["state_dict"]
    if not isinstance(values, dict) or not any(isinstance(value, Tensor) for value in values.values()):
        raise UserError(f"{path} holds no state dict of tensors")
    return {str(name): value for name, value in values.items() if isinstance(value, Tensor)}


def convert(tensors: Mapping[str, Tensor], path: Path, name: str | None = None) -> Converted:
    """Return a checkpoint's state dict as a model of this package, recognised by names and shapes.

    Args:
        tensors: as :func:`read_checkpoint` returns them.
        path: where they come from, for messages.
        name: the preset, if it is known; None to recognise it.

    Raises:
        UserError: no preset (or not the named one) has these entries; lists what does not match.
    """
    kept = {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")}
    ours = {our_name(key): value for key, value in kept.items()}
    if len(ours) < len(kept):
        raise UserError(f"{path} has two entries for the same weight under different names; save one state_dict alone")
    damaged = [key for key, value in kept.items() if value.is_floating_point() and not value.isfinite().all()]
    if damaged:
        raise UserError(f"{path} holds weights that are not finite, the first in {damaged[0]}; it cannot track")
    if any(key.startswith(("ban_head.", "bbox_head.")) for key in ours):
        raise UserError(f"{path} is a SiamBAN or NanoTrack network (it has a ban_head), which is not of this family")
    known = [name] if name else zoo.names()
    mismatches = {known_name: _mismatch(ours, _shapes(zoo.load(known_name))) for known_name in known}
    matching = [known_name for known_name, mismatch in mismatches.items() if not mismatch]
    if not matching:
        closest = min(mismatches, key=lambda each: len(mismatches[each]))
        listed = mismatches[closest]
        more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
        raise UserError(
            f"{path} is no checkpoint of a known network; the closest is {closest}, which differs in: "
            + "; ".join(listed[:8])
            + more
        )
    # DaSiamRPN's network is SiamRPN's; its own files have names of their own.
    dasiam = any(key.startswith("featureExtract.") for key in tensors)
    matching.sort(key=lambda each: (each.startswith("dasiamrpn") != dasiam, each))
    return Converted(zoo.load(matching[0]), ours, tuple(matching[1:]))


def _shapes(preset: zoo.Preset) -> dict[str, torch.Size]:
    with torch.device("meta"):
        state = SiameseRPN(preset.model).state_dict()
    return {name: value.shape for name, value in state.items() if not name.endswith("num_batches_tracked")}


def _mismatch(ours: Mapping[str, Tensor], wanted: Mapping[str, torch.Size]) -> list[str]:
    """Return what differs between a state dict and a network, empty if nothing does."""
    differences = [f"{name} is missing" for name in wanted if name not in ours]
    differences += [f"{name} is not part of it" for name in ours if name not in wanted]
    for name in wanted.keys() & ours.keys():
        if ours[name].shape != wanted[name]:
            differences.append(f"{name} has shape {tuple(ours[name].shape)} instead of {tuple(wanted[name])}")
    return differences
