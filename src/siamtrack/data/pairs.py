"""Pairs of a template and a search region, drawn so that the target may be anywhere (SiamRPN++, section 3.1).

Everything random about a batch's geometry and colour is drawn here, in numpy, from the seed and the number of the
step: a run is the same on every device, and goes on exactly where it stopped.
"""

import itertools
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator

from siamtrack.config import Config
from siamtrack.data.index import Index
from siamtrack.data.objects import ObjectSampler
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
    rotate: float = Field(0, ge=0, le=180)
    """The window is turned about the target by up to this many degrees."""
    aspect: float = Field(0, ge=0, le=1)
    """Width and height of a still's window are multiplied by up to exp(aspect) or exp(-aspect), independently."""
    shear: float = Field(0, ge=0, lt=1)
    """A still is sheared along x by up to this share of the distance to the target in y."""
    perspective: float = Field(0, ge=0, le=0.25)
    """A still is tilted: over half a window, in x and in y, its scale changes by up to about this share."""
    lowres: Probability = Field(0, ge=0, le=1)
    """Probability that the crop has a half, third or quarter of its resolution."""
    noise: float = Field(0, ge=0, le=64)
    """Standard deviation of the noise of a crop's pixels is uniform up to this many of 255 levels."""


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
    frame_ranges: dict[str, NonNegativeInt] = Field(default_factory=dict)
    """The same for single sources, in frames of theirs."""
    gray: Probability = Field(0, ge=0, le=1)
    """Probability that both crops are grey."""
    flip: Probability = Field(0, ge=0, le=1)
    """Probability that both crops are mirrored."""
    shuffle: Probability = Field(0, ge=0, le=1)
    """Probability that both crops have their colour channels exchanged in the same way."""
    background: Probability = Field(0, ge=0, le=1)
    """Probability, for each crop, that another picture stands behind: behind the target where it has a mask,
    otherwise beyond the picture's border."""
    copies: Probability = Field(0, ge=0, le=1)
    """Probability that the target itself, from another frame of its track or the same still, is pasted once more into
    the search region, by its mask and somewhat altered; where it has no mask, another object of its class or source."""
    occlude: Probability = Field(0, ge=0, le=1)
    """Probability that something covers 20 to 60 % of the target's box in the search region: a piece of another
    picture or an object with a mask. The box to be found stays whole."""
    distractor: Probability = Field(0, ge=0, le=1)
    """Probability that another object (one with a mask) is pasted beside the target of the search region."""
    similar: Probability = Field(0, ge=0, le=1)
    """Probability that the other object of a negative pair comes from the same source (DaSiamRPN, section 3.2:
    distractors of the same kind)."""
    category: Probability = Field(0, ge=0, le=1)
    """Probability that the other object of a negative pair is of the same class, from any source; from the same source
    where the class is not known or nothing else is of it (DaSiamRPN, section 3.2)."""
    elsewhere: Probability = Field(0, ge=0, le=1)
    """Probability that a negative pair shows another object of the target's own picture or, where there is none, a
    place of that picture without the target."""
    tracks: Probability = Field(0.5, ge=0, le=1)
    """Share of pairs from two frames of a track; the others are made of one still. Without tracks or stills all are of
    the other kind."""
    shares: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """Relative share of a source among those of its kind (tracks or stills), where 1 is an average one; sources that
    are not named have the square root of their number of objects over the mean of these."""

    @model_validator(mode="after")
    def _kinds_of_negatives_fit(self) -> Self:
        if self.similar + self.category + self.elsewhere > 1:
            raise ValueError(
                f"similar {self.similar}, category {self.category} and elsewhere {self.elsewhere} exceed 1 together"
            )
        return self


@dataclass(frozen=True)
class Layers:
    """R windows of pictures, each a layer of one of B crops.

    Points of a crop are in pixels about its middle, points of a picture in pixels from its top left corner.
    """

    crop: Ints
    """[R] number of the crop."""
    object: Ints
    """[R] the object whose picture is shown."""
    masked: Bools
    """[R] whether only what lies in the object's mask is shown."""
    view: Floats
    """[R, 3, 3] homography from points of the crop to points of the picture."""
    window: Floats
    """[R, 4] left, top, right, bottom of the part of the picture that is shown."""
    color: Floats
    """[R, 3, 4] affine map of BGR values 0..255."""
    counts: tuple[int, ...]
    """Numbers of rows, in order: the B crops' own pictures; what stands behind them; then, from back to front, each
    kind of object pasted over them. A crop is in each kind at most once."""


