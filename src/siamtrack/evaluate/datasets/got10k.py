"""GOT-10k (Huang et al., PAMI 2019): ``val/list.txt``, ``val/NAME/00000001.jpg``, ``val/NAME/groundtruth.txt``."""

import ast
import configparser
from functools import partial
from pathlib import Path

from siamtrack.data import layout
from siamtrack.errors import UserError
from siamtrack.evaluate.sequences import Readable, Sequence


def read_got10k(root: Path, split: str) -> Readable:
    """Return the sequences of a split, ``val`` or ``test``; ``root`` holds its folder, or is it."""
    folder = root if (root / "list.txt").is_file() else root / split
    read = _read_test if split == "test" else _read
    names = layout.lines(folder / "list.txt", f"GOT-10k's {split} split")
    return {name: partial(read, folder / name) for name in names}


def _read(folder: Path) -> Sequence:
    """Read an annotated sequence. Frames in which no part of the object can be seen (cover 0) do not count."""
    what = f"sequence {folder.name}"
    truth = folder / "groundtruth.txt"
    boxes = layout.table(truth, what, 4)
    paths = layout.images(folder, what)
    layout.same_length(what, len(paths), len(boxes), truth)
    cover = layout.numbers(folder / "cover.label", what, len(boxes))
    category, size = _facts(folder / "meta_info.ini", what)
    return Sequence(
        folder.name,
        tuple(paths),
        layout.started(what, boxes, truth),
        counts=layout.present(boxes) & (cover > 0),
        labels={
            "absence": layout.flags(folder / "absence.label", what, len(boxes)),
            **{f"cover {level}": cover == level for level in range(9)},
        },
        group=category,
        size=size,
    )


def _facts(path: Path, what: str) -> tuple[str, tuple[int, int]]:
    """Return the object's class, and width and height of the images, from ``meta_info.ini``."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(layout.file(path, what).read_text(encoding="utf-8"))
        facts = parser["METAINFO"]
        width, height = ast.literal_eval(facts["resolution"])
        return facts["object_class"], (int(width), int(height))
    except (configparser.Error, KeyError, ValueError, SyntaxError, TypeError) as error:
        raise UserError(f"{what}: {path} has no object_class and resolution ({error})") from None


def _read_test(folder: Path) -> Sequence:
    """Read a sequence of which only the first box is published."""
    what = f"sequence {folder.name}"
    truth = folder / "groundtruth.txt"
    boxes = layout.started(what, layout.table(truth, what, 4), truth)
    paths = layout.images(folder, what)
    return Sequence(folder.name, tuple(paths), layout.first_only(boxes[0], len(paths)))
