"""What a tracker did, in memory and on disk.

A run is a folder: ``run.json`` says what was run, and each finished sequence is a file of its own
(``sequences/NAME.json``, written atomically), so that a killed run goes on where it was.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from siamtrack import files
from siamtrack.boxes import Boxes
from siamtrack.errors import UserError

TRACKED, STARTED, FAILED, SKIPPED = range(4)
"""Codes of frames: the tracker answered; it was started with the truth; it had lost the object, so that the protocol
stopped it; it was not asked (after a failure, or because it was busy when the frame came)."""


@dataclass(frozen=True)
class Result:
    """What a tracker did from one start, over T frames in the order in which it saw them."""

    boxes: Boxes
    """[T, 4] x, y, w, h in pixels, 0-based; NaN where it gave none."""
    scores: NDArray[np.float64]
    """[T] confidence; NaN where unknown."""
    seconds: NDArray[np.float64]
    """[T] time of ``init`` or ``update`` without decoding; NaN where unknown."""
    codes: NDArray[np.int8]
    """[T] TRACKED, STARTED, FAILED or SKIPPED."""
    polygons: NDArray[np.float64] | None = None
    """[T, 4, 2] rotated rectangles; None from trackers of boxes. Where there are polygons, they are the answer."""
    masks: tuple[str | None, ...] | None = None
    """T masks as run-length codes (``siamtrack.regions``); None from trackers without."""
    start: int = 0
    """Frame of the sequence in which it was started."""
    backward: bool = False
    """Whether it ran towards the sequence's first frame."""

    def __len__(self) -> int:
        return len(self.boxes)


SequenceResult = tuple[Result, ...]
"""One result a start (multi-start) or a repetition; most protocols have just one."""


@dataclass(frozen=True)
class Run:
    """A tracker on a data set under a protocol."""

    tracker: str
    dataset: str
    protocol: str
    results: Mapping[str, SequenceResult]
    """By sequence; those that are not finished are absent."""
    facts: Mapping[str, Any]
    """Whatever else ``run.json`` says: model, settings, device, threads, version."""
    folder: Path | None = None


def write_run(folder: Path, tracker: str, dataset: str, protocol: str, facts: Mapping[str, Any]) -> None:
    """Create a run's folder, or check that it holds the same run.

    Raises:
        UserError: the folder holds another run, or cannot be written.
    """
    values = {"tracker": tracker, "dataset": dataset, "protocol": protocol, **facts}
    try:
        (folder / "sequences").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create {folder}: {error.strerror}") from None
    if (folder / "run.json").is_file():
        before = _read_json(folder / "run.json")
        different = sorted(key for key in before.keys() | values.keys() if before.get(key) != values.get(key))
        if different:
            detail = ", ".join(f"{key} was {before.get(key)!r} and is {values.get(key)!r}" for key in different)
            raise UserError(f"{folder} holds another run: {detail}; choose another folder, or delete it")
    else:
        files.write_text(folder / "run.json", json.dumps(values, indent=1) + "\n")


def sequence_file(folder: Path, name: str) -> Path:
    """Return where the result of a sequence is, whatever characters its name has."""
    return folder / "sequences" / f"{quote(name, safe=' ()+,=@')}.json"


def write_sequence(folder: Path, name: str, results: SequenceResult) -> None:
    """Write the result of a finished sequence.

    Raises:
        UserError: the file cannot be written.
    """
    files.write_text(sequence_file(folder, name), json.dumps([_to_json(result) for result in results]))


def read_run(folder: Path) -> Run:
    """Return what a run's folder holds.

    Raises:
        UserError: it is no run, or a file in it is damaged.
    """
    if not (folder / "run.json").is_file():
        raise UserError(f"{folder} is no run: there is no file {folder / 'run.json'}")
    values = _read_json(folder / "run.json")
    if not isinstance(values, dict):
        raise UserError(f"{folder / 'run.json'} is no description of a run; delete {folder} and run again")
    results = {}
    for path in sorted((folder / "sequences").glob("*.json")):
        if not path.name.startswith("."):
            results[unquote(path.stem)] = _read_sequence(path)
    try:
        tracker, dataset, protocol = (values.pop(key) for key in ("tracker", "dataset", "protocol"))
    except KeyError as error:
        raise UserError(f"{folder / 'run.json'} has no {error.args[0]!r}") from None
    return Run(tracker, dataset, protocol, results, values, folder)


def _read_sequence(path: Path) -> SequenceResult:
    content = _read_json(path)
    try:
        if not isinstance(content, list) or not content:
            raise ValueError("it holds no result")
        return tuple(_from_json(values) for values in content)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it and run again") from None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no JSON file that can be read ({error})") from None


def _to_json(result: Result) -> dict[str, Any]:
    values: dict[str, Any] = {
        "boxes": _rounded(result.boxes, 3),
        "scores": _rounded(result.scores, 5),
        "seconds": _rounded(result.seconds, 6),
        "codes": result.codes.tolist(),
        "start": result.start,
        "backward": result.backward,
    }
    if result.polygons is not None:
        values["polygons"] = _rounded(result.polygons, 3)
    if result.masks is not None:
        values["masks"] = list(result.masks)
    return values


def _rounded(values: NDArray[np.float64], digits: int) -> list[Any]:
    """Return nested lists with None for NaN, which JSON does not know."""
    rounded = np.round(values, digits).astype(object)
    rounded[~np.isfinite(values)] = None
    nested: list[Any] = rounded.tolist()
    return nested


def _from_json(values: dict[str, Any]) -> Result:
    boxes = np.array(values["boxes"], float).reshape(-1, 4)
    count = len(boxes)
    polygons = values.get("polygons")
    masks = values.get("masks")
    result = Result(
        boxes=boxes,
        scores=np.array(values["scores"], float),
        seconds=np.array(values["seconds"], float),
        codes=np.array(values["codes"], np.int8),
        polygons=None if polygons is None else np.array(polygons, float).reshape(-1, 4, 2),
        masks=None if masks is None else tuple(masks),
        start=values["start"],
        backward=values["backward"],
    )
    parts = (result.scores, result.seconds, result.codes, result.polygons, result.masks)
    if any(part is not None and len(part) != count for part in parts):
        raise ValueError("its lists differ in length")
    return result
