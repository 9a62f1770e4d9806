"""Any folder of sequences: a subfolder each with ``img/`` and ``groundtruth.txt``."""

from pathlib import Path

import numpy as np

from siamtrack.boxes import Boxes, enclosing
from siamtrack.errors import UserError
from siamtrack.evaluate.sequences import Sequence
from siamtrack.video.image import image_files


def read_folder(root: Path) -> list[Sequence]:
    """Return the sequences below ``root`` (or the one that ``root`` is), by name.

    ``groundtruth.txt`` has a line a frame: 4 numbers x, y, w, h or the 8 of a polygon, separated by commas, tabs or
    spaces, NaN where the object is absent.

    Raises:
        UserError: there are none, or one is not complete.
    """
    if (root / "groundtruth.txt").is_file():
        folders = [root]
    else:
        folders = sorted(path for path in root.iterdir() if (path / "groundtruth.txt").is_file())
    if not folders:
        raise UserError(f"{root} holds no sequence: looked for */groundtruth.txt beside */img/")
    return [_read(path) for path in folders]


def _read(folder: Path) -> Sequence:
    images = folder / "img"
    if not images.is_dir():
        raise UserError(f"sequence {folder.name} has no folder {images}")
    paths = sorted(image_files(images))
    boxes = read_boxes(folder / "groundtruth.txt")
    if len(paths) != len(boxes):
        raise UserError(f"sequence {folder.name} has {len(paths)} images but {len(boxes)} lines of ground truth")
    if not np.isfinite(boxes[0]).all() or (boxes[0, 2:] <= 0).any():
        raise UserError(f"sequence {folder.name} has no box in its first frame")
    return Sequence(folder.name, tuple(paths), boxes)


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
