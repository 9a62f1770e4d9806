"""Any folder of sequences: a subfolder each with ``img/`` and ``groundtruth.txt``."""

from functools import partial
from pathlib import Path

import numpy as np

from siamtrack.boxes import Boxes, enclosing
from siamtrack.data import layout
from siamtrack.errors import UserError
from siamtrack.evaluate.datasets.vos import ANY
from siamtrack.evaluate.sequences import Readable, Sequence


def read_folder(root: Path) -> Readable:
    """Return the sequences below ``root`` (or the one that ``root`` is), by name.

    ``groundtruth.txt`` has a line a frame: 4 numbers x, y, w, h or the 8 of a polygon, separated by commas, tabs or
    spaces, 0-based, NaN where the object is absent. Where there is a folder ``mask``, it holds a label image of each
    frame: a pixel that is not 0 is the object's.

    Raises:
        UserError: there are none, or one is not complete.
    """
    if (root / "groundtruth.txt").is_file():
        folders = [root]
    else:
        folders = sorted(path for path in root.iterdir() if (path / "groundtruth.txt").is_file())
    if not folders:
        raise UserError(f"{root} holds no sequence: looked for */groundtruth.txt beside */img/")
    return {folder.name: partial(_read, folder) for folder in folders}


def _read(folder: Path) -> Sequence:
    what = f"sequence {folder.name}"
    truth = folder / "groundtruth.txt"
    paths = layout.images(folder / "img", what)
    boxes = read_boxes(truth)
    layout.same_length(what, len(paths), len(boxes), truth)
    masks = layout.images(folder / "mask", what) if (folder / "mask").is_dir() else None
    if masks is not None and len(masks) != len(paths):
        raise UserError(f"{what} has {len(paths)} images but {len(masks)} label images in {folder / 'mask'}")
    return Sequence(
        folder.name,
        tuple(paths),
        layout.started(what, boxes, truth),
        masks=None if masks is None else tuple(masks),
        object_number=1 if masks is None else ANY,
    )


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
