"""Checkpoints: everything that a run needs to go on as if it had not stopped."""

import pickle
from pathlib import Path
from typing import Any

import torch

from siamtrack.errors import UserError
from siamtrack.files import atomic


def save_checkpoint(path: Path, values: dict[str, Any]) -> None:
    """Write ``values`` (tensors and plain values) atomically: a full disk leaves the previous checkpoint.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic(path) as temporary:
        try:
            torch.save(values, temporary)
        except RuntimeError as error:  # how torch reports a failed write
            raise UserError(f"cannot write {path}: {error}") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        UserError: it is damaged, or no checkpoint of siamtrack.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError):
        raise UserError(f"{path} is not a usable checkpoint; delete it to start anew") from None
    if not isinstance(values, dict) or not {"step", "model", "optimizer"} <= values.keys():
        raise UserError(f"{path} is not a checkpoint of siamtrack; delete it to start anew")
    return values
