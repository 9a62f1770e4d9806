"""NfS, Need for Speed (Galoogahi et al., ICCV 2017): ``NAME/FPS/NAME/00001.jpg`` and ``NAME/FPS/NAME.txt``."""

from functools import partial
from pathlib import Path

import numpy as np

from siamtrack.data import layout
from siamtrack.errors import UserError
from siamtrack.evaluate.sequences import Readable, Sequence


def read_nfs(root: Path, rate: int) -> Readable:
    """Return the sequences at ``rate`` frames a second, 30 or 240.

    Raises:
        UserError: there are none.
    """
    files = sorted(root.glob(f"*/{rate}/*.txt"))
    if not files:
        raise UserError(f"NfS: looked for NAME/{rate}/NAME.txt in {root} and found none")
    return {path.stem: partial(_read, path) for path in files}


def _read(truth: Path) -> Sequence:
    """Read a sequence from its annotation: a line a frame of track, left, top, right, bottom, frame, lost, occluded,
    generated, "label", from the tool VATIC, which counts pixels from 0.

    The published files differ in length, and are read as got10k's toolkit does: of a 30 fps file with a line for each
    of the 240 fps frames every eighth counts; where one image or line is left over after that, it is dropped.
    """
    what = f"sequence {truth.stem}"
    rows = [line.split(maxsplit=9) for line in layout.lines(truth, what)]
    try:
        values = np.array([row[1:9] for row in rows], float)  # [T, 8] without the track and the label, a word
        left, top, right, bottom, _, lost, occluded, _ = values.T
    except ValueError:
        raise UserError(f"{what}: a line of {truth} has not 10 columns (track, box, frame, 3 flags, label)") from None
    paths = layout.images(truth.with_suffix(""), what)
    boxes = np.stack([left, top, right - left, bottom - top], 1)
    step = 8 if abs(len(boxes) / len(paths) - 8) < 1 else 1
    boxes, lost, occluded = boxes[::step], lost[::step] > 0, occluded[::step] > 0
    count = min(len(boxes), len(paths))
    if abs(len(boxes) - len(paths)) > 1:
        layout.same_length(what, len(paths), len(boxes), truth)
    return Sequence(
        truth.stem,
        tuple(paths[:count]),
        layout.started(what, boxes[:count], truth),
        labels={"lost": lost[:count], "occluded": occluded[:count]},
    )
