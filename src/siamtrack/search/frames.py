"""Frames that all trials of a process share."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

from siamtrack.evaluate.sequences import Sequence
from siamtrack.video.image import Image


class FrameMemory:
    """Decoded frames, kept until ``capacity`` bytes are full; those that come later are decoded each time anew.

    A trial reads all frames in the same order, so that what was kept first serves as well as anything, whereas a cache
    that drops the least recent would never hit. Frames are kept decoded: what is not kept is read from the file, which
    the operating system keeps as well as a copy of the JPEG here would be.
    """

    def __init__(self, capacity: int) -> None:
        self._free = capacity
        self._frames: dict[Path, Image] = {}

    def frame(self, sequence: Sequence, index: int) -> Image:
        """Return a frame [H, W, 3], read-only if it is kept."""
        path = sequence.paths[index]
        kept = self._frames.get(path)
        if kept is not None:
            return kept
        image = Sequence.frame(sequence, index)
        if image.nbytes <= self._free:
            self._free -= image.nbytes
            image.flags.writeable = False
            self._frames[path] = image
        return image


@dataclass(frozen=True)
class RememberedSequence(Sequence):
    """A sequence whose frames are decoded once, as far as the memory goes."""

    memory: FrameMemory = field(default_factory=lambda: FrameMemory(0))

    @classmethod
    def of(cls, sequence: Sequence, memory: FrameMemory) -> Self:
        """Return ``sequence`` with its frames in ``memory``."""
        return cls(**{each.name: getattr(sequence, each.name) for each in fields(Sequence)}, memory=memory)

    def frame(self, index: int) -> Image:
        """See :meth:`Sequence.frame`."""
        return self.memory.frame(self, index)


def decoded_size(sequences: Iterable[Sequence]) -> int:
    """Return the bytes of all decoded frames, taking each sequence's frames to be as large as its first.

    Raises:
        UserError: a first frame cannot be read.
    """
    return sum(len(sequence) * sequence.frame(0).nbytes for sequence in sequences)
