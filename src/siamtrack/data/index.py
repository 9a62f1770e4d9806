"""The index of training data: pictures, the objects in them, and which objects are the same."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import UserError, nearest


@dataclass(frozen=True)
class Picture:
    """One still image or frame."""

    image: str
    """Name inside the shard."""
    shard: str
    """Tar file beside the index that holds the image and its masks."""
    source: str
    """Data set it comes from."""
    video: str | None
    """Sequence it belongs to; None for a still."""
    frame: int
    """Number in the sequence."""


@dataclass(frozen=True)
class Index:
    """Pictures and M objects. Objects with the same ``track`` >= 0 are one object in several frames."""

    root: Path
    pictures: list[Picture]
    size: NDArray[np.int64]
    """[N, 2] width and height of each picture."""
    picture: NDArray[np.int64]
    """[M] which picture an object is in."""
    box: NDArray[np.float32]
    """[M, 4] x, y, w, h in pixels of the picture, 0-based."""
    track: NDArray[np.int64]
    """[M] number of the track, -1 for an object of a still."""
    mask: list[str | None]
    """[M] name of the object's mask inside the shard."""
    rejected: list[str] = field(default_factory=list)
    """Why records were left out, one sentence each."""

    def __len__(self) -> int:
        return len(self.picture)

    def sources(self) -> list[str]:
        """Return the source of each object."""
        return [self.pictures[picture].source for picture in self.picture]

    def split(self, held: Sequence[str]) -> tuple["Index", "Index"]:
        """Return the index without, and with only, the sources and videos named in ``held``.

        Raises:
            UserError: a name is neither a source nor a video.
        """
        known = {picture.source for picture in self.pictures} | {p.video for p in self.pictures if p.video}
        for name in held:
            if name not in known:
                raise UserError(f"holdout: there is no source or video {name!r}{nearest(name, known)}")
        out = np.array([not {p.source, p.video}.isdisjoint(held) for p in self.pictures], bool)[self.picture]
        return self._take(np.flatnonzero(~out)), self._take(np.flatnonzero(out))

    def _take(self, objects: NDArray[np.intp]) -> "Index":
        used, picture = np.unique(self.picture[objects], return_inverse=True)
        pictures = [self.pictures[number] for number in used]
        masks = [self.mask[number] for number in objects]
        size = self.size[used]
        return Index(self.root, pictures, size, picture, self.box[objects], self.track[objects], masks, self.rejected)


def read_index(folder: Path) -> Index:
    """Read ``index.jsonl`` of a folder of training data.

    A line a picture: ``{"image", "shard", "source", "video", "frame", "size": [w, h], "objects": [..]}`` with objects
    ``{"box": [x, y, w, h], "track", "label", "mask"}``; ``image`` and ``mask`` are names in the tar file ``shard``.
    Boxes are cut to the picture. Unusable objects and lines are left out and listed in ``rejected``.

    Raises:
        UserError: there is no index, or nothing usable in it.
    """
    path = folder / "index.jsonl"
    if not path.is_file():
        raise UserError(f"there is no {path}; training data is a folder of index.jsonl and the tar files it names")
    pictures: list[Picture] = []
    sizes: list[tuple[int, int]] = []
    rows: list[tuple[int, list[float], int, str | None]] = []
    rejected: list[str] = []
    seen: set[tuple[str, str]] = set()
    tracks: dict[tuple[str, Any], int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
            width, height = record["size"]
            picture = Picture(
                record["image"],
                record["shard"],
                record["source"],
                record.get("video"),
                int(record.get("frame") or 0),
            )
            objects = [(_cut(o["box"], width, height), o.get("track"), o.get("mask")) for o in record["objects"]]
        except (ValueError, KeyError, TypeError) as error:
            rejected.append(f"{path.name} line {number}: {type(error).__name__} {error}")
            continue
        if (picture.shard, picture.image) in seen:
            rejected.append(f"{path.name} line {number}: {picture.image} is listed before")
            continue
        seen.add((picture.shard, picture.image))
        pictures.append(picture)
        sizes.append((int(width), int(height)))
        for box, name, mask in objects:
            if box is None:
                rejected.append(f"{path.name} line {number}: a box of {picture.image} is empty or not finite")
                continue
            track = -1
            if picture.video and name is not None:
                track = tracks.setdefault((picture.video, name), len(tracks))
            rows.append((len(pictures) - 1, box, track, mask))
    if not rows:
        raise UserError(f"{path} holds no usable object ({len(rejected)} records rejected)")
    owners, boxes, numbers, masks = zip(*rows, strict=True)
    return Index(
        folder,
        pictures,
        np.array(sizes),
        np.array(owners),
        np.array(boxes, np.float32),
        np.array(numbers),
        list(masks),
        rejected,
    )


def _cut(box: Collection[float], width: float, height: float) -> list[float] | None:
    """Return the part of ``box`` inside the picture, None if that is empty or not finite."""
    x, y, w, h = map(float, box)
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    usable = np.isfinite([x, y, w, h]).all() and right - left >= 1 and bottom - top >= 1
    return [left, top, right - left, bottom - top] if usable else None
