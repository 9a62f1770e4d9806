"""Pairs of a template and a search region, drawn so that the target may be anywhere (SiamRPN++, section 3.1).

Everything random about a batch's geometry and colour is drawn here, in numpy, from the seed and the number of the
step: a run is the same on every device, and goes on exactly where it stopped.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from siamtrack.config import Config
from siamtrack.data.index import Index
from siamtrack.errors import UserError, nearest
from siamtrack.tracking.crop import context_side

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Probability = float


class SideConfig(Config):
    """How the template or the search region varies."""

    shift: float = Field(0, ge=0)
    """The target's centre is uniform within this many pixels (of the crop) of the middle, in x and y."""
    scale: float = Field(0, ge=0, lt=1)
    """Width and height of the window vary by this share, independently."""
    blur: Probability = Field(0, ge=0, le=1)
    """Probability of a motion blur, a cross of lines of 5 to 45 pixels."""
    color: Probability = Field(1, ge=0, le=1)
    """Probability of a colour offset along the principal components of natural images."""
    jitter: float = Field(0, ge=0, lt=1)
    """Brightness, contrast and saturation vary by this share."""


class SamplingConfig(Config):
    """Which pairs are drawn, and how they vary: the keys of a preset's ``train.sampling`` section."""

    template: SideConfig = SideConfig(shift=4, scale=0.05)
    """The template."""
    search: SideConfig = SideConfig(shift=64, scale=0.18, blur=0.2)
    """The search region."""
    negative: Probability = Field(0.2, ge=0, le=1)
    """Probability that template and search region show different objects."""
    frame_range: NonNegativeInt = 100
    """Largest distance of the two frames of a track, in frames."""
    gray: Probability = Field(0, ge=0, le=1)
    """Probability that both crops are grey."""
    flip: Probability = Field(0, ge=0, le=1)
    """Probability that both crops are mirrored."""
    shuffle: Probability = Field(0, ge=0, le=1)
    """Probability that both crops have their colour channels exchanged in the same way."""
    background: Probability = Field(0, ge=0, le=1)
    """Probability, for each crop, that another picture stands behind: behind the target where it has a mask,
    otherwise beyond the picture's border."""
    distractor: Probability = Field(0, ge=0, le=1)
    """Probability that another object (one with a mask) is pasted beside the target of the search region."""
    similar: Probability = Field(0, ge=0, le=1)
    """Probability that the other object of a negative pair comes from the same source (DaSiamRPN, section 3.2:
    distractors of the same kind)."""
    tracks: Probability = Field(0.5, ge=0, le=1)
    """Share of pairs from two frames of a track; the others are made of one still. Without tracks or stills all are of
    the other kind."""
    shares: dict[str, float] = Field(default_factory=dict)
    """Relative share of a source among those of its kind (tracks or stills), where 1 is an average one; sources that
    are not named have the square root of their number of objects over the mean of these."""


@dataclass(frozen=True)
class Side:
    """B crops: what they show and how. Lengths in pixels of the picture unless said otherwise."""

    picture: Ints
    """[B] number of the picture."""
    box: Floats
    """[B, 4] x, y, w, h of the target."""
    mask: Ints
    """[B] number of the target's object in the index if it has a mask, else -1."""
    center: Floats
    """[B, 2] middle of the window."""
    pixel: Floats
    """[B, 2] width and height of a pixel of the crop."""
    background: Ints
    """[B] number of the picture behind, -1 for the mean colour."""
    background_center: Floats
    """[B, 2] middle of the window in that picture, as shares of its size."""
    blur: Ints
    """[B] length of the blur in pixels of the crop, 0 for none."""
    blur_split: Floats
    """[B] share of the vertical line in the blur."""
    color: Floats
    """[B, 3, 4] affine map of BGR values 0..255."""


@dataclass(frozen=True)
class Donors:
    """K objects to paste into search regions."""

    pair: Ints
    """[K] into which of the B search regions."""
    object: Ints
    """[K] number of an object with a mask."""
    offset: Floats
    """[K, 2] from the target's middle to the donor's, in square roots of the target's area."""
    scale: Floats
    """[K] square root of the donor's area over that of the target's."""


