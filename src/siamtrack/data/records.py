"""What the readers of sources yield: a picture and the objects in it, or why one was left out."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Rejection:
    """Why something of a source was left out."""

    source: str
    """Data set it comes from."""
    where: str
    """Which file, line or object; of several with the same reason, the first."""
    reason: str
    """The same words for the same reason, so that they can be counted."""
    count: int = 1
    """How many."""

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class Picture:
    """One still image or frame, and where it is."""

    image: str
    """A file; inside a tar file its name; of a video file the number of the frame, from 0."""
    shard: str
    """The tar or video file that holds it; empty if the picture is a file. Relative to the index's root, like files."""
    source: str
    """Data set it comes from."""
    video: str | None
    """Sequence it belongs to; None for a still."""
    frame: int
    """Number in the sequence."""
    size: tuple[int, int]
    """Width and height in pixels."""


@dataclass(frozen=True)
class Object:
    """An object in a picture."""

    box: tuple[float, float, float, float] | None
    """x, y, w, h in pixels of the picture, 0-based; None where the object of a track is known to be absent."""
    track: Hashable = None
    """The object in its video; None in a still."""
    label: str = ""
    """Its class, empty if the source does not say."""
    visible: float = 1.0
    """Share of it that can be seen: 1 where the source does not say, 0.5 where it says just "occluded"."""
    mask: str = ""
    """Where its mask is (:mod:`siamtrack.data.pictures` has the forms); empty for none."""


@dataclass(frozen=True)
class Record:
    """A picture and the objects in it, as a reader found them."""

    image: Path | str
    """A file; with ``shard`` the name in a tar file, or the number of a frame of a video file."""
    objects: list[Object] = field(default_factory=list)
    video: str | None = None
    """Name of the sequence, unique in its source; None for a still."""
    frame: int = 0
    size: tuple[int, int] | None = None
    """Width and height as the source gives them; None if it does not."""
    shard: Path | None = None
    """Tar or video file."""
    shares: bool = False
    """Whether boxes and polygons are shares of the picture's width and height instead of pixels."""
    source: str = ""
    """Only if a folder holds several sources."""
