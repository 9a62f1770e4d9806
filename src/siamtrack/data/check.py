"""Whether all pictures and masks of an index can be decoded."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from siamtrack.data.columns import Texts
from siamtrack.data.index import Index
from siamtrack.data.pictures import PictureReader
from siamtrack.data.records import Rejection
from siamtrack.errors import UserError

_AT_ONCE = 256


def decodable(index: Index, tell: Callable[[int], None] = lambda count: None) -> Index:
    """Return the index without the pictures that cannot be decoded, and without such masks; both are listed.

    Args:
        index: what is checked; all its pictures are read.
        tell: called with the number of pictures that have been read.

    Raises:
        UserError: nothing is left.
    """
    reader = PictureReader(index.root)
    order = np.argsort(index.picture, kind="stable")
    ends = np.searchsorted(index.picture[order], np.arange(len(index.pictures) + 1))
    rejected = list(index.rejected)
    no_picture, no_mask = np.zeros(len(index), bool), np.zeros(len(index), bool)

    def problems(number: int) -> list[tuple[int, str]]:
        """Return what is wrong with a picture (-1) and the masks of its objects."""
        picture = index.pictures[number]
        try:
            reader.picture(picture)
        except UserError as error:
            return [(-1, str(error))]
        found = []
        for thing in order[ends[number] : ends[number + 1]].tolist():
            try:
                if index.mask[thing]:
                    reader.mask(picture, index.mask[thing])
            except UserError as error:
                found.append((thing, str(error)))
        return found

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(index.pictures), _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, len(index.pictures)))
            for number, found in zip(numbers, pool.map(problems, numbers), strict=True):
                for thing, why in found:
                    reason = "picture cannot be decoded" if thing < 0 else "mask cannot be decoded (the box is kept)"
                    rejected.append(Rejection(index.pictures.source[number], why, reason))
                    if thing < 0:
                        no_picture[order[ends[number] : ends[number + 1]]] = True
                    else:
                        no_mask[thing] = True
            tell(numbers[-1] + 1)
    if no_picture.all():
        raise UserError(f"no picture of the index can be decoded; the first: {rejected[-1]}")
    if no_mask.any():
        masks = Texts.of("" if bad else mask for bad, mask in zip(no_mask, index.mask, strict=True))
        index = replace(index, mask=masks)
    if no_picture.any():
        index = index.take(np.flatnonzero(~no_picture))
    return replace(index, rejected=rejected)
