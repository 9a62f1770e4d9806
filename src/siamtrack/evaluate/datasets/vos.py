"""Video object segmentation: DAVIS 2016 and 2017 (Perazzi et al., CVPR 2016; Pont-Tuset et al., 2017), YouTube-VOS
(Xu et al., 2018), SegTrack v2 (Li et al., ICCV 2013).

The truth is label images; those of the videos asked for are opened, once each. An object's boxes enclose its pixels.
"""

import json
from collections.abc import Mapping
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from siamtrack.boxes import Boxes
from siamtrack.data import layout
from siamtrack.errors import UserError
from siamtrack.evaluate.sequences import Readable, Sequence
from siamtrack.regions import Mask, enclosing_box, label_boxes
from siamtrack.video.image import read_labels

ANY = 255
"""The number that stands for every pixel that is not 0."""

RESOLUTION = "480p"


class _Video:
    """Images of a video and its label images, each of which is opened once for all objects."""

    def __init__(self, what: str, paths: list[Path], masks: list[Path | None]) -> None:
        self.what, self.paths, self.masks = what, paths, masks

    @cached_property
    def boxes(self) -> list[Mapping[int, Boxes]]:
        """The box of each object in each frame, by number."""
        return [{} if mask is None else _boxes(mask) for mask in self.masks]

    def sequence(self, name: str, number: int, group: str = "") -> Sequence:
        """Return the sequence of an object."""
        nowhere = np.full(4, np.nan)
        boxes = np.stack([found.get(number, nowhere) for found in self.boxes])
        first = self.masks[0]
        if first is None or not np.isfinite(boxes[0]).all():
            raise UserError(f"{self.what} has no object {number} in its first label image, {first}")
        height, width = read_labels(first).shape
        return Sequence(
            name,
            tuple(self.paths),
            boxes,
            masks=tuple(self.masks),
            object_number=number,
            counts=np.array([mask is not None for mask in self.masks]),
            group=group,
            size=(width, height),
        )


def _boxes(path: Path) -> dict[int, Boxes]:
    """Return the enclosing box of each number in a label image, and of all together."""
    labels = read_labels(path)
    everything = enclosing_box(Mask(0, 0, labels > 0))
    return {**label_boxes(labels), ANY: everything} if np.isfinite(everything).all() else {}


def read_davis2016(root: Path) -> Readable:
    """Return the validation videos: one object each, every pixel that is not 0.

    Raises:
        UserError: there is no list of them.
    """
    lists = [root / "ImageSets" / folder / "val.txt" for folder in (RESOLUTION, "2016")]
    found = next((path for path in lists if path.is_file()), lists[0])
    names = dict.fromkeys(_video_name(line) for line in layout.lines(found, "DAVIS 2016"))
    return {name: partial(_davis_object, partial(_davis_video, root, name), name, ANY) for name in names}


def read_davis2017(root: Path) -> Readable:
    """Return the objects of the validation videos, video/number, as numbered in the first label image."""
    sequences: dict[str, Any] = {}
    for name in layout.lines(root / "ImageSets" / "2017" / "val.txt", "DAVIS 2017"):
        video = cache(partial(_davis_video, root, name))
        labels = layout.images(root / "Annotations" / RESOLUTION / name, f"video {name}")
        for number in label_boxes(read_labels(labels[0])):
            sequences[f"{name}/{number}"] = partial(_davis_object, video, f"{name}/{number}", number)
    return sequences


def _davis_object(video: Any, name: str, number: int) -> Sequence:
    found: _Video = video()
    return found.sequence(name, number)


def _davis_video(root: Path, name: str) -> _Video:
    what = f"video {name}"
    paths = layout.images(root / "JPEGImages" / RESOLUTION / name, what)
    masks = layout.images(root / "Annotations" / RESOLUTION / name, what)
    if len(paths) != len(masks):
        raise UserError(f"{what} has {len(paths)} images but {len(masks)} label images in {masks[0].parent}")
    return _Video(what, paths, list(masks))


