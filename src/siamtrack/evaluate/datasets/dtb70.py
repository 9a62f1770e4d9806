"""DTB70, drone tracking (Li and Yeung, AAAI 2017)."""

from functools import partial
from pathlib import Path

from siamtrack.data import layout
from siamtrack.errors import UserError
from siamtrack.evaluate.sequences import Readable, Sequence


def read_dtb70(root: Path) -> Readable:
    """Return the sequences: ``NAME/img/00001.jpg``, ``NAME/groundtruth_rect.txt``.

    Raises:
        UserError: there are none.
    """
    files = sorted(root.glob("*/groundtruth_rect.txt"))
    if not files:
        raise UserError(f"DTB70: looked for NAME/groundtruth_rect.txt in {root} and found none")
    return {path.parent.name: partial(_read, path) for path in files}


def _read(truth: Path) -> Sequence:
    name = truth.parent.name
    what = f"sequence {name}"
    boxes = layout.table(truth, what, 4)
    paths = layout.images(truth.parent / "img", what)
    layout.same_length(what, len(paths), len(boxes), truth)
    return Sequence(name, tuple(paths), layout.zero_based(layout.started(what, boxes, truth)))
