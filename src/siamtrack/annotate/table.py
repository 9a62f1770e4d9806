"""Boxes as JSON lines or CSV: frame, time in seconds, x, y, w, h, score."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from siamtrack.errors import UserError
from siamtrack.files import partial, writable

COLUMNS = ("frame", "time", "x", "y", "w", "h", "score")


class TableWriter:
    """Writes a row a frame. There is no file before the first row; it has its name once the writer is closed.

    Args:
        path: ends in ``.jsonl`` or ``.csv``.
        lost: add a column ``lost``, true or false (1 or 0 in CSV).
        polygon: add a column ``polygon``: x1, y1 .. x4, y4 (in CSV in one field, separated by spaces).

    Raises:
        UserError: another suffix, or the file cannot be written.
    """

    def __init__(self, path: Path, lost: bool = False, polygon: bool = False) -> None:
        if path.suffix.lower() not in (".jsonl", ".csv"):
            raise UserError(f"boxes cannot be written to {path}: the name must end in .jsonl or .csv")
        self.path = writable(path)
        self._columns = (*COLUMNS, *(["lost"] if lost else []), *(["polygon"] if polygon else []))
        self._file: TextIO | None = None

    def write(
        self,
        frame: int,
        time: float,
        box: Sequence[float],
        score: float,
        lost: bool = False,
        polygon: Sequence[float] | None = None,
    ) -> None:
        """Add a row. Box: x, y, w, h in pixels of the frame, 0-based; time in seconds; score 0..1.

        Without a polygon (the first frame's) the corners of the box stand in its column.

        Raises:
            OSError: the disk is full, or the file cannot be written any more.
        """
        as_csv = self.path.suffix.lower() == ".csv"
        row: list[Any] = [frame, round(time, 6), *(round(float(value), 3) for value in box), round(score, 5)]
        if "lost" in self._columns:
            row.append(int(lost) if as_csv else lost)
        if "polygon" in self._columns:
            x, y, w, h = box
            corners = [round(float(value), 3) for value in polygon or (x, y, x + w, y, x + w, y + h, x, y + h)]
            row.append(" ".join(map(str, corners)) if as_csv else corners)
        if self._file is None:
            self._file = partial(self.path).open("w", encoding="utf-8", newline="")
            if as_csv:
                csv.writer(self._file, lineterminator="\n").writerow(self._columns)
        if as_csv:
            csv.writer(self._file, lineterminator="\n").writerow(row)
        else:
            self._file.write(json.dumps(dict(zip(self._columns, row, strict=True))) + "\n")

    def close(self) -> None:
        """Complete the file; one that could not be written to its end is removed.

        Raises:
            OSError: the last rows could not be written.
        """
        if self._file is None:
            return
        try:
            self._file.close()
            os.replace(partial(self.path), self.path)
        finally:
            self._file = None
            partial(self.path).unlink(missing_ok=True)
