"""Boxes as JSON lines, CSV, or the text files of MOT Challenge."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from siamtrack.errors import UserError
from siamtrack.files import partial, writable

COLUMNS = ("frame", "time", "x", "y", "w", "h", "score")
SUFFIXES = (".jsonl", ".csv", ".txt")


class TableRows:
    """Rows of boxes as text.

    ``.jsonl`` and ``.csv`` have the columns frame, time in seconds, x, y, w, h, score, and further ones where asked;
    frames and pixels count from 0. ``.txt`` is MOT Challenge's form: frame, id, x, y, w, h, score, -1, -1, -1, in which
    frames, ids and pixels count from 1 (https://motchallenge.net/instructions).

    Args:
        suffix: one of these three.
        ids: add a column ``id`` before x, the target's.
        lost: add a column ``lost``, true or false (1 or 0 in CSV).
        polygon: add a column ``polygon``: x1, y1 .. x4, y4 (in CSV in one field, separated by spaces).
    """

    def __init__(self, suffix: str, ids: bool = False, lost: bool = False, polygon: bool = False) -> None:
        self._suffix = suffix.lower()
        further = [name for name, wanted in (("lost", lost), ("polygon", polygon)) if wanted]
        self._columns = (*COLUMNS[:2], *(["id"] if ids else []), *COLUMNS[2:], *further)
        # One format for all rows: many targets a frame make many of them.
        as_json = "{" + ", ".join(f'"{name}": %({name})s' for name in self._columns) + "}\n"
        as_csv = ",".join(f"%({name})s" for name in self._columns) + "\n"
        self._form = as_csv if self._suffix == ".csv" else as_json

    def head(self) -> str:
        """Return what comes before the first row."""
        return ",".join(self._columns) + "\n" if self._suffix == ".csv" else ""

    def row(
        self,
        frame: int,
        time: float,
        box: Sequence[float],
        score: float,
        lost: bool = False,
        polygon: Sequence[float] | None = None,
        id: int = 1,
    ) -> str:
        """Return a row as a line of text. Box: x, y, w, h in pixels of the frame, 0-based; time in seconds; score 0..1.

        Without a polygon (the first frame's) the corners of the box stand in its column.
        """
        x, y, w, h = [round(float(value), 3) for value in box]
        score = round(score, 5)
        if self._suffix == ".txt":
            return f"{frame + 1},{id},{round(x + 1, 3)},{round(y + 1, 3)},{w},{h},{score},-1,-1,-1\n"
        row: dict[str, Any] = {"frame": frame, "time": round(time, 6), "id": id, "x": x, "y": y, "w": w, "h": h}
        as_csv = self._suffix == ".csv"
        row["score"], row["lost"] = score, int(lost) if as_csv else str(bool(lost)).lower()
        if "polygon" in self._columns:
            left, top, width, height = box
            right, bottom = left + width, top + height
            corners = polygon or (left, top, right, top, right, bottom, left, bottom)
            numbers = [round(float(value), 3) for value in corners]
            row["polygon"] = " ".join(map(str, numbers)) if as_csv else numbers
        return self._form % row


def check_suffix(path: Path) -> Path:
    """Return ``path`` if boxes can be written to a file of that name.

    Raises:
        UserError: another suffix.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"boxes cannot be written to {path}: the name must end in .jsonl, .csv or .txt (MOT Challenge)")
    return path


class TableWriter:
    """Writes a row a target and frame. There is no file before the first row; it has its name once it is closed.

    Args:
        path: ends in ``.jsonl``, ``.csv`` or ``.txt``.
        ids, lost, polygon: further columns; see :class:`TableRows`.

    Raises:
        UserError: another suffix, or the file cannot be written.
    """

    def __init__(self, path: Path, ids: bool = False, lost: bool = False, polygon: bool = False) -> None:
        self.path = writable(check_suffix(path))
        self._rows = TableRows(path.suffix, ids, lost, polygon)
        self._file: TextIO | None = None

    def write(
        self,
        frame: int,
        time: float,
        box: Sequence[float],
        score: float,
        lost: bool = False,
        polygon: Sequence[float] | None = None,
        id: int = 1,
    ) -> None:
        """Add a row; see :meth:`TableRows.row`.

        Raises:
            OSError: the disk is full, or the file cannot be written any more.
        """
        if self._file is None:
            self._file = partial(self.path).open("w", encoding="utf-8", newline="")
            self._file.write(self._rows.head())
        self._file.write(self._rows.row(frame, time, box, score, lost, polygon, id))

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