@dataclass(frozen=True)
class Pairs:
    """B pairs."""

    template: Side
    search: Side
    negative: Bools
    """[B] whether the two show different objects."""
    flip: Bools
    """[B] whether both are mirrored."""
    donors: Donors
    """What is pasted into the search regions."""


# Principal components of natural images' colour (RGB rows), scaled for N(0, 1) (AlexNet, NIPS 2012, section 4.1;
# the figures that PySOT uses). Reversed to BGR below.
_COLOR_COMPONENTS = np.array(
    [
        [-0.55919361, 0.98062831, -0.41940627],
        [1.72091413, 0.19879334, -1.82968581],
        [4.64467907, 4.73710203, 4.88324118],
    ]
)[::-1]
_LUMA = np.array([0.114, 0.587, 0.299])  # BGR


class PairSampler:
    """Draws pairs from an index.

    Raises:
        UserError: a share names no source, or all shares are 0.
    """

    def __init__(self, index: Index, config: SamplingConfig, template_size: int) -> None:
        self.index, self.config, self.template_size = index, config, template_size
        self._frame = np.array([index.pictures[picture].frame for picture in index.picture])
        self._groups, self._weights = self._group(config)
        self._members = {track: np.flatnonzero(index.track == track) for track in np.unique(index.track) if track >= 0}
        self._has_mask = index.mask.filled
        self._donors = np.flatnonzero(self._has_mask)

    def _group(self, config: SamplingConfig) -> tuple[list[list[Ints]], Floats]:
        """Return groups of entities, and the probability of each group.

        A group is the tracks of a source, or its stills; a track and a still's object are an entity each. Entities of
        a group are drawn equally often, and so are the objects (frames) of a track.
        """
        sources = np.array(self.index.sources())
        names = sorted(set(sources.tolist()))
        for name in config.shares:
            if name not in names:
                raise UserError(f"sampling.shares names {name!r}, which is no source{nearest(name, names)}")
        groups: list[list[Ints]] = []
        weights: list[float] = []
        for tracked, kind in ((True, config.tracks), (False, 1 - config.tracks)):
            chosen = {name: np.flatnonzero((sources == name) & ((self.index.track >= 0) == tracked)) for name in names}
            roots = {name: np.sqrt(len(objects)) for name, objects in chosen.items() if len(objects)}
            average = np.mean(list(roots.values())) if roots else 1.0
            shares = {name: config.shares.get(name, root / average) for name, root in roots.items()}
            for name, share in shares.items():
                if share > 0:
                    track = self.index.track[chosen[name]]
                    entities = (
                        [chosen[name][track == t] for t in np.unique(track)] if tracked else chosen[name][:, None]
                    )
                    groups.append(list(entities))
                    weights.append(kind * share / sum(shares.values()))
        if not groups:
            raise UserError("sampling.shares are all 0; give at least one source a share")
        weight = np.array(weights) if sum(weights) > 0 else np.ones(len(weights))  # only the other kind is there
        return groups, weight / weight.sum()

    def draw(self, rng: np.random.Generator, batch: int) -> Pairs:
        """Return ``batch`` pairs."""
        config = self.config
        template, groups = self._objects(rng, batch)
        search = np.array([self._partner(rng, number) for number in template])
        negative = rng.random(batch) < config.negative
        alike = rng.random(batch) < config.similar
        other, _ = self._objects(rng, batch, np.where(alike, groups, -1))
        search = np.where(negative, other, search)
        # By chance the other object can be the same one; then it is a positive pair.
        negative &= ~self._same(template, search)
        shared = self._shared_colors(rng, batch)

        return Pairs(
            template=self._side(rng, config.template, template, shared),
            search=self._side(rng, config.search, search, shared),
            negative=negative,
            flip=rng.random(batch) < config.flip,
            donors=self._draw_donors(rng, batch),
        )

    def _same(self, a: Ints, b: Ints) -> Bools:
        same: Bools = (a == b) | ((self.index.track[a] >= 0) & (self.index.track[a] == self.index.track[b]))
        return same

    def _objects(self, rng: np.random.Generator, batch: int, groups: Ints | None = None) -> tuple[Ints, Ints]:
        """Draw objects: a group by its share (unless ``groups`` says which), an entity of it, an object of that."""
        drawn = rng.choice(len(self._groups), batch, p=self._weights)
        if groups is not None:
            drawn = np.where(groups >= 0, groups, drawn)
        chosen = []
        for group in drawn:
            entities = self._groups[group]
            chosen.append(rng.choice(entities[int(rng.integers(len(entities)))]))
        return np.array(chosen, np.int64), drawn

    def _partner(self, rng: np.random.Generator, number: int) -> int:
        """Draw the same object in a frame near by; the same picture for a still."""
        track = int(self.index.track[number])
        if track < 0:
            return number
        members = self._members[track]
        near = members[np.abs(self._frame[members] - self._frame[number]) <= self.config.frame_range]
        return int(rng.choice(near))

    def _side(self, rng: np.random.Generator, config: SideConfig, objects: Ints, shared: Floats) -> Side:
        """Draw windows about objects."""
        batch = len(objects)
        box = self.index.box[objects].astype(float)
        context = context_side(box[:, 2:])  # pixels of the picture that the template shows
        pixel = (context / self.template_size)[:, None]  # pixels of the picture in a pixel of the crop
        shift = rng.uniform(-1, 1, (batch, 2)) * config.shift * pixel
        stretch = 1 + rng.uniform(-1, 1, (batch, 2)) * config.scale
        blurred = rng.random(batch) < config.blur
        return Side(
            picture=self.index.picture[objects],
            box=box,
            mask=np.where(self._has_mask[objects], objects, -1),
            center=box[:, :2] + box[:, 2:] / 2 + shift,
            pixel=pixel * stretch,
            background=np.where(
                rng.random(batch) < self.config.background,
                rng.integers(len(self.index.pictures), size=batch),
                -1,
            ),
            background_center=rng.uniform(0.3, 0.7, (batch, 2)),
            blur=np.where(blurred, rng.integers(2, 23, batch) * 2 + 1, 0),
            blur_split=rng.random(batch),
            color=_compose(self._own_colors(rng, config, batch), shared),
        )

    def _shared_colors(self, rng: np.random.Generator, batch: int) -> Floats:
        """Draw the colour changes that both crops of a pair share. Shape: [B, 3, 4]."""
        maps = np.tile(np.eye(3, 4), (batch, 1, 1))
        for number in np.flatnonzero(rng.random(batch) < self.config.shuffle):
            maps[number, :, :3] = np.eye(3)[rng.permutation(3)]
        grey = rng.random(batch) < self.config.gray
        maps[grey, :, :3] = _LUMA
        return maps

    def _own_colors(self, rng: np.random.Generator, config: SideConfig, batch: int) -> Floats:
        """Draw the colour changes of one crop. Shape: [B, 3, 4]."""
        offset = rng.standard_normal((batch, 3)) @ _COLOR_COMPONENTS.T
        offset *= (rng.random(batch) < config.color)[:, None]
        gain, contrast, saturation = (1 + rng.uniform(-1, 1, (3, batch)) * config.jitter)[..., None, None]
        maps = np.zeros((batch, 3, 4))
        maps[..., :3] = gain * contrast * (saturation * np.eye(3) + (1 - saturation) * _LUMA)
        maps[..., 3] = 128 * gain[..., 0] * (1 - contrast[..., 0]) - offset
        return maps

    def _draw_donors(self, rng: np.random.Generator, batch: int) -> Donors:
        pair = np.flatnonzero(rng.random(batch) < self.config.distractor)
        if not len(self._donors):
            pair = pair[:0]
        count = len(pair)
        angle, distance = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.7, 1.7, count)
        return Donors(
            pair=pair,
            object=self._donors[rng.integers(max(1, len(self._donors)), size=count)],
            offset=np.stack([np.cos(angle), np.sin(angle)], -1) * distance[:, None],
            scale=rng.uniform(0.7, 1.4, count),
        )


def _compose(after: Floats, before: Floats) -> Floats:
    """Return the affine colour map that applies ``before``, then ``after``. Shapes: [B, 3, 4]."""
    linear = after[..., :3] @ before[..., :3]
    constant = after[..., :3] @ before[..., 3:] + after[..., 3:]
    return np.concatenate([linear, constant], -1)