@dataclass(frozen=True)
class Side:
    """B crops: the templates or the search regions."""

    object: Ints
    """[B] number of the object."""
    box: Floats
    """[B, 4] x, y, w, h of what the crop is about, in pixels of the picture; the object's box, but for a negative that
    shows a place without it."""
    has_mask: Bools
    """[B] whether the crop is about the object and that has a mask."""
    layers: Layers
    """What is seen; the first B rows are the crops' own pictures."""
    blur: Ints
    """[B] length of the blur in pixels of the crop, 0 for none."""
    blur_split: Floats
    """[B] share of the vertical line in the blur."""
    lowres: Ints
    """[B] pixels of the crop, in x and in y, that show one value; 1 for full resolution."""
    noise: Floats
    """[B] standard deviation of the pixels' noise."""


@dataclass(frozen=True)
class Pairs:
    """B pairs."""

    template: Side
    search: Side
    negative: Bools
    """[B] whether the two show different objects."""
    seed: int
    """Seed of the pixels' noise."""


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
_ORDERS = np.array(list(itertools.permutations(range(3))))
_MIRROR = np.array([-1.0, 1, 1])


class PairSampler:
    """Draws pairs from an index.

    ``draw`` is a function of its generator alone. Seeded with the run's seed, the number of the step and that of the
    process, pairs are the same for any number of workers, and a run goes on in the middle of an epoch from the number
    of its step.

    Args:
        index: the objects.
        config: which pairs, and how they vary.
        template_size: pixels of the template's side.
        search_size: pixels of the search region's side.
        area: [M, 4] x, y, w, h of the part of each object's picture that can be shown; all of it unless given.

    Raises:
        UserError: a share or frame range names no source, or all shares are 0.
    """

    def __init__(
        self,
        index: Index,
        config: SamplingConfig,
        template_size: int,
        search_size: int,
        area: Floats | None = None,
    ) -> None:
        self.index, self.config, self.template_size, self.search_size = index, config, template_size, search_size
        self._objects = ObjectSampler(index, config.tracks, config.shares, config.frame_ranges, config.frame_range)
        self._donors = np.flatnonzero(self._objects.has_mask)
        whole = np.concatenate([np.zeros((len(index), 2)), index.size[index.picture]], 1)
        self._area = whole if area is None else area
        self._still = index.track < 0

    def draw(self, rng: np.random.Generator, batch: int) -> Pairs:
        """Return ``batch`` pairs."""
        template = self._objects.draw(rng, batch)
        search, box, empty = self._search_objects(rng, template)
        # By chance the other object can be the same one; then it is a positive pair.
        negative = empty | ~self._objects.same(template, search)
        shared, flip = self._shared_colors(rng, batch), rng.random(batch) < self.config.flip
        own = self.index.box[template].astype(float)
        masked = self._objects.has_mask
        return Pairs(
            template=self._side(rng, self.config.template, template, own, masked[template], shared, flip, None),
            search=self._side(
                rng, self.config.search, search, box, masked[search] & ~empty, shared, flip, self.search_size
            ),
            negative=negative,
            seed=int(rng.integers(2**62)),
        )

    def _search_objects(self, rng: np.random.Generator, template: Ints) -> tuple[Ints, Floats, Bools]:
        """Return what the search regions show, its box, and whether that is a place without the target."""
        config, batch = self.config, len(template)
        partner = self._objects.partner(rng, template)
        anywhere = self._objects.draw(rng, batch)
        similar, alike = self._objects.same_source(rng, template), self._objects.same_label(rng, template)
        alike = np.where((alike < 0) | self._objects.same(alike, template), similar, alike)
        beside = self._objects.same_picture(rng, partner)
        place, free = self._free_places(rng, partner)
        negative, kind = rng.random((2, batch))

        found = ~self._objects.same(beside, template) & self._apart(beside, partner)
        elsewhere = (kind >= 1 - config.elsewhere) & (found | free)
        choices = [kind < config.similar, kind < config.similar + config.category, elsewhere & found, elsewhere]
        other = np.select(choices, [similar, alike, beside, partner], anywhere)
        search = np.where(negative < config.negative, other, partner)
        empty = (negative < config.negative) & ~choices[1] & elsewhere & ~found
        box = self.index.box[search].astype(float)
        box[empty, :2] = place[empty] - box[empty, 2:] / 2
        return search, box, empty

    def _apart(self, a: Ints, b: Ints) -> Bools:
        """Return whether the boxes of objects of one picture overlap little. Shapes: [B]."""
        first, second = (self.index.box[objects].astype(float) for objects in (a, b))
        for box in (first, second):
            box[:, :2] += box[:, 2:] / 2
        return _overlap(first[:, None], second)[:, 0] < 0.2

    def _free_places(self, rng: np.random.Generator, objects: Ints) -> tuple[Floats, Bools]:
        """Return a place in each object's picture that a search region can be about without showing the object.

        Shapes: place [B, 2] in pixels of the picture; and [B] whether there is one (among eight tried).
        """
        box, area = self.index.box[objects].astype(float), self._area[objects]
        places = area[:, None, :2] + rng.random((len(objects), 8, 2)) * area[:, None, 2:]
        farthest = reach(self.config.search, self.search_size, self.template_size) * _spread(self.config.search)
        half = context_side(box[:, 2:]) * farthest
        distance = np.abs(places - (box[:, :2] + box[:, 2:] / 2)[:, None]) - box[:, None, 2:] / 2  # [B, 8, 2]
        free = np.asarray((distance > half[:, None, None]).any(-1))
        return _first(places, free), np.asarray(free.any(1))

    def _side(
        self,
        rng: np.random.Generator,
        config: SideConfig,
        objects: Ints,
        box: Floats,
        has_mask: Bools,
        shared: Floats,
        flip: Bools,
        pasted_into: int | None,
    ) -> Side:
        """Draw windows about ``box``; into those of ``pasted_into`` pixels a side, objects are pasted."""
        batch, size = len(objects), pasted_into or self.template_size
        view, target = self._windows(rng, config, box, self._still[objects], size)
        color = _compose(_own_colors(rng, config.color, config.jitter, batch), shared)
        rows = np.arange(batch)
        layers = [self._layer(rows, objects, has_mask, view, color), self._behind(rng, size, color)]
        if pasted_into:
            layers += self._pasted(rng, objects, target, size, color)
        mirrored = np.where(flip[:, None], _MIRROR, 1.0)  # [B, 3]
        blurred, coarse = rng.random((2, batch))
        return Side(
            object=objects,
            box=box,
            has_mask=has_mask,
            layers=_join(layers, mirrored),
            blur=np.where(blurred < config.blur, rng.integers(2, 23, batch) * 2 + 1, 0),
            blur_split=rng.random(batch),
            lowres=np.where(coarse < config.lowres, rng.integers(2, 5, batch), 1),
            noise=rng.random(batch) * config.noise,
        )

    def _windows(
        self, rng: np.random.Generator, config: SideConfig, box: Floats, still: Bools, size: int
    ) -> tuple[Floats, Floats]:
        """Return windows about boxes, and where the boxes are in them: [B, 3, 3] and [B, 4] as cx, cy, w, h.

        The point u of a crop shows the point m + L (u - t) / (1 + g . (u - t)) of the picture: m is the middle of the
        box, t its place in the crop, L turns, shears and stretches, g tilts.
        """
        drawn, still = rng.uniform(-1, 1, (10, len(box))), still.astype(float)
        pixel = context_side(box[:, 2:]) / self.template_size  # pixels of the picture in a pixel of the crop
        scale = 1 + drawn[:2] * config.scale
        place = -drawn[2:4] * config.shift / scale
        stretch = pixel * scale * np.exp(drawn[4:6] * config.aspect * still)
        angle, shear = drawn[6] * np.radians(config.rotate), drawn[7] * config.shear * still
        cos, sin = np.cos(angle), np.sin(angle)
        linear = np.array([[cos, shear * cos - sin], [sin, shear * sin + cos]]) * stretch  # [2, 2, B]
        tilt = drawn[8:] * config.perspective * still / (size / 2)
        steepest = (np.abs(tilt) * (size / 2 + np.abs(place))).sum(0)  # what a corner's depth can lack of 1
        tilt *= 0.8 / np.maximum(steepest, 0.8)

        middle = (box[:, :2] + box[:, 2:] / 2).T
        view = np.empty((3, 3, len(box)))
        view[:2, :2] = linear + middle[:, None] * tilt
        view[2, :2] = tilt
        view[:2, 2], view[2, 2] = middle, 1
        view[:, 2] -= (view[:, :2] * place).sum(1)

        # The box in the crop is that of the ellipse in it, before the tilt.
        determinant = linear[0, 0] * linear[1, 1] - linear[0, 1] * linear[1, 0]
        inverse = np.array([[linear[1, 1], -linear[0, 1]], [-linear[1, 0], linear[0, 0]]]) / determinant
        extent = np.sqrt(((inverse * box[:, 2:].T) ** 2).sum(1))
        return view.transpose(2, 0, 1), np.concatenate([place, extent]).T

    def _layer(
        self, crops: Ints, objects: Ints, masked: Bools, view: Floats, color: Floats, window: Floats | None = None
    ) -> Layers:
        """Return one layer for each of ``crops``; ``window`` [R, 4] is the whole picture unless given."""
        if window is None:
            area = self._area[objects]
            window = np.concatenate([area[:, :2], area[:, :2] + area[:, 2:]], 1)
        return Layers(crops, objects, masked, view, window, color, (len(crops),))

    def _behind(self, rng: np.random.Generator, size: int, color: Floats) -> Layers:
        """Draw what stands behind the crops' own pictures."""
        batch = len(color)
        objects, share = rng.integers(len(self.index), size=batch), rng.uniform(0.3, 0.7, (batch, 2))
        rows = np.flatnonzero(rng.random(batch) < self.config.background)
        area = self._area[objects[rows]]
        # The window is 0.6 of the other picture's shorter side, and so inside it wherever its middle is drawn.
        pixel = 0.6 * area[:, 2:].min(1) / size
        view = _straight(area[:, :2] + share[rows] * area[:, 2:], np.zeros((len(rows), 2)), pixel[:, None])
        return self._layer(rows, objects[rows], np.zeros(len(rows), bool), view, color[rows])

    def _pasted(
        self, rng: np.random.Generator, objects: Ints, target: Floats, size: int, color: Floats
    ) -> list[Layers]:
        """Draw what is pasted over search regions: copies of the target, other objects, and what hides the target.

        Shape: target [B, 4], cx, cy, w, h in the search region.
        """
        config, batch = self.config, len(objects)
        chance = rng.random((3, batch))
        altered = _compose(_own_colors(rng, 1, 0.1, batch), color)

        copy = self._objects.look_alike(rng, objects)
        extent = self._sizes(copy, target, rng.uniform(0.7, 1.4, batch))
        places = rng.uniform(-size / 2, size / 2, (batch, 8, 2))
        apart = _overlap(np.concatenate([places, np.broadcast_to(extent[:, None], places.shape)], -1), target) <= 0.2
        shown = (chance[0] < config.copies) & (copy >= 0) & apart.any(1)
        copies = self._paste(shown, copy, _first(places, apart), extent, altered, mirror=rng.random(batch) < 0.5)

        angle, distance = rng.uniform(0, 2 * np.pi, batch), rng.uniform(0.7, 1.7, batch)
        chosen = rng.integers(max(1, len(self._donors)), size=batch)
        donor = self._donors[chosen] if len(self._donors) else np.full(batch, -1)
        extent = self._sizes(donor, target, rng.uniform(0.7, 1.4, batch))
        root = np.sqrt(target[:, 2] * target[:, 3])
        place = target[:, :2] + np.stack([np.cos(angle), np.sin(angle)], -1) * (distance * root)[:, None]
        others = self._paste((chance[1] < config.distractor) & (donor >= 0), donor, place, extent, color)

        # Over one of the four sides of the target's box, and across all of it.
        thing, across = rng.integers(len(self.index), size=batch), rng.integers(2, size=batch)
        covered, length, width = rng.uniform([[0.2], [0.6], [1.0]], [[0.6], [1.2], [1.5]], (3, batch))
        beyond = (1 + length) / 2 - covered
        along = np.where(rng.random(batch) < 0.5, beyond, -beyond)
        aside = rng.uniform(-0.5, 0.5, batch) * (width - 1)
        turned = across[:, None] == np.arange(2)  # [B, 2] the axis along which it reaches in
        place = target[:, :2] + target[:, 2:] * np.where(turned, along[:, None], aside[:, None])
        extent = target[:, 2:] * np.where(turned, length[:, None], width[:, None])
        cut = rng.random(batch) < 0.5
        covers = self._paste(chance[2] < config.occlude, thing, place, extent, color, whole=~cut)
        return [copies, others, covers]

    def _sizes(self, objects: Ints, target: Floats, scale: Floats) -> Floats:
        """Return width and height of objects whose area is that of the target times scale squared. Shape: [B, 2]."""
        size = self.index.box[objects, 2:].astype(float)
        factor = scale * np.sqrt(target[:, 2] * target[:, 3] / size.prod(1))
        return np.asarray(size * factor[:, None])

    def _paste(
        self,
        shown: Bools,
        objects: Ints,
        place: Floats,
        extent: Floats,
        color: Floats,
        mirror: Bools | None = None,
        whole: Bools | None = None,
    ) -> Layers:
        """Return layers that show objects at ``place`` of crops, ``extent`` wide and high, cut by their masks.

        All arguments have a row for each crop, of which ``shown`` chooses. ``whole`` says whose box is shown whole;
        so it is for objects without a mask.
        """
        rows = np.flatnonzero(shown)
        chosen = objects[rows]
        box = self.index.box[chosen].astype(float)
        pixel = box[:, 2:] / extent[rows]
        if mirror is not None:
            pixel[mirror[rows], 0] *= -1
        view = _straight(box[:, :2] + box[:, 2:] / 2, place[rows], pixel)
        masked = self._objects.has_mask[chosen]
        if whole is not None:
            masked = masked & ~whole[rows]
        window = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], 1)
        area = self._area[chosen]
        window[masked] = np.concatenate([area[:, :2], area[:, :2] + area[:, 2:]], 1)[masked]
        return self._layer(rows, chosen, masked, view, color[rows], window)

    def _shared_colors(self, rng: np.random.Generator, batch: int) -> Floats:
        """Draw the colour changes that both crops of a pair share. Shape: [B, 3, 4]."""
        order, (shuffled, grey) = rng.integers(len(_ORDERS), size=batch), rng.random((2, batch))
        order = np.where(shuffled < self.config.shuffle, order, 0)
        maps = np.zeros((batch, 3, 4))
        maps[..., :3] = np.eye(3)[_ORDERS[order]]
        maps[grey < self.config.gray, :, :3] = _LUMA
        return maps


