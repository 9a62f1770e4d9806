"""Which objects are drawn: by source, by track, and as another object for a negative pair."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from siamtrack.data.index import Index
from siamtrack.errors import UserError, nearest

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Groups:
    """Members in groups; draws a member of a group, all equally often.

    Args:
        key: [M] number of the group of each.
        members: [K] those of the M that can be drawn; all unless given.
    """

    def __init__(self, key: Ints, members: Ints | None = None) -> None:
        members = np.arange(len(key)) if members is None else members
        self._members = members[np.argsort(key[members], kind="stable")]
        self._keys, self._start, self._count = np.unique(key[self._members], return_index=True, return_counts=True)

    def draw(self, key: Ints, uniform: Floats) -> Ints:
        """Return a member of each group in ``key``, chosen by a number in [0, 1); -1 where a group has none."""
        if not len(self._keys):
            return np.full(len(key), -1)
        at = np.searchsorted(self._keys, key).clip(max=len(self._keys) - 1)
        chosen = self._members[self._start[at] + (uniform * self._count[at]).astype(np.int64)]
        return np.where(self._keys[at] == key, chosen, -1)


class ObjectSampler:
    """Draws objects of an index. Every method takes B objects (or draws) at once.

    A track and a still's object are an entity each. A source's share is spread evenly over its entities, an entity's
    over its frames.

    Args:
        index: M objects.
        tracks: share of the objects that come from tracks; the others come from stills.
        shares: relative share of a source among those of its kind; the others have the square root of their number of
            objects over the mean of these.
        ranges: largest distance of two frames of a source's tracks.
        default_range: that of sources which ``ranges`` does not name.

    Raises:
        UserError: a name is no source, or all shares are 0.
    """

    def __init__(
        self, index: Index, tracks: float, shares: Mapping[str, float], ranges: Mapping[str, int], default_range: int
    ) -> None:
        names, source = index.pictures.source.values, index.pictures.source.codes[index.picture].astype(np.int64)
        for key, named in (("shares", shares), ("frame_ranges", ranges)):
            for name in named:
                if name not in names:
                    raise UserError(f"sampling.{key} names {name!r}, which is no source{nearest(name, names)}")
        self._index, self._source = index, source
        tracked = index.track >= 0
        frame = index.pictures.frame[index.picture]
        # Entities: tracks by their number, then the objects of stills. Objects sorted by entity, then frame.
        self._entity = np.where(tracked, index.track, index.track.max(initial=-1) + 1 + np.arange(len(index)))
        self._sorted = np.lexsort((frame, self._entity))
        self._rank = np.argsort(self._sorted)
        self._span = int(np.ptp(frame)) + 1
        self._frame = frame - frame.min()
        # One increasing key for both; windows of it are the frames near by.
        self._key = self._entity[self._sorted] * 2 * self._span + self._frame[self._sorted]
        range_of = np.array([ranges.get(name, default_range) for name in names])
        self._range = np.minimum(range_of[source], self._span - 1)
        self._kind = 2 * source + tracked  # a group: the tracks of a source, or its stills
        entity, first = np.unique(self._entity, return_index=True)
        self._entities = Groups(self._kind[first])
        self._entity_numbers = entity
        self._frames = Groups(self._entity)
        self._pictures = Groups(index.picture)
        self.has_mask = index.mask.filled
        self._masked = Groups(source, np.flatnonzero(self.has_mask))
        self._label = index.label.codes.astype(np.int64)
        labelled = index.label.among({*index.label.values} - {""})
        self._labelled = Groups(self._label, np.flatnonzero(labelled))
        self._masked_labelled = Groups(self._label, np.flatnonzero(labelled & self.has_mask))
        self._edges = np.cumsum(self._weights(names, tracks, shares))

    def _weights(self, names: tuple[str, ...], tracks: float, shares: Mapping[str, float]) -> Floats:
        """Return the probability of each group. Shape: [2 sources]."""
        count = np.bincount(self._kind, minlength=2 * len(names)).reshape(-1, 2)  # stills, tracks
        root = np.sqrt(count)
        average = root.sum(0) / (count > 0).sum(0).clip(min=1)
        share = root / np.where(average > 0, average, 1)
        for name, value in shares.items():
            share[names.index(name)] = value * (count[names.index(name)] > 0)
        total = share.sum(0)
        if not total.any():
            raise UserError("sampling.shares are all 0; give at least one source a share")
        kinds = np.array([1 - tracks, tracks]) * (total > 0)
        if not kinds.any():  # only the other kind is there
            kinds = (total > 0).astype(float)
        return np.asarray((share / np.where(total > 0, total, 1) * (kinds / kinds.sum())).ravel())

    def draw(self, rng: np.random.Generator, batch: int) -> Ints:
        """Return objects: a source by its share, an entity of it, a frame of that."""
        group, entity, frame = rng.random((3, batch))
        kind = np.searchsorted(self._edges, group, side="right").clip(max=len(self._edges) - 1)
        return self._of_kind(kind, entity, frame)

    def _of_kind(self, kind: Ints, entity: Floats, frame: Floats) -> Ints:
        return self._frames.draw(self._entity_numbers[self._entities.draw(kind, entity)], frame)

    def partner(self, rng: np.random.Generator, objects: Ints) -> Ints:
        """Return each object in a frame near by, which may be its own; a still's object itself."""
        at = self._entity[objects] * 2 * self._span + self._frame[objects]
        low = np.searchsorted(self._key, at - self._range[objects])
        high = np.searchsorted(self._key, at + self._range[objects], side="right")
        return np.asarray(self._sorted[low + (rng.random(len(objects)) * (high - low)).astype(np.int64)])

    def same_source(self, rng: np.random.Generator, objects: Ints) -> Ints:
        """Return objects of the same source and kind."""
        return self._of_kind(self._kind[objects], *rng.random((2, len(objects))))

    def same_label(self, rng: np.random.Generator, objects: Ints) -> Ints:
        """Return objects of the same class each, from any source; -1 where the class is not known."""
        return self._labelled.draw(self._label[objects], rng.random(len(objects)))

    def same_picture(self, rng: np.random.Generator, objects: Ints) -> Ints:
        """Return an object of the same picture each; by chance the same one."""
        return self._pictures.draw(self._index.picture[objects], rng.random(len(objects)))

    def look_alike(self, rng: np.random.Generator, objects: Ints) -> Ints:
        """Return something with a mask that looks like each object; -1 where there is nothing.

        That is the object itself, in another frame if it has a track; without masks, an object of the same class or,
        if there is none, of the same source.
        """
        partner = self.partner(rng, objects)
        itself = np.where(self.has_mask[partner], partner, np.where(self.has_mask[objects], objects, -1))
        kin = self._masked_labelled.draw(self._label[objects], rng.random(len(objects)))
        neighbour = self._masked.draw(self._source[objects], rng.random(len(objects)))
        return np.where(itself >= 0, itself, np.where(kin >= 0, kin, neighbour))

    def same(self, a: Ints, b: Ints) -> Bools:
        """Return whether a and b are the same object, be it in different frames."""
        same: Bools = self._entity[a] == self._entity[b]
        return same
