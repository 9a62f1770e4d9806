"""COCO (Lin et al., ECCV 2014) and other data in its form: ``annotations/instances_train2017.json`` and the pictures,
``train2017/000000000009.jpg``.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from siamtrack.data.records import Object, Record, Rejection
from siamtrack.errors import UserError
from siamtrack.regions import encode_mask

_SMALLEST = 16
"""Side in pixels of the square below whose area an object is tiny; its template would be magnified tenfold."""


def read_coco(root: Path) -> Iterator[Record | Rejection]:
    """Yield the pictures with their objects: polygons and run lengths as masks; without crowds and tiny objects.

    Reads ``annotations/instances_*.json`` if there are such files, else every JSON file with ``images`` and
    ``annotations`` in ``root`` or one folder below. Where images have ``video_id`` and ``frame_id`` and annotations
    ``track_id`` or ``instance_id``, they are videos with tracks.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    files = sorted(root.glob("annotations/instances_*.json"))
    files = files or sorted([*root.glob("*.json"), *root.glob("*/*.json")])
    found = False
    for path in files:
        values = _load(path)
        if values:
            found = True
            yield from _read(root, path, values)
    if not found:
        raise UserError(f"COCO: looked for annotations/instances_*.json, or other COCO JSON, in {root} and found none")


def _load(path: Path) -> dict[str, Any] | None:
    """Return the content of a COCO file, None if it is another."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"COCO: {path} is no JSON file ({error})") from None
    return values if isinstance(values, dict) and {"images", "annotations"} <= values.keys() else None


def _read(root: Path, path: Path, values: dict[str, Any]) -> Iterator[Record | Rejection]:
    try:
        labels = {each["id"]: str(each["name"]) for each in values.get("categories") or []}
        videos = {each["id"]: str(each.get("name", each["id"])) for each in values.get("videos") or []}
        annotations = defaultdict(list)
        for each in values["annotations"]:
            annotations[each["image_id"]].append(each)
        images = [(each["id"], str(each["file_name"]), each) for each in values["images"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"COCO: {path} is damaged ({type(error).__name__} {error})") from None
    folder = _folder(root, path, [name for _, name, _ in images[:100]])
    for number, name, facts in images:
        video = facts.get("video_id")
        objects = []
        for each in annotations.get(number, []):
            where = f"{path.name} annotation {each.get('id')}"
            try:
                item = _object(each, labels, video is not None)
            except (KeyError, TypeError, ValueError) as error:
                yield Rejection("coco", f"{where} ({type(error).__name__} {error})", "annotation damaged")
                continue
            if isinstance(item, str):
                yield Rejection("coco", where, item)
            else:
                objects.append(item)
        width, height = int(facts.get("width") or 0), int(facts.get("height") or 0)
        frame = int(facts.get("frame_id", facts.get("frame_index", number if video is not None else 0)))
        yield Record(
            folder / name,
            objects,
            None if video is None else videos.get(video, str(video)),
            frame,
            (width, height) if width and height else None,
        )


def _folder(root: Path, path: Path, names: list[str]) -> Path:
    """Return the folder that the pictures of a file are in; where none is found, the published one."""
    split = path.stem.rsplit("_", 1)[-1]
    published = root / split
    places = [published, root / "images" / split, root / "images", root, path.parent, path.parent / "images"]
    return next((place for place in places if any((place / name).is_file() for name in names)), published)


def _object(each: dict[str, Any], labels: dict[Any, str], tracked: bool) -> Object | str:
    """Return an object, or why it is left out."""
    x, y, w, h = map(float, each["bbox"])
    if each.get("iscrowd"):
        return "crowd"
    if 0 < w * h < _SMALLEST**2:
        return f"tiny (less than {_SMALLEST}x{_SMALLEST} pixels)"
    track = each.get("track_id", each.get("instance_id")) if tracked else None
    return Object((x, y, w, h), track, labels.get(each.get("category_id"), ""), mask=_mask(each.get("segmentation")))


def _mask(segmentation: Any) -> str:
    """Return a segmentation as a mask of an index: polygons, or run lengths; empty for none."""
    if isinstance(segmentation, dict):
        height, width = map(int, segmentation["size"])
        counts = segmentation["counts"]
        runs = _inflate(counts) if isinstance(counts, str) else list(map(int, counts))
        if sum(runs) != height * width or min(runs) < 0:
            raise ValueError(f"run lengths of {sum(runs)} pixels for {width}x{height}")
        pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return "rle:" + encode_mask(pixels.reshape(width, height).T)  # COCO runs down the columns
    polygons = [part for part in segmentation or [] if len(part) >= 6 and len(part) % 2 == 0]
    if not polygons:
        return ""
    return "polygon:" + ";".join(",".join(f"{float(value):.6g}" for value in part) for part in polygons)


def _inflate(text: str) -> list[int]:
    """Return the run lengths in COCO's compressed text.

    A number is groups of 5 bits, lowest first, each a character from "0" on, with 32 added if another group follows;
    the last group's 16 is the sign. From the fourth on, numbers are differences from the one two before
    (pycocotools' maskApi).
    """
    runs: list[int] = []
    value = shift = 0
    for sign in text:
        group = ord(sign) - 48
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            if group & 16:
                value -= 1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return runs
