"""TC128, Temple Color (Liang et al., TIP 2015)."""

from functools import partial
from pathlib import Path

from siamtrack.data import layout
from siamtrack.errors import UserError
from siamtrack.evaluate.sequences import Readable, Sequence


def read_tc128(root: Path) -> Readable:
    """Return the sequences: ``NAME/img/0001.jpg``, ``NAME/NAME_gt.txt`` and ``NAME/NAME_frames.txt`` (first,last).

    Raises:
        UserError: there are none.
    """
    files = sorted(root.glob("*/*_frames.txt"))
    if not files:
        raise UserError(f"TC128: looked for NAME/NAME_frames.txt in {root} and found none")
    return {path.parent.name: partial(_read, path) for path in files}


def _read(ends: Path) -> Sequence:
    name = ends.parent.name
    what = f"sequence {name}"
    first, last = layout.numbers(ends, what, 2, "ends of the sequence")
    truth = ends.parent / f"{name}_gt.txt"
    boxes = layout.table(truth, what, 4)
    paths = [path for path in layout.images(ends.parent / "img", what) if first <= layout.number(path) <= last]
    layout.same_length(f"{what} (images {first:g} to {last:g})", len(paths), len(boxes), truth)
    return Sequence(name, tuple(paths), layout.zero_based(layout.started(what, boxes, truth)))
