"""PySOT's training crops: ``crop511/VIDEO/000000.00.x.jpg`` of 511 pixels, and JSON files that give the boxes,
``{video: {track: {frame: [x1, y1, x2, y2] or [w, h]}}}``.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from siamtrack.data.records import Object, Record, Rejection
from siamtrack.errors import UserError
from siamtrack.tracking.crop import context_side

SIDE = 511
_TEMPLATE = 127


def read_crop511(root: Path) -> Iterator[Record | Rejection]:
    """Yield the crops that the JSON files in ``root`` name; the videos' folders are in ``root`` or in ``root/crop511``.

    The object is in the middle of a crop, at 127 / s_z times its size, with s_z the side of its template's context
    (SiamFC's crops), so the files' boxes give the crop's box whatever picture they were measured in. Two defects of the
    scripts that wrote such files cannot be mended from them and are counted: only the last unbroken stretch of a VID
    track is named (index the original data set to have all), and YouTube-BB's boxes are shares of a picture whose
    proportions are not known.

    Raises:
        UserError: there is no JSON file of videos, or no crops beside it.
    """
    base = root / "crop511" if (root / "crop511").is_dir() else root
    files = sorted(root.glob("*.json"))
    if not files:
        raise UserError(f"crop511: looked for train.json beside the folders of crops in {root} and found none")
    for path in files:
        try:
            videos: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
            listed = sorted((str(video), dict(tracks)) for video, tracks in videos.items())
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"crop511: {path} is no JSON file of videos and tracks ({error})") from None
        if listed and not any((base / video).is_dir() for video, _ in listed):
            raise UserError(f"crop511: none of the folders that {path} names, such as {listed[0][0]}, is in {base}")
        for video, tracks in listed:
            yield from _video(base / video, video, tracks, path)


def _video(folder: Path, video: str, tracks: dict[str, Any], path: Path) -> Iterator[Record | Rejection]:
    named = set()
    for track, frames in tracks.items():
        if not isinstance(frames, dict):
            yield Rejection("crop511", f"{path}: {video}/{track}", "damaged track")
            continue
        for frame, values in sorted(frames.items()):
            where = f"{path}: {video}/{track}/{frame}"
            try:
                number, size = int(frame), _size(values)
            except (ValueError, TypeError):
                yield Rejection("crop511", where, "damaged box")
                continue
            named.add(f"{number:06d}.{track}.x.jpg")
            if size.max() <= 1:
                yield Rejection("crop511", where, "box in shares of a picture of unknown shape (YouTube-BB)")
                continue
            if size.min() <= 0:
                yield Rejection("crop511", where, "box outside the picture, empty or not finite")
                continue
            width, height = (size * _TEMPLATE / context_side(size[None])[0]).tolist()
            box = ((SIDE - width) / 2, (SIDE - height) / 2, width, height)
            crop = folder / f"{number:06d}.{track}.x.jpg"
            yield Record(crop, [Object(box, track)], video, number, (SIDE, SIDE))
    if folder.is_dir():
        lost = sorted({name for name in os.listdir(folder) if name.endswith(".x.jpg")} - named)
        if lost:
            reason = "crop without a box in the JSON file (PySOT's last snippet only)"
            yield Rejection("crop511", str(folder / lost[0]), reason, len(lost))


def _size(values: list[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return width and height of [x1, y1, x2, y2] or [w, h].

    Raises:
        ValueError: it is neither.
    """
    numbers = np.array(values, float)
    if numbers.shape == (4,):
        numbers = numbers[2:] - numbers[:2]
    if numbers.shape != (2,) or not np.isfinite(numbers).all():
        raise ValueError
    return numbers