def _video_name(line: str) -> str:
    """Return the video that a line of a list names: as itself, or by an image and its label image (DAVIS 2016)."""
    return Path(line.split()[0]).parent.name if "/" in line else line


def read_youtubevos(root: Path) -> Readable:
    """Return the objects of ``meta.json``, video/number; ``root`` holds it, or a folder ``valid`` that does.

    An object's sequence begins in the frame in which it first appears. Label images count if there is one for every
    frame that ``meta.json`` names for the object; else (the validation set) only the first. An object is ``seen`` if
    its category is among those of ``../train/meta.json``, and else ``unseen``; without that file it is in no group.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    base = root if (root / "meta.json").is_file() or not (root / "valid").is_dir() else root / "valid"
    videos = _meta(base / "meta.json")
    training = base.parent / "train" / "meta.json"
    seen = None
    if training.is_file():
        seen = {facts.get("category") for objects in _meta(training).values() for facts in objects.values()}
    sequences: dict[str, Any] = {}
    for video, objects in videos.items():
        for number, facts in objects.items():
            group = "" if seen is None else "seen" if facts.get("category") in seen else "unseen"
            name = f"{video}/{number}"
            sequences[name] = partial(_youtube_object, base, name, facts.get("frames") or [], group)
    return sequences


def _meta(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Return video to object to what is known of it."""
    try:
        videos = json.loads(layout.file(path, "YouTube-VOS").read_text(encoding="utf-8"))["videos"]
        return {video: dict(facts["objects"]) for video, facts in videos.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"YouTube-VOS: {path} does not name videos and their objects ({error})") from None


def _youtube_object(base: Path, name: str, frames: list[str], group: str) -> Sequence:
    video, number = name.split("/")
    what = f"object {name}"
    if not frames:
        raise UserError(f"{what} has no frames in {base / 'meta.json'}")
    labels = layout.folder(base / "Annotations" / video, what)
    paths = [path for path in layout.images(base / "JPEGImages" / video, what) if path.stem >= frames[0]]
    layout.file(labels / f"{frames[0]}.png", what)
    annotated = set(frames) if all((labels / f"{frame}.png").is_file() for frame in frames) else {frames[0]}
    masks = [labels / f"{path.stem}.png" if path.stem in annotated else None for path in paths]
    return _Video(what, paths, masks).sequence(name, int(number), group)


def read_segtrack2(root: Path) -> Readable:
    """Return the objects: ``JPEGImages/VIDEO/``, ``GroundTruth/VIDEO/``, with a folder an object if there are several.

    Frames are those listed in ``ImageSets/VIDEO.txt`` after its first line, if there is such a file.
    """
    sequences: dict[str, Any] = {}
    truth = layout.folder(root / "GroundTruth", "SegTrack v2")
    for folder in sorted(path for path in truth.iterdir() if path.is_dir()):
        objects = sorted((path for path in folder.iterdir() if path.is_dir()), key=layout.number)
        for labels in objects or [folder]:
            name = f"{folder.name}/{labels.name}" if objects else folder.name
            sequences[name] = partial(_segtrack_object, root, folder.name, name, labels)
    return sequences


def _segtrack_object(root: Path, video: str, name: str, labels: Path) -> Sequence:
    what = f"object {name}"
    paths = layout.images(root / "JPEGImages" / video, what)
    masks = layout.images(labels, what)
    listed = root / "ImageSets" / f"{video}.txt"
    if listed.is_file():
        stems = layout.lines(listed, what)[1:]
        paths, masks = ([path for path in found if path.stem in stems] for found in (paths, masks))
        if len(paths) != len(stems):
            raise UserError(f"{what}: {listed} names {len(stems)} images but {len(paths)} of them are in {root}")
    if len(paths) != len(masks):
        raise UserError(f"{what} has {len(paths)} images but {len(masks)} label images in {labels}")
    return _Video(what, paths, list(masks)).sequence(name, ANY)
