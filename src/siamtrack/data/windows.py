"""Which part of a picture is kept for training, and how large.

A picture that fits the canvas is kept whole, once. Of a larger one a window about each object is kept, as far as shift
and scale take a search region, scaled down to the canvas where it is larger. What a turned or tilted search region
shows beyond that counts as outside the picture: larger windows would cost all the others resolution.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siamtrack.data.index import Index
from siamtrack.data.pairs import SamplingConfig, reach
from siamtrack.tracking.crop import context_side

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Windows:
    """C windows that show the M objects of an index, and K masks."""

    canvas: int
    """No window is kept larger than this many pixels a side."""
    picture: Ints
    """[C] number of the picture; ascending."""
    part: Ints
    """[C, 4] x, y, w, h in pixels of the picture."""
    size: Ints
    """[C, 2] width and height as kept."""
    of_object: Ints
    """[M] number of an object's window."""
    masked: Ints
    """[K] numbers of the objects with a mask."""
    mask_of: Ints
    """[M] number of an object's mask, -1 for none."""

    @property
    def area(self) -> Floats:
        """[M, 4] x, y, w, h of the part of each object's picture that is kept."""
        return self.part[self.of_object].astype(float)

    def placed(self, objects: Ints, view: Floats, window: Floats) -> tuple[Floats, Floats]:
        """Return views and windows [R, 3, 3] and [R, 4] of pictures as those of the windows that show ``objects``."""
        number = self.of_object[objects]
        origin, size = self.part[number, :2], self.size[number]
        scale = size / self.part[number, 2:]
        view = view.copy()
        view[:, :2] = (view[:, :2] - origin[..., None] * view[:, 2:]) * scale[..., None]
        window = ((window.reshape(-1, 2, 2) - origin[:, None]) * scale[:, None]).clip(0, size[:, None])
        return view, window.reshape(-1, 4)


def lay_windows(index: Index, config: SamplingConfig, template_size: int, search_size: int, canvas: int) -> Windows:
    """Return the windows that pairs drawn by ``config`` need."""
    width, height = index.size[index.picture].T
    whole = np.maximum(width, height) <= canvas
    box = index.box.astype(float)
    half = context_side(box[:, 2:]) * max(
        reach(config.search, search_size, template_size), reach(config.template, template_size, template_size)
    )
    middle = box[:, :2] + box[:, 2:] / 2
    frame = np.stack([width, height], 1)
    low = np.floor(middle - half[:, None]).clip(0).astype(np.int64)
    high = np.minimum(np.ceil(middle + half[:, None]).astype(np.int64), frame)
    low[whole], high[whole] = 0, frame[whole]

    # One window a picture that is whole, one an object otherwise, in the order of pictures.
    own = np.where(whole, 0, 1 + np.arange(len(index)))
    order = np.lexsort((own, index.picture))
    first = np.ones(len(index), bool)
    first[1:] = (index.picture[order][1:] != index.picture[order][:-1]) | (own[order][1:] > 0)
    of_object = np.empty(len(index), np.int64)
    of_object[order] = np.cumsum(first) - 1
    kept = order[first]
    part = np.concatenate([low, high - low], 1)[kept]
    shrink = np.minimum(1, canvas / part[:, 2:].max(1))
    size = np.rint(part[:, 2:] * shrink[:, None]).astype(np.int64).clip(1, canvas)
    masked = np.flatnonzero(index.mask.filled)
    mask_of = np.full(len(index), -1)
    mask_of[masked] = np.arange(len(masked))
    return Windows(canvas, index.picture[kept], part, size, of_object, masked, mask_of)
