"""VOT short-term 2013 to 2022 and long-term 2018 and 2019 (Kristan et al.): ``list.txt``, ``NAME/groundtruth.txt``, and
images in ``NAME/color/`` or, in older archives, in ``NAME/``.
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siamtrack.data import layout
from siamtrack.errors import UserError
from siamtrack.evaluate.sequences import Readable, Sequence
from siamtrack.regions import Mask, Region, enclosing_box, parse_region
from siamtrack.video.image import read_image

MULTI_START = 2020
"""Since this year the truth is masks and trackers start at anchors."""

LONG_TERM = {"votlt2018": 35, "votlt2019": 50}
"""How many sequences there are; the 35 are among the 50."""


def read_vot(root: Path, year: int) -> Readable:
    """Return the short-term sequences of a year."""
    names, folder = _names(root, f"VOT{year}")
    return {name: partial(_read_year, folder / name, year) for name in names}


def read_votlt(root: Path, name: str) -> Readable:
    """Return the long-term sequences of a year, ``votlt2018`` or ``votlt2019``.

    Raises:
        UserError: there are as many as in the other year.
    """
    names, folder = _names(root, name)
    for other, count in LONG_TERM.items():
        if len(names) == count != LONG_TERM[name]:
            raise UserError(f"{folder / 'list.txt'} names {count} sequences: this is {other}, not {name}")
    return {each: partial(_read, folder / each) for each in names}


def _names(root: Path, what: str) -> tuple[list[str], Path]:
    """Return the names in ``list.txt``, and the folder that it is in: ``root``, or ``sequences`` of a VOT workspace."""
    inner = root / "sequences"
    folder = inner if not (root / "list.txt").is_file() and (inner / "list.txt").is_file() else root
    return layout.lines(folder / "list.txt", what), folder


def _read_year(folder: Path, year: int) -> Sequence:
    sequence = _read(folder)
    masks = any(isinstance(region, Mask) for region in sequence.regions or ())
    if year >= MULTI_START and not sequence.anchors:
        anchors = folder / "anchor.value"
        raise UserError(f"sequence {folder.name} has no frames to start in, in {anchors}: this is not VOT{year}")
    if year < MULTI_START and masks:
        raise UserError(f"sequence {folder.name} has masks, which VOT has since {MULTI_START}: this is not VOT{year}")
    return sequence


def _read(folder: Path) -> Sequence:
    what = f"sequence {folder.name}"
    truth = layout.folder(folder, what) / "groundtruth.txt"
    regions = tuple(_region(line, truth) for line in layout.lines(truth, what))
    facts = dict(line.split("=", 1) for line in _optional(folder / "sequence") if "=" in line)
    paths = layout.images(_images(folder, facts), what)
    count = len(paths)
    layout.same_length(what, count, len(regions), truth)
    boxes = np.stack([enclosing_box(region) for region in regions])
    labels = {path.stem: _label(path, count) for path in sorted(folder.iterdir()) if path.suffix in (".tag", ".label")}
    anchors = np.zeros(count)
    if (folder / "anchor.value").is_file():
        anchors = layout.numbers(folder / "anchor.value", what, count)
    only_boxes = all(region is None or (not isinstance(region, Mask) and region.ndim == 1) for region in regions)
    return Sequence(
        folder.name,
        tuple(paths),
        layout.started(what, boxes, truth),
        regions=None if only_boxes else regions,
        labels=labels,
        anchors=tuple(int(i) if anchors[i] > 0 else ~int(i) for i in np.flatnonzero(anchors)),
        size=_size(facts, paths[0]),
    )


def _region(line: str, path: Path) -> Region:
    """Return the region of a line; a single number, as 0 for unknown, and NaN are none."""
    if not line.startswith("m"):
        words = line.replace(",", " ").split()
        if len(words) == 1 or "nan" in line.lower():
            return None
    try:
        return parse_region(line)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _size(facts: dict[str, str], first: Path) -> tuple[int, int] | None:
    """Return the width and height by the file ``sequence``, else of the first image; None if that is no image."""
    width, height = facts.get("width", ""), facts.get("height", "")
    if width.isdigit() and height.isdigit():
        return int(width), int(height)
    image = read_image(first)
    return None if image is None else (image.shape[1], image.shape[0])


def _images(folder: Path, facts: dict[str, str]) -> Path:
    """Return where the colour images are: a pattern (``color/%08d.jpg``) or a folder of the file ``sequence``."""
    channel = facts.get("channels.color", "").strip().replace("\\", "/")
    if channel:
        return folder / (channel.rpartition("/")[0] if "%" in channel else channel)
    return folder / "color" if (folder / "color").is_dir() else folder


def _optional(path: Path) -> list[str]:
    return layout.lines(path, path.name) if path.is_file() else []


def _label(path: Path, count: int) -> NDArray[np.bool_]:
    """Return in which frames a label holds. Files that end early are 0 from there on, as in VOT's toolkits."""
    values = np.zeros(count, bool)
    found = [line == "1" for line in _optional(path)][:count]
    values[: len(found)] = found
    return values