def reach(config: SideConfig, size: int, template_size: int) -> float:
    """Return how far windows of ``size`` pixels show, by shift and scale, from an object's middle in context sides."""
    return (size / 2 * (1 + config.scale) + config.shift) / template_size


def _spread(config: SideConfig) -> float:
    """Return how many times farther the corners of windows can reach when they are turned, stretched and tilted."""
    turned = np.sqrt(2) if config.rotate else 1.0
    return float(turned * np.exp(config.aspect) * (1 + config.shear) / (1 - 3 * config.perspective))


def _own_colors(rng: np.random.Generator, color: Probability, jitter: float, batch: int) -> Floats:
    """Draw the colour changes of one crop. Shape: [B, 3, 4]."""
    offset = rng.standard_normal((batch, 3)) @ _COLOR_COMPONENTS.T
    offset *= (rng.random(batch) < color)[:, None]
    gain, contrast, saturation = (1 + rng.uniform(-1, 1, (3, batch)) * jitter)[..., None, None]
    maps = np.empty((batch, 3, 4))
    maps[..., :3] = gain * contrast * (saturation * np.eye(3) + (1 - saturation) * _LUMA)
    maps[..., 3] = 128 * gain[..., 0] * (1 - contrast[..., 0]) - offset
    return maps


def _compose(after: Floats, before: Floats) -> Floats:
    """Return the affine colour map that applies ``before``, then ``after``. Shapes: [B, 3, 4]."""
    composed = after[..., :3] @ before
    composed[..., 3] += after[..., 3]
    return composed


