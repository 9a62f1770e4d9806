"""ImageNet VID and DET (Russakovsky et al., IJCV 2015): ``Annotations/VID/train/.../000000.xml`` and
``Data/VID/train/.../000000.JPEG``; DET the same.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from siamtrack.data.records import Object, Record, Rejection
from siamtrack.errors import UserError


def read_vid(root: Path) -> Iterator[Record | Rejection]:
    """Yield the frames of all annotated videos; every stretch of a track counts, not only its last.

    Raises:
        UserError: there are no annotations.
    """
    return _read(root, "VID")


def read_det(root: Path) -> Iterator[Record | Rejection]:
    """Yield all annotated pictures.

    Raises:
        UserError: there are no annotations.
    """
    return _read(root, "DET")


def _read(root: Path, task: str) -> Iterator[Record | Rejection]:
    bases = [root, *sorted(root.glob("ILSVRC*"))]  # the folder of the archive may be there or not
    base = next((each for each in bases if (each / "Annotations" / task).is_dir()), None)
    if base is None:
        raise UserError(f"ImageNet {task}: looked for Annotations/{task} and Data/{task} in {root} and found none")
    annotations = base / "Annotations" / task
    for folder, below, names in os.walk(annotations):
        below.sort()
        relative = Path(folder).relative_to(annotations)
        for number, name in enumerate(sorted(name for name in names if name.endswith(".xml"))):
            path = Path(folder) / name
            try:
                size, objects = _parse(path, task == "VID")
            except (ElementTree.ParseError, ValueError, TypeError, AttributeError) as error:
                yield Rejection(task.lower(), f"{path} ({error})", "annotation damaged")
                continue
            image = base / "Data" / task / relative / f"{path.stem}.JPEG"
            if task == "VID":
                frame = int(path.stem) if path.stem.isdecimal() else number
                yield Record(image, objects, relative.as_posix(), frame, size)
            else:
                yield Record(image, objects, size=size)


def _parse(path: Path, tracked: bool) -> tuple[tuple[int, int], list[Object]]:
    """Return the picture's size and the objects of an annotation. Corners count from 0 and are not included."""
    tree = ElementTree.parse(path)
    size = int(tree.findtext("size/width") or 0), int(tree.findtext("size/height") or 0)
    objects = []
    for thing in tree.iter("object"):
        left, top, right, bottom = (float(thing.findtext(f"bndbox/{side}") or "nan") for side in SIDES)
        objects.append(
            Object(
                (left, top, right - left, bottom - top),
                thing.findtext("trackid") if tracked else None,
                thing.findtext("name") or "",
                0.5 if thing.findtext("occluded") == "1" else 1.0,
            )
        )
    return size, objects


SIDES = ("xmin", "ymin", "xmax", "ymax")
