"""What readers share: files of numbers and labels, numbered images, and sentences for what is missing."""

import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes
from siamtrack.errors import UserError
from siamtrack.video.image import IMAGE_SUFFIXES


def file(path: Path, what: str) -> Path:
    """Return ``path`` if it is a file.

    Raises:
        UserError: it is none; ``what`` names whose file it is, such as ``sequence David``.
    """
    if not path.is_file():
        raise UserError(f"{what} has no file {path}")
    return path


def folder(path: Path, what: str) -> Path:
    """Return ``path`` if it is a folder.

    Raises:
        UserError: it is none.
    """
    if not path.is_dir():
        raise UserError(f"{what} has no folder {path}")
    return path


def lines(path: Path, what: str) -> list[str]:
    """Return the lines of a text file that are not empty, without surrounding spaces.

    Raises:
        UserError: there is no such file.
    """
    text = file(path, what).read_text(encoding="utf-8-sig", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def table(path: Path, what: str, columns: int) -> NDArray[np.float64]:
    """Return the numbers of a text file, [T, columns], separated by commas, tabs or spaces.

    Raises:
        UserError: there is no such file, it is empty, or a line is not ``columns`` numbers.
    """
    rows = [line.replace(",", " ").split() for line in lines(path, what)]
    if not rows:
        raise UserError(f"{what}: {path} is empty")
    for number, row in enumerate(rows, 1):
        if len(row) != columns:
            raise UserError(f"{what}: line {number} of {path} has {len(row)} values, expected {columns}")
    return _floats(rows, path, what)


def numbers(path: Path, what: str, count: int, things: str = "frames") -> NDArray[np.float64]:
    """Return the numbers of a text file, one a frame, separated by commas, spaces or lines. Shape: [count].

    Raises:
        UserError: there is no such file, or it has not ``count`` numbers.
    """
    words = " ".join(lines(path, what)).replace(",", " ").split()
    if len(words) != count:
        raise UserError(f"{what}: {path} has {len(words)} values but there are {count} {things}")
    return _floats(words, path, what)


def _floats(words: list[str] | list[list[str]], path: Path, what: str) -> NDArray[np.float64]:
    try:
        return np.array(words, float)
    except ValueError as error:
        raise UserError(f"{what}: {path} is not numbers ({error})") from None


def flags(path: Path, what: str, count: int) -> NDArray[np.bool_]:
    """Return the 0s and 1s of a text file, one a frame. Shape: [count].

    Raises:
        UserError: there is no such file, or it has not ``count`` numbers.
    """
    values: NDArray[np.bool_] = np.greater(numbers(path, what, count), 0)
    return values


def attributes(path: Path, what: str, names: tuple[str, ...]) -> frozenset[str]:
    """Return those of ``names`` for which a text file has a 1.

    Raises:
        UserError: it has not a number for each.
    """
    values = numbers(path, what, len(names), "attributes")
    return frozenset(name for name, value in zip(names, values, strict=True) if value > 0)


def present(boxes: Boxes) -> NDArray[np.bool_]:
    """Return in which frames there is a box: finite and not empty. Shapes: [T, 4]; result [T]."""
    found: NDArray[np.bool_] = np.all(np.isfinite(boxes), axis=1) & np.all(boxes[:, 2:] > 0, axis=1)
    return found


_LAST_NUMBER = re.compile(r"(\d+)\D*$")


def number(path: Path) -> int:
    """Return the last number in a file's name without its suffix, -1 if it has none."""
    return _number(path.stem)


def _number(stem: str) -> int:
    found = _LAST_NUMBER.search(stem)
    return int(found[1]) if found else -1


def images(path: Path, what: str) -> list[Path]:
    """Return the image files of a folder by the last number in their names (9 before 10), else by name.

    Raises:
        UserError: there is no such folder, or no image in it.
    """
    parts = [os.path.splitext(name) for name in os.listdir(folder(path, what))]
    found = [(_number(stem), stem + end) for stem, end in parts if end.lower() in IMAGE_SUFFIXES and stem[0] != "."]
    if not found:
        raise UserError(f"{what} has no images in {path}")
    return [path / name for _, name in sorted(found)]


def same_length(what: str, images: int, truth: int, path: Path) -> None:
    """Check that there is a line of ground truth for each image.

    Raises:
        UserError: the numbers differ.
    """
    if images != truth:
        raise UserError(f"{what} has {images} images but {truth} lines of ground truth in {path}")


def started(what: str, boxes: Boxes, path: Path) -> Boxes:
    """Return ``boxes`` [T, 4] if the first, with which trackers start, is finite and not empty.

    Raises:
        UserError: it is not.
    """
    if not present(boxes[:1])[0]:
        raise UserError(f"{what} has no box in its first frame, line 1 of {path}")
    return boxes


def first_only(box: Boxes, count: int) -> Boxes:
    """Return [count, 4] boxes of which only the first, ``box`` [4], is known; the others are NaN."""
    boxes = np.full((count, 4), np.nan)
    boxes[0] = box
    return boxes


def zero_based(boxes: Boxes) -> Boxes:
    """Return boxes [T, 4] whose corners count pixels from 1, as MATLAB does, counted from 0."""
    shifted: Boxes = np.subtract(boxes, [1, 1, 0, 0])
    return shifted