def _straight(middle: Floats, place: Floats, pixel: Floats) -> Floats:
    """Return views that show the point ``middle`` at ``place``, with pixels of that size. Shapes: [R, 2]; [R, 3, 3]."""
    view = np.zeros((len(middle), 3, 3))
    view[:, [0, 1], [0, 1]] = pixel
    view[:, :2, 2] = middle - pixel * place
    view[:, 2, 2] = 1
    return view


def _join(layers: list[Layers], mirrored: Floats) -> Layers:
    """Return all layers as one; ``mirrored`` [B, 3] is -1, 1, 1 for crops that are mirrored, otherwise 1, 1, 1."""
    crop, objects, masked, view, window, color = (
        np.concatenate([getattr(layer, name) for layer in layers])
        for name in ("crop", "object", "masked", "view", "window", "color")
    )
    return Layers(
        crop, objects, masked, view * mirrored[crop, None], window, color, tuple(len(layer.crop) for layer in layers)
    )


def _overlap(boxes: Floats, target: Floats) -> Floats:
    """Return intersection over union. Shapes: boxes [B, K, 4] and target [B, 4] as cx, cy, w, h; result [B, K]."""
    target = target[:, None]
    apart = np.abs(boxes[..., :2] - target[..., :2])
    shared = ((boxes[..., 2:] + target[..., 2:]) / 2 - apart).clip(0)
    shared = np.minimum(shared, np.minimum(boxes[..., 2:], target[..., 2:])).prod(-1)
    overlap: Floats = shared / (boxes[..., 2:].prod(-1) + target[..., 2:].prod(-1) - shared)
    return overlap


def _first(candidates: Floats, good: Bools) -> Floats:
    """Return the first good one of each row, or any. Shapes: candidates [B, K, 2], good [B, K]; result [B, 2]."""
    return np.asarray(candidates[np.arange(len(good)), good.argmax(1)])
