"""PASCAL VOC (Everingham et al., IJCV 2010): ``VOCdevkit/VOC2012/`` with ``Annotations/``, ``JPEGImages/`` and,
for some pictures, ``SegmentationObject/``.
"""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from siamtrack.data import layout
from siamtrack.data.records import Object, Record, Rejection
from siamtrack.data.sources.imagenet import SIDES
from siamtrack.errors import UserError


def read_voc(root: Path) -> Iterator[Record | Rejection]:
    """Yield the pictures of ``ImageSets/Main/trainval.txt`` of each year; without that list, all annotated ones.

    Objects marked as difficult are left out. The number of an object in a ``SegmentationObject`` image is its place in
    the annotation, from 1 (development kit, section 4.3).

    Raises:
        UserError: there are no annotations.
    """
    patterns = ("", "VOC*", "VOCdevkit/VOC*")
    years = [year for each in patterns for year in (sorted(root.glob(each)) if each else [root]) if _complete(year)]
    if not years:
        raise UserError(f"VOC: looked for VOCdevkit/VOC2012 with Annotations and JPEGImages in {root} and found none")
    for year in years:
        listed = year / "ImageSets" / "Main" / "trainval.txt"
        names = (
            [line.split()[0] for line in layout.lines(listed, "VOC")]
            if listed.is_file()
            else sorted(path.stem for path in (year / "Annotations").glob("*.xml"))
        )
        segmented = {path.stem for path in (year / "SegmentationObject").glob("*.png")}
        for name in names:
            path = year / "Annotations" / f"{name}.xml"
            try:
                tree = ElementTree.parse(path)
            except (ElementTree.ParseError, OSError) as error:
                yield Rejection("voc", f"{path} ({error})", "annotation damaged")
                continue
            objects = []
            for number, thing in enumerate(tree.findall("object"), 1):
                if thing.findtext("difficult") == "1":
                    yield Rejection("voc", f"{path} object {number}", "marked as difficult")
                    continue
                mask = f"{year / 'SegmentationObject' / name}.png#{number}" if name in segmented else ""
                objects.append(_object(thing, mask))
            size = int(tree.findtext("size/width") or 0), int(tree.findtext("size/height") or 0)
            yield Record(year / "JPEGImages" / f"{name}.jpg", objects, size=size)


def _complete(year: Path) -> bool:
    return (year / "Annotations").is_dir() and (year / "JPEGImages").is_dir()


def _object(thing: ElementTree.Element, mask: str) -> Object:
    """Return an object. Corners count from 1, the last pixel is included."""
    left, top, right, bottom = (_number(thing.findtext(f"bndbox/{side}")) for side in SIDES)
    visible = 0.5 if thing.findtext("occluded") == "1" else 1.0
    return Object(
        (left - 1, top - 1, right - left + 1, bottom - top + 1),
        label=thing.findtext("name") or "",
        visible=visible,
        mask=mask,
    )


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
