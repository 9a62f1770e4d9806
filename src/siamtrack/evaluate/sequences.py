"""Sequences with ground truth: folders of ``img/`` and ``groundtruth.txt``."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siamtrack.boxes import Boxes, enclosing
from siamtrack.errors import UserError
from siamtrack.video.image import Image, image_files, read_image


@dataclass(frozen=True)
class Sequence:
    """T frames and the object's box in each."""

    name: str
    paths: tuple[Path, ...]
    """T image files."""
    boxes: Boxes
    """[T, 4] x, y, w, h in pixels, 0-based; NaN where the object is absent."""

    def __len__(self) -> int:
        return len(self.paths)

    def frame(self, index: int) -> Image:
        """Return a frame as [H, W, 3] uint8 BGR.

        Raises:
            UserError: the file is no image.
        """
        image = read_image(self.paths[index])
        if image is None:
            raise UserError(f"{self.paths[index]} is no image that can be read")
        return image


def read_sequences(folder: Path, names: tuple[str, ...] = (), frames: int | None = None) -> list[Sequence]:
    """Return the sequences below ``folder`` (or the one that ``folder`` is), by name.

    Args:
        folder: has a subfolder for each sequence, with ``img/`` and ``groundtruth.txt``: a line a frame, 4 numbers
            x, y, w, h or the 8 of a polygon, separated by commas, tabs or spaces.
        names: which to read; empty for all.
        frames: at most so many frames of each.

    Raises:
        UserError: there are none, one that is named is missing, or one is not complete.
    """
    if (folder / "groundtruth.txt").is_file():
        folders = [folder]
    elif folder.is_dir():
        folders = sorted(path for path in folder.iterdir() if (path / "groundtruth.txt").is_file())
    else:
        raise UserError(f"there is no folder {folder}")
    if not folders:
        raise UserError(f"{folder} holds no sequence: looked for */groundtruth.txt beside */img/")
    missing = set(names) - {path.name for path in folders}
    if missing:
        raise UserError(f"{folder} has no sequence {min(missing)!r}")
    return [_read(path, frames) for path in folders if not names or path.name in names]


def _read(folder: Path, frames: int | None) -> Sequence:
    images = folder / "img"
    if not images.is_dir():
        raise UserError(f"sequence {folder.name} has no folder {images}")
    paths = sorted(image_files(images))
    boxes = read_boxes(folder / "groundtruth.txt")
    if len(paths) != len(boxes):
        raise UserError(f"sequence {folder.name} has {len(paths)} images but {len(boxes)} lines of ground truth")
    if not np.isfinite(boxes[0]).all() or (boxes[0, 2:] <= 0).any():
        raise UserError(f"sequence {folder.name} has no box in its first frame")
    return Sequence(folder.name, tuple(paths[:frames]), boxes[:frames])


def read_boxes(path: Path) -> Boxes:
    """Return the boxes in a text file, polygons as their enclosing boxes. Shape: [T, 4].

    Raises:
        UserError: a line is not 4 numbers, or an even number of at least 6.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        parts = line.replace(",", " ").split()
        if not parts:
            continue
        try:
            values = [float(part) for part in parts]
        except ValueError:
            raise UserError(f"{path} line {number}: {line.strip()!r} is not numbers") from None
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            raise UserError(f"{path} line {number} has {len(values)} numbers, expected 4 (x,y,w,h) or 8 (a polygon)")
        rows.append(enclosing(values))
    if not rows:
        raise UserError(f"{path} is empty")
    return np.stack(rows)
