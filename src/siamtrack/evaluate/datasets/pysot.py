"""PySOT's data sets: one JSON file, ``NAME.json``, beside the images that it names."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamtrack.data import layout
from siamtrack.errors import UserError
from siamtrack.evaluate.sequences import Readable, Sequence
from siamtrack.regions import enclosing_box

LABELS = ("camera_motion", "illum_change", "motion_change", "size_change", "occlusion")


def read_pysot(root: Path) -> Readable:
    """Return the sequences of the one JSON file in ``root``, or of the file that ``root`` is.

    Boxes and polygons are taken as they are, since PySOT uses them as counted from 0.

    Raises:
        UserError: there is no such file, there are several, or it is damaged.
    """
    files = [root] if root.is_file() else sorted(root.glob("*.json"))
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise UserError(f"looked for one NAME.json in {root} and found {names}; give the file itself as the root")
    try:
        videos = json.loads(files[0].read_text(encoding="utf-8")).items()
    except (ValueError, AttributeError) as error:
        raise UserError(f"{files[0]} is no JSON file of videos ({error})") from None
    return {name: partial(_read, files[0], name, video) for name, video in videos}


def _region(values: list[float]) -> NDArray[np.float64] | None:
    """Return a box [4] or a polygon [K, 2]; None if a number is missing, or is the single code of a frame without."""
    region = np.array(values, float)
    if len(region) == 1 or not np.isfinite(region).all():
        return None
    if len(region) != 4 and (len(region) < 6 or len(region) % 2):
        raise ValueError(f"a region has {len(region)} numbers")
    return region if len(region) == 4 else region.reshape(-1, 2)


def _read(path: Path, name: str, video: dict[str, Any]) -> Sequence:
    what = f"sequence {name}"
    try:
        regions = [_region(values) for values in video["gt_rect"]]
        paths = tuple(path.parent / image for image in video["img_names"])
        labels = {label: np.array(video[label], float) > 0 for label in LABELS if video.get(label)}
        present = np.array(video["absent"], float) > 0 if video.get("absent") else None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{what} in {path} is damaged ({type(error).__name__} {error})") from None
    if not regions:
        raise UserError(f"{what} in {path} has no ground truth")
    if len(paths) != len(regions) and len(regions) > 1:
        layout.same_length(what, len(paths), len(regions), path)
    boxes = np.stack([enclosing_box(region) for region in regions])
    if len(regions) == 1:
        boxes = layout.first_only(boxes[0], len(paths))
    for label, values in [*labels.items(), *([] if present is None else [("absent", present)])]:
        if len(values) != len(paths):
            raise UserError(f"{what} in {path} has {len(values)} values of {label} but {len(paths)} frames")
    polygons = len(regions) > 1 and any(region is not None and region.ndim == 2 for region in regions)
    width, height = video.get("width"), video.get("height")
    return Sequence(
        name,
        paths,
        layout.started(what, boxes, path),
        regions=tuple(regions) if polygons else None,
        counts=None if present is None else layout.present(boxes) & present,  # 1 is present, despite the name
        attributes=frozenset(video.get("attr") or ()),
        labels=labels,
        size=(int(width), int(height)) if width and height else None,
    )
