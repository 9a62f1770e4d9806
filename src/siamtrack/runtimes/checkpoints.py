"""Published checkpoints turned into weight files of this package."""

import os
from pathlib import Path

from siamtrack.errors import UserError
from siamtrack.models import pysot, zoo
from siamtrack.models.siamese import SiameseRPN
from siamtrack.runtimes.torch_runtime import save


def convert_checkpoint(checkpoint: Path, out: Path, preset: str | None = None) -> pysot.Converted:
    """Convert a checkpoint of PySOT, SiamMask or DaSiamRPN to a .safetensors file with its preset.

    Args:
        checkpoint: see :func:`siamtrack.models.pysot.read_checkpoint`.
        out: the file to write.
        preset: name of the preset; None to recognise it.

    Raises:
        UserError: the checkpoint cannot be read or is no network of the family, or ``out`` cannot be written.
    """
    converted = pysot.convert(pysot.read_checkpoint(checkpoint), checkpoint, preset)
    model = SiameseRPN(converted.preset.model)
    model.load_state_dict(converted.tensors, strict=False)  # complete but for counters of batches
    save(out, model, converted.preset)
    return converted


def convert_to_cache(checkpoint: Path) -> Path:
    """Return the converted form of ``checkpoint``, made on first use and kept in the user's cache.

    Raises:
        UserError: see :func:`convert_checkpoint`.
    """
    if not checkpoint.is_file():
        raise UserError(f"there is no file {checkpoint}")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "siamtrack"
    cached = home / f"{checkpoint.stem}-{zoo.sha256(checkpoint)[:16]}.safetensors"
    if not cached.is_file():
        home.mkdir(parents=True, exist_ok=True)
        convert_checkpoint(checkpoint, cached)
    return cached
