"""GOT-10k (Huang et al., PAMI 2019): ``train/list.txt``, ``train/NAME/`` with ``00000001.jpg``, ``groundtruth.txt``,
``absence.label``, ``cover.label`` and ``meta_info.ini``.
"""

import configparser
from collections.abc import Iterator
from pathlib import Path

from siamtrack.data import layout
from siamtrack.data.records import Record, Rejection
from siamtrack.data.sources.tracks import one_object, sequences
from siamtrack.errors import UserError


def read_got10k(root: Path) -> Iterator[Record | Rejection]:
    """Yield the frames of the training split; ``root`` holds its folder, or is it.

    Where ``absence.label`` says so, and at cover 0, the object is absent; cover 1 to 8 is the visible share in eighths.

    Raises:
        UserError: there is no list of sequences.
    """
    folder = root / "train" if (root / "train" / "list.txt").is_file() else root
    if not (folder / "list.txt").is_file():
        raise UserError(f"GOT-10k: looked for train/list.txt in {root} and found none")
    names = layout.lines(folder / "list.txt", "GOT-10k")
    yield from sequences("got10k", [folder / name for name in names], _read)


def _read(folder: Path) -> Iterator[Record]:
    what = f"sequence {folder.name}"
    truth = folder / "groundtruth.txt"
    boxes = layout.table(truth, what, 4)
    paths = layout.images(folder, what)
    layout.same_length(what, len(paths), len(boxes), truth)
    cover = layout.numbers(folder / "cover.label", what, len(boxes)) / 8
    absent = layout.flags(folder / "absence.label", what, len(boxes)) | (cover <= 0)
    return one_object(folder.name, paths, boxes, absent, _class(folder / "meta_info.ini"), cover)


def _class(path: Path) -> str:
    """Return the object's class, empty if the file does not say."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path, encoding="utf-8")
        return parser.get("METAINFO", "object_class", fallback="")
    except configparser.Error:
        return ""
