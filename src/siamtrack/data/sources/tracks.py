"""What readers of videos share."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes
from siamtrack.data.records import Object, Record, Rejection
from siamtrack.errors import UserError

Item = TypeVar("Item")


def sequences(
    source: str, items: Iterable[Item], read: Callable[[Item], Iterator[Record | Rejection] | Iterator[Record]]
) -> Iterator[Record | Rejection]:
    """Yield what ``read`` yields of each item; one that is not as it should be is left out and listed."""
    for item in items:
        try:
            yield from read(item)
        except UserError as error:
            yield Rejection(source, str(error), "sequence incomplete or damaged")


def one_object(
    video: str,
    paths: Sequence[Path],
    boxes: Boxes,
    absent: NDArray[np.bool_],
    label: str = "",
    visible: NDArray[np.float64] | None = None,
) -> Iterator[Record]:
    """Yield the frames of a video with one object.

    Shapes: T paths; boxes [T, 4] x, y, w, h; absent, visible [T].
    """
    for number, (path, box) in enumerate(zip(paths, boxes.tolist(), strict=True)):
        share = 1.0 if visible is None else float(visible[number])
        yield Record(path, [Object(None if absent[number] else tuple(box), 0, label, share)], video, number)
