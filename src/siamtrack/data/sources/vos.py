"""Video object segmentation: YouTube-VOS (Xu et al., 2018) and DAVIS (Pont-Tuset et al., 2017; Perazzi et al.,
CVPR 2016).

The truth is label images; an object's box encloses its pixels.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from siamtrack.data import layout
from siamtrack.data.records import Object, Record, Rejection
from siamtrack.errors import UserError
from siamtrack.regions import Mask, enclosing_box, label_boxes
from siamtrack.video.image import read_labels


def read_youtubevos(root: Path) -> Iterator[Record | Rejection]:
    """Yield the annotated frames of the training split: ``train/meta.json``, ``train/JPEGImages``,
    ``train/Annotations``; ``root`` holds its folder, or is it.

    Raises:
        UserError: there is no ``meta.json``, or it is damaged.
    """
    base = root / "train" if (root / "train" / "meta.json").is_file() else root
    path = base / "meta.json"
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
        categories = {
            video: {int(number): str(thing.get("category") or "") for number, thing in facts["objects"].items()}
            for video, facts in videos.items()
        }
    except FileNotFoundError:
        raise UserError(f"YouTube-VOS: looked for train/meta.json in {root} and found none") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"YouTube-VOS: {path} does not name videos and their objects ({error})") from None
    for video, labels in categories.items():
        yield from _video("youtubevos", base / "JPEGImages" / video, base / "Annotations" / video, labels)


def read_davis(root: Path) -> Iterator[Record | Rejection]:
    """Yield the frames of the training split: ``ImageSets/2017/train.txt`` (an object a number), else that of 2016
    (``ImageSets/480p/train.txt`` or ``ImageSets/2016/train.txt``; one object a video), at 480p.

    Raises:
        UserError: there is no list of videos.
    """
    lists = [root / "ImageSets" / each / "train.txt" for each in ("2017", "2016", "480p")]
    found = next((path for path in lists if path.is_file()), None)
    if found is None:
        raise UserError(f"DAVIS: looked for ImageSets/2017/train.txt in {root} and found none")
    lines = layout.lines(found, "DAVIS")
    names = dict.fromkeys(Path(line.split()[0]).parent.name if "/" in line else line for line in lines)
    for name in names:
        yield from _video("davis", root / "JPEGImages" / "480p" / name, root / "Annotations" / "480p" / name, {})


def _video(source: str, images: Path, annotations: Path, labels: Mapping[int, str]) -> Iterator[Record | Rejection]:
    """Yield the frames of a video that have a label image. An object that is not in one after it appeared is absent."""
    try:
        pictures = {path.stem: path for path in layout.images(images, f"video {images.name}")}
        masks = layout.images(annotations, f"video {images.name}")
    except UserError as error:
        yield Rejection(source, str(error), "sequence incomplete or damaged")
        return
    numbers = {stem: number for number, stem in enumerate(pictures)}
    seen: set[int] = set()
    for mask in masks:
        if mask.stem not in pictures:
            yield Rejection(source, str(mask), "mask without a picture")
            continue
        try:
            pixels = read_labels(mask)
        except (UserError, OSError) as error:
            yield Rejection(source, str(error), "mask unreadable")
            continue
        boxes = label_boxes(pixels)
        if not boxes and (pixels == 255).any():  # DAVIS 2016: the one object is white
            boxes = {255: enclosing_box(Mask(0, 0, pixels > 0))}
        seen |= boxes.keys()
        objects = [
            Object(tuple(boxes[number].tolist()), number, labels.get(number, ""), mask=f"{mask}#{number}")
            if number in boxes
            else Object(None, number, labels.get(number, ""))
            for number in sorted(seen)
        ]
        height, width = pixels.shape
        yield Record(pictures[mask.stem], objects, images.name, numbers[mask.stem], (width, height))
