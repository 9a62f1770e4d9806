"""TrackingNet (Müller et al., ECCV 2018): ``TEST/frames/NAME/0.jpg``, ``TEST/anno/NAME.txt``; TRAIN_0 and so on."""

from functools import partial
from pathlib import Path

from siamtrack.data import layout
from siamtrack.errors import UserError
from siamtrack.evaluate.sequences import Readable, Sequence


def read_trackingnet(root: Path, split: str) -> Readable:
    """Return the sequences of the splits that match ``split``, such as TRAIN_*; ``root`` holds them, or is one of them.

    Raises:
        UserError: there are none.
    """
    splits = sorted(root.glob(split), key=layout.number) or [root]
    files = [path for each in splits for path in sorted((each / "anno").glob("*.txt"))]
    if not files:
        raise UserError(f"TrackingNet: looked for anno/NAME.txt in {root / split} and in {root} and found none")
    return {path.stem: partial(_read, path) for path in files}


def _read(truth: Path) -> Sequence:
    """Read a sequence; a single line is the first box of a test sequence, whose others are not published."""
    what = f"sequence {truth.stem}"
    boxes = layout.started(what, layout.table(truth, what, 4), truth)
    paths = layout.images(truth.parents[1] / "frames" / truth.stem, what)
    if len(boxes) == 1:
        boxes = layout.first_only(boxes[0], len(paths))
    layout.same_length(what, len(paths), len(boxes), truth)
    return Sequence(truth.stem, tuple(paths), boxes)
