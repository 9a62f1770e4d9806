"""TrackingNet (Müller et al., ECCV 2018): ``TRAIN_0/frames/NAME/0.jpg``, ``TRAIN_0/anno/NAME.txt``, to ``TRAIN_11``."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from siamtrack.data import layout
from siamtrack.data.records import Record, Rejection
from siamtrack.data.sources.tracks import one_object, sequences
from siamtrack.errors import UserError


def read_trackingnet(root: Path) -> Iterator[Record | Rejection]:
    """Yield the frames of the training parts that there are; ``root`` holds them, or is one of them.

    Raises:
        UserError: there are none.
    """
    parts = sorted(root.glob("TRAIN_*"), key=layout.number) or [root]
    files = [path for part in parts for path in sorted((part / "anno").glob("*.txt"))]
    if not files:
        raise UserError(f"TrackingNet: looked for TRAIN_0/anno/NAME.txt in {root} and found none")
    yield from sequences("trackingnet", files, _read)


def _read(truth: Path) -> Iterator[Record]:
    what = f"sequence {truth.stem}"
    boxes = layout.table(truth, what, 4)
    paths = layout.images(truth.parents[1] / "frames" / truth.stem, what)
    layout.same_length(what, len(paths), len(boxes), truth)
    return one_object(truth.stem, paths, boxes, np.zeros(len(boxes), bool))
