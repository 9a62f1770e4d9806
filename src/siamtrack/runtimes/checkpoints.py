"""Published checkpoints turned into networks and weight files of this package."""

from contextlib import suppress
from pathlib import Path

from siamtrack.errors import UserError
from siamtrack.files import cache_folder
from siamtrack.models import pysot, zoo
from siamtrack.models.siamese import SiameseRPN, check_network
from siamtrack.runtimes.torch_runtime import load, save
from siamtrack.tracking.config import tracking_config
from siamtrack.version import __version__


def read(checkpoint: Path, preset: str | None = None) -> tuple[SiameseRPN, pysot.Converted]:
    """Return the network in a checkpoint of PySOT, SiamMask or DaSiamRPN, and what was recognised.

    Args:
        checkpoint: see :func:`siamtrack.models.pysot.read_checkpoint`.
        preset: name of the preset, or its .yaml file; None to recognise it.

    Raises:
        UserError: the checkpoint cannot be read or is no network of the family, or the preset cannot be used.
    """
    if preset:
        named = zoo.load(preset)
        tracking_config(named)
        check_network(named.model, named.origin)
    converted = pysot.convert(pysot.read_checkpoint(checkpoint), checkpoint, preset)
    model = SiameseRPN(converted.preset.model)
    model.load_state_dict(converted.tensors, strict=False)  # complete but for counters of batches
    return model.eval(), converted


def convert_checkpoint(checkpoint: Path, out: Path, preset: str | None = None) -> pysot.Converted:
    """Convert a checkpoint to a .safetensors file with its preset.

    Raises:
        UserError: see :func:`read`, or ``out`` cannot be written.
    """
    model, converted = read(checkpoint, preset)
    save(out, model, converted.preset)
    return converted


def load_checkpoint(checkpoint: Path) -> tuple[SiameseRPN, zoo.Preset]:
    """Return the network in ``checkpoint`` and its preset.

    Its converted form is kept in the user's cache, where that can be written, and used the next time.

    Raises:
        UserError: see :func:`read`.
    """
    if not checkpoint.is_file():
        raise UserError(f"there is no file {checkpoint}")
    cached = cache_folder() / f"{checkpoint.stem}-{zoo.sha256(checkpoint)[:16]}-{__version__}.safetensors"
    with suppress(UserError, OSError):  # there is none yet, or it is damaged
        return load(cached)
    model, converted = read(checkpoint)
    with suppress(UserError, OSError):
        cached.parent.mkdir(parents=True, exist_ok=True)
        save(cached, model, converted.preset)
    return model, converted.preset
