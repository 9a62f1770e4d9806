"""LaSOT (Fan et al., CVPR 2019) and its extension (IJCV 2021): ``CLASS/CLASS-N/`` with ``img/``, ``groundtruth.txt``,
``full_occlusion.txt`` and ``out_of_view.txt``.
"""

from functools import partial
from pathlib import Path

from siamtrack.data import layout
from siamtrack.data.sources.lasot import TEST
from siamtrack.errors import UserError
from siamtrack.evaluate.sequences import Readable, Sequence

ATTRIBUTES = ("IV", "POC", "DEF", "MB", "CM", "ROT", "BC", "VC", "SV", "FOC", "FM", "OV", "LR", "ARC")
"""In the order of the evaluation toolkit's ``att/NAME.txt``: illumination variation, partial occlusion, deformation,
motion blur, camera motion, rotation, background clutter, viewpoint change, scale variation, full occlusion, fast
motion, out of view, low resolution, aspect ratio change."""


def read_lasot(root: Path) -> Readable:
    """Return the test sequences: those of ``testing_set.txt`` if there is one, else of the published list."""
    listed = root / "testing_set.txt"
    names = layout.lines(listed, "LaSOT") if listed.is_file() else TEST
    return {name: partial(_read, root, name) for name in names}


def read_lasot_ext(root: Path) -> Readable:
    """Return all sequences of the 15 classes that there are."""
    folders = sorted(
        (path.parent for path in [*root.glob("*/*-*/groundtruth.txt"), *root.glob("*-*/groundtruth.txt")]),
        key=lambda path: (path.name.rpartition("-")[0], layout.number(path)),
    )
    if not folders:
        raise UserError(f"LaSOT-ext: looked for CLASS/CLASS-N/groundtruth.txt in {root} and found none")
    return {folder.name: partial(_read, root, folder.name) for folder in folders}


def _read(root: Path, name: str) -> Sequence:
    what = f"sequence {name}"
    folder = root / name.rpartition("-")[0] / name
    if not folder.is_dir() and (root / name).is_dir():  # unpacked without the folders of classes
        folder = root / name
    truth = layout.folder(folder, what) / "groundtruth.txt"
    boxes = layout.table(truth, what, 4)
    paths = layout.images(folder / "img", what)
    layout.same_length(what, len(paths), len(boxes), truth)
    hidden = layout.flags(folder / "full_occlusion.txt", what, len(boxes))
    outside = layout.flags(folder / "out_of_view.txt", what, len(boxes))
    labels = root / "att" / f"{name}.txt"
    attributes = layout.attributes(labels, what, ATTRIBUTES) if labels.is_file() else frozenset[str]()
    return Sequence(
        name,
        tuple(paths),
        layout.zero_based(layout.started(what, boxes, truth)),
        counts=layout.present(boxes) & ~hidden & ~outside,
        attributes=attributes,
        labels={"full occlusion": hidden, "out of view": outside},
        group=name.rpartition("-")[0],
    )
