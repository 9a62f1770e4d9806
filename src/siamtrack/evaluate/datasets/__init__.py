"""Data sets in their published layouts: a file each, and all of them by name.

A reader is a function from the data set's root folder to its sequences. It reads annotations, never images, and says
which file it looked for and where when one is missing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from siamtrack.errors import UserError, nearest
from siamtrack.evaluate.datasets.folder import read_folder
from siamtrack.evaluate.sequences import Sequence


@dataclass(frozen=True)
class Dataset:
    """Sequences, and how they are evaluated unless one asks for something else."""

    name: str
    sequences: tuple[Sequence, ...]
    protocol: str = "one-pass"
    """A key of ``siamtrack.evaluate.protocols.PROTOCOLS``."""


@dataclass(frozen=True)
class Reader:
    """How a data set is read."""

    read: Callable[[Path], list[Sequence]]
    """From the root folder to the sequences."""
    protocol: str = "one-pass"


READERS: dict[str, Reader] = {
    "folder": Reader(read_folder),
}
"""The data sets by name, lower case."""


def read_dataset(name: str, root: Path, only: tuple[str, ...] = (), frames: int | None = None) -> Dataset:
    """Return a data set.

    Args:
        name: a key of :data:`READERS`, in any case.
        root: the folder that the data set was unpacked to.
        only: names of sequences; empty for all.
        frames: at most so many frames of each sequence.

    Raises:
        UserError: the name is unknown, the folder is not such a data set, or it has no sequence of a name in ``only``.
    """
    reader = READERS.get(name.lower())
    if reader is None:
        raise UserError(f"unknown data set {name!r}{nearest(name, READERS)}; known are {', '.join(READERS)}")
    if not root.is_dir():
        raise UserError(f"there is no folder {root}")
    sequences = reader.read(root)
    missing = set(only) - {sequence.name for sequence in sequences}
    if missing:
        known = [sequence.name for sequence in sequences]
        raise UserError(f"{root} has no sequence {min(missing)!r}{nearest(min(missing), known)}")
    chosen = [sequence.first(frames) for sequence in sequences if not only or sequence.name in only]
    return Dataset(name.lower(), tuple(chosen), reader.protocol)


__all__ = ["READERS", "Dataset", "Reader", "read_dataset"]
