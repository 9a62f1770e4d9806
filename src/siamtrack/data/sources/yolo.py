"""YOLO's form: ``images/a.jpg`` and ``labels/a.txt``, or both in one folder."""

import re
from collections.abc import Iterator
from pathlib import Path

from siamtrack.data.pictures import VIDEO_SUFFIXES
from siamtrack.data.records import Object, Record, Rejection
from siamtrack.errors import UserError
from siamtrack.video.image import IMAGE_SUFFIXES

_NO_LABELS = {"classes", "train", "val", "test", "readme", "obj", "requirements"}
_VIDEO_FRAME = re.compile(r"(.+)_(\d+)$")


def read_yolo(root: Path) -> Iterator[Record | Rejection]:
    """Yield pictures and frames of videos in YOLO's form.

    A line is class, cx, cy, w, h as shares of the picture's size, and if there are, confidence and the id of a track;
    or class and the corners of a polygon. Labels in a folder ``labels`` belong to the pictures in the folder ``images``
    beside it; labels ``NAME_N.txt`` without a picture to frame N, from 1, of the video ``NAME.mp4`` below ``root``
    (what Ultralytics writes for videos). Class names come from ``data.yaml``, ``classes.txt`` or ``obj.names``.

    Raises:
        UserError: there are no labels.
    """
    tables = sorted(path for path in root.rglob("*.txt") if path.stem.lower() not in _NO_LABELS)
    pictures = {path.with_suffix(""): path for path in sorted(root.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES}
    videos = {path.stem: path for path in sorted(root.rglob("*")) if path.suffix.lower() in VIDEO_SUFFIXES}
    if not tables or not (pictures or videos):
        raise UserError(f"YOLO: looked for labels/NAME.txt and images/NAME.jpg in {root} and found none")
    names = _names(root)
    for table in sorted(tables, key=lambda path: (path.parent, _order(path.stem))):
        image = pictures.get(_beside(table)) or pictures.get(table.with_suffix(""))
        film = _VIDEO_FRAME.fullmatch(table.stem)
        objects = []
        for number, line in enumerate(table.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
            if line.strip():
                try:
                    objects.append(_object(line.split(), names))
                except ValueError as error:
                    yield Rejection("yolo", f"{table} line {number} ({error})", "damaged line")
        if image is not None:
            tracked = any(each.track is not None for each in objects)
            video = table.parent.relative_to(root).as_posix() if tracked else None
            frame = int(film[2]) if film else int(table.stem) if table.stem.isdecimal() else 0
            yield Record(image, objects, video, frame, shares=True)
        elif film and film[1] in videos:
            frame = int(film[2]) - 1
            yield Record(str(frame), objects, film[1], frame, shard=videos[film[1]], shares=True)
        else:
            yield Rejection("yolo", str(table), "label without a picture")


def _beside(table: Path) -> Path:
    """Return where the picture of a label would be, without its suffix: the last ``labels`` replaced by ``images``."""
    parts = list(table.with_suffix("").parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "labels":
            parts[place] = "images"
            break
    return Path(*parts)


def _order(stem: str) -> tuple[str, int]:
    found = _VIDEO_FRAME.fullmatch(stem)
    return (found[1], int(found[2])) if found else (stem, 0)


def _object(words: list[str], names: dict[int, str]) -> Object:
    """Return the object of a line, in shares of the picture.

    Raises:
        ValueError: the line has other numbers.
    """
    number, values = int(float(words[0])), [float(word) for word in words[1:]]
    label = names.get(number, str(number))
    id_last = words[-1].isdecimal() and len(words) in (6, 7) and int(words[-1]) > 0
    if len(words) in (5, 6) or (len(words) == 7 and id_last):
        cx, cy, w, h = values[:4]
        return Object((cx - w / 2, cy - h / 2, w, h), int(words[-1]) if id_last else None, label)
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"{len(words)} numbers; expected class, cx, cy, w, h or class and a polygon")
    x, y = values[::2], values[1::2]
    mask = "polygon:" + ",".join(f"{value:g}" for value in values)
    return Object((min(x), min(y), max(x) - min(x), max(y) - min(y)), label=label, mask=mask)


def _names(root: Path) -> dict[int, str]:
    """Return the names of the classes, as far as they are known."""
    import yaml

    described = next((path for path in [root / "data.yaml", *root.glob("*.yaml")] if path.is_file()), None)
    listed = next((path for path in (root / "classes.txt", root / "obj.names") if path.is_file()), None)
    if described:
        try:
            found = yaml.safe_load(described.read_text(encoding="utf-8"))["names"]
            pairs = found.items() if isinstance(found, dict) else enumerate(found)
            return {int(number): str(name) for number, name in pairs}
        except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"YOLO: {described} does not name the classes ({error})") from None
    return dict(enumerate(listed.read_text(encoding="utf-8").split("\n"))) if listed else {}
