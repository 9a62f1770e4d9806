"""The files in which other tools keep results: a region, a number or a row of numbers a frame."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import UserError
from siamtrack.regions import Mask, Region, parse_region

Entry = Region | int
"""What a file says of a frame: a region, None for NaN, or one of VOT's codes."""
UNKNOWN, STARTED, FAILED = range(3)
"""VOT's codes: no answer, started with the truth, found to have failed."""


def read_entries(path: Path) -> list[Entry]:
    """Return the regions in a text file, or in a ``.bin`` file of the VOT toolkit.

    Numbers are separated by commas, tabs or spaces.

    Raises:
        UserError: a line is no region, or only some of its numbers are NaN.
    """
    if path.suffix == ".bin":
        return _read_binary(path)
    entries: list[Entry] = []
    for number, line in enumerate(_lines(path), 1):
        parts = line.replace(",", " ").split()
        where = f"{path} line {number}"
        if parts and parts[0].startswith("m"):
            entries.append(_parse(",".join(parts), where))
            continue
        try:
            values = [float(part) for part in parts]
        except ValueError:
            raise UserError(f"{where}: {line.strip()[:80]!r} is not numbers") from None
        if len(values) == 1 and values[0] in (UNKNOWN, STARTED, FAILED):
            entries.append(int(values[0]))
        elif values and not np.isfinite(values).any():
            entries.append(None)
        elif not np.isfinite(values).all():
            raise UserError(f"{where}: {line.strip()[:80]!r} is a number in part only; mend the file")
        elif len(values) == 4:
            entries.append(np.array(values))
        elif len(values) == 1:
            raise UserError(f"{where}: {line.strip()[:80]!r} is no code of VOT's (0, 1 or 2), and no region")
        else:
            entries.append(_parse(",".join(parts), where))
    return entries


def read_numbers(path: Path) -> NDArray[np.float64]:
    """Return rows of numbers, NaN for empty lines and missing columns. Shape: [T, C].

    Raises:
        UserError: a line is not numbers.
    """
    rows = []
    for number, line in enumerate(_lines(path), 1):
        try:
            rows.append([float(part) for part in line.replace(",", " ").split()])
        except ValueError:
            raise UserError(f"{path} line {number}: {line.strip()[:80]!r} is not numbers") from None
    table = np.full((len(rows), max(map(len, rows), default=1) or 1), np.nan)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table


def _lines(path: Path) -> list[str]:
    """Return the lines of a file, without what ends it."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text.removesuffix("\n").split("\n") if text.strip() else []


def _parse(text: str, where: str) -> Region:
    try:
        return parse_region(text)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


@dataclass
class _Reader:
    data: bytes
    offset: int = 0

    def __call__(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(form, self.data, self.offset)
        self.offset += struct.calcsize(form)
        return values


def _read_binary(path: Path) -> list[Entry]:
    """Return what the VOT toolkit keeps in binary (``vot/region/io.py``): little-endian int16 version 1, uint32 count,
    then for each region a byte for its kind (code, rectangle, polygon, mask) and its numbers."""
    read = _Reader(path.read_bytes())
    try:
        version, count = read("<hI")
        if version != 1:
            raise UserError(f"{path} is of version {version}, expected 1")
        return [_KINDS[read("<B")[0]](read) for _ in range(count)]
    except (struct.error, KeyError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is no trajectory of the VOT toolkit, or damaged") from None


def _code(read: _Reader) -> Entry:
    (code,) = read("<I")
    if code not in (UNKNOWN, STARTED, FAILED):
        raise ValueError
    return int(code)


def _rectangle(read: _Reader) -> Entry:
    return np.array(read("<4f"), float)


def _polygon(read: _Reader) -> Entry:
    (corners,) = read("<H")
    return np.array(read(f"<{2 * corners}f"), float).reshape(-1, 2)


def _mask(read: _Reader) -> Entry:
    x, y, width, height, count = read("<hhHHH")
    runs = read(f"<{count}H")
    inside = np.repeat(np.arange(count) % 2 == 1, runs)
    return Mask(x, y, np.pad(inside, (0, width * height - len(inside))).reshape(height, width))


_KINDS: dict[int, Callable[[_Reader], Entry]] = {0: _code, 1: _rectangle, 2: _polygon, 3: _mask}
