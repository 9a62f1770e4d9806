"""Boxes as JSON lines or CSV: frame, time in seconds, x, y, w, h, score."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from siamtrack.errors import UserError
from siamtrack.files import partial, writable

COLUMNS = ("frame", "time", "x", "y", "w", "h", "score")


class TableWriter:
    """Writes a row a frame. There is no file before the first row; it has its name once the writer is closed.

    Args:
        path: ends in ``.jsonl``, ``.json`` (both JSON lines) or ``.csv``.

    Raises:
        UserError: another suffix, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in (".jsonl", ".json", ".csv"):
            raise UserError(f"boxes cannot be written to {path}: the name must end in .jsonl or .csv")
        self.path = writable(path)
        self._file: TextIO | None = None

    def write(self, frame: int, time: float, box: Sequence[float], score: float) -> None:
        """Add a row. Box: x, y, w, h in pixels of the frame, 0-based; time in seconds; score 0..1."""
        row = (frame, round(time, 6), *(round(float(value), 3) for value in box), round(score, 5))
        as_csv = self.path.suffix.lower() == ".csv"
        if self._file is None:
            self._file = partial(self.path).open("w", encoding="utf-8", newline="")
            if as_csv:
                csv.writer(self._file, lineterminator="\n").writerow(COLUMNS)
        if as_csv:
            csv.writer(self._file, lineterminator="\n").writerow(row)
        else:
            self._file.write(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n")

    def close(self) -> None:
        """Complete the file."""
        if self._file is not None:
            self._file.close()
            os.replace(partial(self.path), self.path)
            self._file = None
