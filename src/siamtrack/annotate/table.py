"""Boxes as JSON lines or CSV: frame, time in seconds, x, y, w, h, score."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from siamtrack.errors import UserError
from siamtrack.files import partial, writable

COLUMNS = ("frame", "time", "x", "y", "w", "h", "score")


class TableWriter:
    """Writes a row a frame; the file appears under its name when the writer is closed.

    Args:
        path: ends in ``.jsonl``, ``.json`` (both JSON lines) or ``.csv``.

    Raises:
        UserError: another suffix, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in (".jsonl", ".json", ".csv"):
            raise UserError(f"boxes cannot be written to {path}: the name must end in .jsonl or .csv")
        self.path = writable(path)
        self._file: TextIO = partial(path).open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file, lineterminator="\n") if path.suffix == ".csv" else None
        if self._csv:
            self._csv.writerow(COLUMNS)

    def write(self, frame: int, time: float, box: Sequence[float], score: float) -> None:
        """Add a row. Box: x, y, w, h in pixels of the frame, 0-based; time in seconds; score 0..1."""
        row = (frame, round(time, 6), *(round(float(value), 3) for value in box), round(score, 5))
        if self._csv:
            self._csv.writerow(row)
        else:
            self._file.write(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n")

    def close(self) -> None:
        """Complete the file."""
        self._file.close()
        os.replace(partial(self.path), self.path)

    def discard(self) -> None:
        """Leave no file."""
        self._file.close()
        partial(self.path).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
