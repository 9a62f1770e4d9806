"""Lists that people write: targets of a video, and videos with their targets."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import model_validator

from siamtrack.boxes import parse_box
from siamtrack.config import Config, validate
from siamtrack.errors import UserError
from siamtrack.multi import Target
from siamtrack.video.frame import Moment, parse_moment, shown


class TargetRow(Config):
    """A row of a list of targets."""

    box: tuple[float, float, float, float]
    """x, y, w, h in pixels; may also be given as four columns x, y, w, h."""
    start: Moment | None = None
    """Frame (120) or time (4.5s, 1:02) of the box; the first that is read if not given."""
    end: Moment | None = None
    """Frame or time before which to stop following it."""
    id: int | None = None
    """What it is called in the results; its place in the list, from 1, if not given."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, row: Any) -> Any:
        values = dict(row)
        if "box" not in values and set("xywh") <= set(values):
            values["box"] = [values.pop(name) for name in "xywh"]
        if "box" not in values:
            raise ValueError("there is no box; give x, y, w and h, or box as x,y,w,h")
        if isinstance(values.get("box"), str):
            values["box"] = parse_box(values["box"])
        for name in ("start", "end"):
            if isinstance(values.get(name), str):
                values[name] = parse_moment(values[name])
        return values

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None and value < 0:
                raise ValueError(f"{name} {value:g} is below 0")
        alike = type(self.start) is type(self.end)  # a frame and a time can be compared in a video only
        if alike and self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"end {shown(self.end)} is not after start {shown(self.start)}")
        return self

    def target(self) -> Target:
        """Return it as what the tracker takes."""
        return Target(self.box, self.start, self.end, self.id)


class VideoRow(TargetRow):
    """A row of a list of videos: one target in one of them."""

    video: str
    """A video file or URL, or a folder or glob of images; relative to the list's folder."""
    out: Path | None = None
    """File for the boxes, relative to the folder for results; named after the video if not given."""


Row = TypeVar("Row", bound=TargetRow)


def read_targets(path: Path) -> list[Target]:
    """Return the targets in a ``.csv``, ``.json``, ``.jsonl`` or ``.yaml`` file; see :class:`TargetRow`.

    Raises:
        UserError: the file cannot be read, holds no targets, or a row cannot be used; names the row.
    """
    return [row.target() for row in read_rows(path, TargetRow)]


def read_rows(path: Path, cls: type[Row]) -> list[Row]:
    """Return the rows of a ``.csv``, ``.json``, ``.jsonl`` or ``.yaml`` file.

    Raises:
        UserError: the file cannot be read, holds no rows, or a row cannot be used; names the row.
    """
    try:
        values = _parsed(path, path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (ValueError, yaml.YAMLError, csv.Error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is no {path.suffix[1:]} file ({str(error).splitlines()[0]})") from None
    rows = []
    for number, value in enumerate(values, 1):
        where = f"{path}, row {number}"
        if not isinstance(value, Mapping):
            raise UserError(
                f"{where} holds {type(value).__name__}, expected names and values such as box: 120,80,60,140"
            )
        try:
            rows.append(validate(cls, value, where))
        except UserError as error:  # of a box or a moment within the row
            raise error if str(error).startswith(where) else UserError(f"{where}: {error}") from None
    if not rows:
        raise UserError(f"{path} holds no rows; give one a target")
    return rows


def _parsed(path: Path, text: str) -> list[Any]:
    match path.suffix.lower():
        case ".csv":
            rows = list(csv.DictReader(text.splitlines()))
            for number, row in enumerate(rows, 1):
                if None in row:
                    raise UserError(f"{path}, row {number} has more values than the first line has names")
            return [{key: value for key, value in row.items() if value} for row in rows]
        case ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        case ".json":
            values = json.loads(text)
        case ".yaml" | ".yml":
            values = yaml.safe_load(text)
        case _:
            raise UserError(f"{path}: the name must end in .csv, .json, .jsonl or .yaml")
    if not isinstance(values, list):
        raise UserError(f"{path} holds {type(values).__name__}, expected a list of rows")
    return values
