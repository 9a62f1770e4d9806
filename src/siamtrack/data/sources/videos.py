"""Videos with their annotations beside them: what ``siamtrack track`` writes, and MOT."""

import configparser
import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from siamtrack.data import layout
from siamtrack.data.pictures import VIDEO_SUFFIXES, PictureReader
from siamtrack.data.records import Object, Record, Rejection
from siamtrack.data.sources.tracks import sequences
from siamtrack.errors import UserError

Pictures = list[tuple[Path | None, Path | str]]
"""Video file (None for a folder of frames) and image or number of each frame."""
Frames = dict[int, list[Object]]
"""Number of a frame, from 0, to the objects in it."""


def read_siamtrack(root: Path) -> Iterator[Record | Rejection]:
    """Yield the frames of videos that siamtrack has annotated: ``NAME.boxes.jsonl`` or ``NAME.boxes.csv`` (or without
    ``.boxes``) beside the video ``NAME.mp4`` or the folder of frames ``NAME/``. A lost target is absent.

    Raises:
        UserError: there is no such file.
    """
    tables = sorted(path for path in root.iterdir() if path.suffix in (".jsonl", ".csv"))
    if not tables:
        raise UserError(f"siamtrack: looked for NAME.boxes.jsonl or .csv beside NAME.mp4 in {root} and found none")

    def read(table: Path) -> Iterator[Record]:
        name = table.stem.removesuffix(".boxes")
        return _records(name, _pictures(root, name, table), _table(table), table)

    yield from sequences("siamtrack", tables, read)


def _table(path: Path) -> Frames:
    frames: Frames = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        rows: Any = csv.DictReader(file) if path.suffix == ".csv" else (json.loads(line) for line in file)
        try:
            for row in rows:
                x, y, w, h = (float(row[axis]) for axis in "xywh")
                lost = row.get("lost") in (True, "1", "true")
                frames[int(row["frame"])].append(Object(None if lost else (x, y, w, h), str(row.get("id") or 0)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__} {error}"
            raise UserError(f"{path} has a row without frame and x, y, w, h ({reason})") from None
    return frames


def read_mot(root: Path) -> Iterator[Record | Rejection]:
    """Yield the frames of videos in MOTChallenge's form: ``NAME/gt/gt.txt`` with the frames in ``NAME/img1/``, below
    ``root`` or ``root/train``; or ``NAME.txt`` (or ``NAME.boxes.txt``) beside the video ``NAME.mp4`` or the folder of
    frames ``NAME/``.

    A row is frame, id, left, top, width, height and if there are, confidence, class and visibility; frames and corners
    count from 1. Rows of confidence 0 are left out.

    Raises:
        UserError: there are neither.
    """
    folders = sorted(path.parents[1] for pattern in ("", "*/", "*/*/") for path in root.glob(f"{pattern}gt/gt.txt"))
    tables = sorted(root.glob("*.txt"))
    if not folders and not tables:
        raise UserError(f"MOT: looked for NAME/gt/gt.txt, and for NAME.txt beside NAME.mp4, in {root} and found none")

    def read(path: Path) -> Iterator[Record | Rejection]:
        if path.is_dir():
            table, images = path / "gt" / "gt.txt", path / _images(path)
            pictures: Pictures = [(None, each) for each in layout.images(images, f"sequence {path.name}")]
        else:
            table, pictures = path, _pictures(root, path.stem.removesuffix(".boxes"), path)
        return _mot(path.stem.removesuffix(".boxes"), table, pictures)

    yield from sequences("mot", [*folders, *tables], read)


def _images(folder: Path) -> str:
    """Return the name of the folder of frames that ``seqinfo.ini`` gives, else ``img1``."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(folder / "seqinfo.ini", encoding="utf-8")
        return parser.get("Sequence", "imDir", fallback="img1")
    except configparser.Error:
        return "img1"


def _mot(name: str, table: Path, pictures: Pictures) -> Iterator[Record | Rejection]:
    frames: Frames = defaultdict(list)
    for number, line in enumerate(layout.lines(table, f"sequence {name}"), 1):
        try:
            frame, track, x, y, w, h, *more = (float(part) for part in line.split(","))
        except ValueError:
            yield Rejection("mot", f"{table} line {number}", "damaged line")
            continue
        if more and more[0] == 0:
            yield Rejection("mot", f"{table} line {number}", "confidence 0")
            continue
        label = f"{more[1]:g}" if len(more) > 1 and more[1] > 0 else ""
        visible = more[2] if len(more) > 2 and 0 <= more[2] <= 1 else 1.0
        frames[int(frame) - 1].append(Object((x - 1, y - 1, w, h), int(track), label, visible))
    yield from _records(name, pictures, frames, table)


def _pictures(root: Path, name: str, table: Path) -> Pictures:
    """Return shard and image of each frame of the video or folder called ``name``.

    Raises:
        UserError: there is neither.
    """
    video = next((path for suffix in VIDEO_SUFFIXES if (path := root / f"{name}{suffix}").is_file()), None)
    if video is not None:
        return [(video, str(number)) for number in range(PictureReader(root).frames(video.name))]
    if not (root / name).is_dir():
        raise UserError(f"there is neither a video {name}.mp4 nor a folder of frames {name} beside {table}")
    return [(None, path) for path in layout.images(root / name, f"sequence {name}")]


def _records(name: str, pictures: Pictures, frames: Frames, table: Path) -> Iterator[Record]:
    beyond = [number for number in frames if not 0 <= number < len(pictures)]
    if beyond:
        raise UserError(f"{table} has frame {beyond[0]}, counted from 0, but {name} has {len(pictures)} frames")
    for number in sorted(frames):
        shard, image = pictures[number]
        yield Record(image, frames[number], name, number, shard=shard)
