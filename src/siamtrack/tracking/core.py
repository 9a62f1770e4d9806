"""The tracker as two functions, ``init`` and ``step``, composed of the rules in this room."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol, Self

import cv2
import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from siamtrack.errors import UserError
from siamtrack.models.config import AnchorConfig, ModelConfig
from siamtrack.tracking import distractors, longterm, mask
from siamtrack.tracking.anchors import anchor_grid
from siamtrack.tracking.config import DistractorConfig, TrackingConfig
from siamtrack.tracking.crop import context_side, crop, snap
from siamtrack.tracking.decode import Candidates, decode
from siamtrack.tracking.network import Array, Network
from siamtrack.tracking.shortterm import change_penalty, clip_box, cosine_window, rank
from siamtrack.tracking.state import TrackResult, TrackState
from siamtrack.video.image import Image

Floats = NDArray[np.float64]
Latency = Literal["immediate", "pipelined"]
"""Whether a step returns the answer to its own frames or to those before."""


class Step(NamedTuple):
    """The answer of a step for B targets."""

    boxes: Floats
    """[B, 4] x, y, w, h in pixels of the frames."""
    scores: Floats
    """[B] probability of foreground."""
    lost: NDArray[np.bool_]
    """[B] whether the target is lost."""
    masks: list[NDArray[Any]] | None = None
    """B times [H, W], the probability of each pixel to belong to the object, or whether it is above the threshold
    (from a GPU's graph); None from networks without masks."""

    @classmethod
    def join(cls, steps: Sequence["Step"]) -> "Step":
        """Return the answers of several steps as one's."""
        boxes, scores, lost = (np.concatenate([step[field] for step in steps]) for field in range(3))
        masks = [mask for step in steps for mask in step.masks or []]
        return cls(boxes, scores, lost, masks or None)


class Best(NamedTuple):
    """The best candidate of each of B targets, in host memory."""

    box: Floats
    """[B, 4] cx, cy, w, h in pixels of the frame, cx and cy from the search region's centre."""
    score: Floats
    """[B] probability of foreground."""
    penalty: Floats
    """[B] penalty on its change of size and ratio."""
    cell: NDArray[np.int64]
    """[B, 2] row and column in the response."""


class Core(Protocol):
    """What follows targets, wherever it computes: :class:`TrackerCore`, or a GPU's graph.

    States are values of its own, with ``take`` and ``join`` as :class:`TrackState` has them.
    """

    config: TrackingConfig
    latency: Latency

    @property
    def runtime(self) -> str:
        """What runs the network."""
        ...

    def init(self, frames: Sequence[Image], boxes: Floats) -> Any:
        """Return the state of targets that have just been shown; see :meth:`TrackerCore.init`."""
        ...

    def step(self, frames: Sequence[Image], state: Any) -> tuple[Any, Step]:
        """Find the targets in their next frames; see :meth:`TrackerCore.step`."""
        ...

    def last(self, state: Any) -> Step:
        """Return the answer to the last frame that was given to :meth:`step`.

        Raises:
            UserError: the latency is not ``pipelined``, so that :meth:`step` has returned it.
        """
        ...

    def result(self, found: Step, index: int) -> TrackResult:
        """Return the answer for one target; see :meth:`TrackerCore.result`."""
        ...

    def with_tracking(self, config: TrackingConfig) -> Self:
        """Return the same with other parameters of tracking."""
        ...


class TrackerCore:
    """Tracking of any number of targets with one network. Holds no target: those live in :class:`TrackState`."""

    latency: Latency = "immediate"

    def __init__(self, network: Network, model: ModelConfig, config: TrackingConfig) -> None:
        self.network, self.model, self.config = network, model, config
        self._classifying = len(model.head.widths)  # the first features are the kernels of classification

    @property
    def runtime(self) -> str:
        """What runs the network, such as ``openvino`` or ``onnx (CUDA)``."""
        return self.network.runtime

    def with_tracking(self, config: TrackingConfig) -> Self:
        """Return the same with other parameters of tracking."""
        return type(self)(self.network, self.model, config)

    def init(self, frames: Sequence[Image], boxes: Floats) -> TrackState:
        """Return the state of targets that have just been shown.

        Shapes: frames B times [H, W, 3] uint8 BGR; boxes [B, 4] as x, y, w, h.
        """
        config, count = self.config, len(boxes)
        # PySOT starts with the index of the middle pixel, half a pixel left of the middle.
        middle = (boxes[:, 2:] - 1) / 2 if config.legacy else boxes[:, 2:] / 2
        center, size = boxes[:, :2] + middle, boxes[:, 2:].astype(float)
        fill = np.array([cv2.mean(frame)[:3] for frame in frames]).astype(np.uint8)
        patches = crop(frames, center, context_side(size), self.model.template_size, fill, config.legacy)
        features = self.network.template(patches)
        smallest = np.full((count, 2), config.smallest)
        return TrackState(
            center=center,
            size=size,
            smallest=smallest if config.legacy else np.minimum(size, smallest),
            fill=fill,
            search_size=first_search_sizes(frames, size, self.model, config),
            lost=np.zeros(count, np.int64),
            features=features,
            memory=distractors.empty_memory(features[: self._classifying]) if config.distractors else (),
        )

    def step(self, frames: Sequence[Image], state: TrackState) -> tuple[TrackState, Step]:
        """Find the targets in their next frames.

        Targets with the same size of search region go through the network together.

        Shapes: frames B times [H, W, 3] uint8 BGR.
        """
        sizes = longterm.search_sizes(state.search_size, state.lost, self.config)
        if (sizes == sizes[0]).all():
            return self._step(frames, state, int(sizes[0]))
        groups = [np.flatnonzero(sizes == size).tolist() for size in np.unique(sizes)]
        done = [self._step([frames[i] for i in group], state.take(group), int(sizes[group[0]])) for group in groups]
        back = np.argsort(np.concatenate(groups))
        boxes, scores, lost, masks = Step.join([step for _, step in done])
        joined = Step(boxes[back], scores[back], lost[back], [masks[index] for index in back] if masks else None)
        return TrackState.join([each for each, _ in done]).take(back), joined

    def last(self, state: TrackState) -> Step:
        """Refuse: see :class:`Core`."""
        raise UserError("the answer to the last frame came with it; only latency 'pipelined' keeps one for later")

    def result(self, found: Step, index: int) -> TrackResult:
        """Return the answer for one target, with its mask and the rectangle around it where there are masks."""
        result = TrackResult(found.boxes[index], float(found.scores[index]), bool(found.lost[index]))
        if found.masks:
            pixels = found.masks[index] > self.config.mask_threshold
            result = replace(result, mask=pixels, polygon=mask.rotated_rectangle(pixels, result.box))
        return result

    def _step(self, frames: Sequence[Image], state: TrackState, search_size: int) -> tuple[TrackState, Step]:
        """Find targets that share a size of search region."""
        model, config = self.model, self.config
        center, side = state.center, context_side(state.size) * search_size / model.template_size
        if not config.legacy:
            center, side = snap(center, side, search_size)
        patches = crop(frames, center, side, search_size, state.fill, config.legacy)
        prediction = self.network.search(patches, self._features(state))
        cells = prediction.cls.shape[-1]
        xp, place = array_namespace(prediction.cls), device(prediction.cls)

        def on_device(values: NDArray[np.generic]) -> Array:
            return xp.asarray(values, device=place, dtype=prediction.cls.dtype)

        anchors, prior = _constants(model.anchors, cells, xp, place, prediction.cls.dtype)
        candidates = decode(prediction.cls, prediction.loc, anchors)
        scale = search_size / side  # pixels of the search region in a pixel of the frame
        penalty = change_penalty(candidates, on_device(state.size * scale[:, None]), config.penalty_k)
        influence = longterm.window_influence(state.lost, config)
        ranks = rank(candidates.scores, penalty, prior, on_device(influence[:, None]))
        best = self._best(xp, candidates, penalty, xp.argmax(ranks, axis=1), scale, cells)

        moved, boxes = self._move(frames, state, center, best)
        masks = self._masks(frames, center, side, search_size, prediction.context, best) if model.mask else None
        if config.distractors:
            followed = (state.lost == 0) & (moved.lost == 0)
            found = self._distractors(config.distractors, candidates, ranks, center, scale, followed)
            moved = self._remember(frames, moved, found, config.distractors)
        return moved, Step(boxes, best.score, moved.lost > 0, masks)

    def _features(self, state: TrackState) -> tuple[Array, ...]:
        """Return what to correlate with: the template, less the distractors where they are remembered."""
        if not self.config.distractors:
            return state.features
        kernels, rest = state.features[: self._classifying], state.features[self._classifying :]
        return (*distractors.subtract(kernels, state.memory, self.config.distractors.strength), *rest)

    def _best(self, xp: Array, candidates: Candidates, penalty: Array, index: Array, scale: Floats, cells: int) -> Best:
        """Bring the best candidates to the host. Shapes: index [B]; scale [B]."""
        target = xp.arange(index.shape[0], device=device(index))
        found = (candidates.scores[target, index], penalty[target, index])
        chosen = xp.concat([candidates.boxes[target, index], xp.stack(found, axis=1)], axis=1)  # [B, 6]
        values = to_numpy(chosen).astype(np.float64)
        place = to_numpy(index) % (cells * cells)
        cell = np.stack([place // cells, place % cells], axis=1)
        return Best(values[:, :4] / scale[:, None], values[:, 4], values[:, 5], cell)

    def _move(
        self, frames: Sequence[Image], state: TrackState, searched: Floats, best: Best
    ) -> tuple[TrackState, Floats]:
        """Return the state with the targets at their best candidates, where those are believed, and their boxes.

        Shapes: searched [B, 2], the centres of the search regions; boxes [B, 4].
        """
        frame_size = np.array([(frame.shape[1], frame.shape[0]) for frame in frames], float)
        lr = (best.score * best.penalty * self.config.lr)[:, None]
        center = searched + best.box[:, :2]
        size = state.size * (1 - lr) + best.box[:, 2:] * lr
        believed = longterm.believed(best.score, self.config)[:, None]
        center, size = np.where(believed, center, state.center), np.where(believed, size, state.size)
        inside, fitting = clip_box(center, size, state.smallest, frame_size)
        if not (self.config.legacy and self.config.longterm):  # PySOT's long-term tracker clips its answer only
            center, size = inside, fitting
        lost = longterm.next_lost(best.score, state.lost, self.config)
        boxes = np.concatenate([inside - fitting / 2, fitting], axis=1)
        return replace(state, center=center, size=size, lost=lost), boxes

    def _masks(
        self,
        frames: Sequence[Image],
        center: Floats,
        side: Floats,
        search_size: int,
        context: tuple[Array, ...],
        best: Best,
    ) -> list[NDArray[np.float32]]:
        """Draw the masks of the best candidates' cells into the frames.

        Shapes: center [B, 2] and side [B]: where the search regions were, in pixels of the frames.
        """
        legacy, stride = self.config.legacy, self.model.anchors.stride
        logits = self.network.draw(context, best.cell)
        pixel = (np.rint(side) if legacy else side) / search_size  # pixels of the frame in one of the search region
        place = (best.cell[:, ::-1] - self.model.response_cells(search_size) // 2) * stride  # [B, 2] x, y
        middle = center + place * pixel[:, None]
        extent = logits.shape[1] * pixel
        return [
            mask.paste(logits[i], middle[i], float(extent[i]), (frame.shape[1], frame.shape[0]), legacy)
            for i, frame in enumerate(frames)
        ]

    def _distractors(
        self,
        config: DistractorConfig,
        candidates: Candidates,
        ranks: Array,
        center: Floats,
        scale: Floats,
        followed: NDArray[np.bool_],
    ) -> list[Floats]:
        """Return the distractors of each target: B times [K, 4] as x, y, w, h in pixels of the frame.

        Lost targets have none: their best candidate may be anything, and the others may be the target.

        Shapes: followed [B].
        """
        boxes = to_numpy(candidates.boxes).astype(np.float64) / scale[:, None, None]
        boxes[..., :2] += center[:, None] - boxes[..., 2:] / 2
        order = to_numpy(ranks)
        return [
            distractors.find(boxes[index], order[index], config) if followed[index] else np.zeros((0, 4))
            for index in range(len(boxes))
        ]

    def _remember(
        self, frames: Sequence[Image], state: TrackState, found: list[Floats], config: DistractorConfig
    ) -> TrackState:
        """Add the kernels of this frame's distractors to the memory."""
        owners = np.repeat(np.arange(len(frames)), [len(each) for each in found])
        if not len(owners):
            return state
        boxes = np.concatenate(found)
        middles, sides = boxes[:, :2] + boxes[:, 2:] / 2, context_side(boxes[:, 2:])
        shown = [frames[owner] for owner in owners.tolist()]
        patches = crop(shown, middles, sides, self.model.template_size, state.fill[owners])
        kernels = self.network.template(patches)[: self._classifying]
        return replace(state, memory=distractors.add(state.memory, kernels, owners, config.learning_rate))


def first_search_sizes(
    frames: Sequence[Image], size: Floats, model: ModelConfig, config: TrackingConfig
) -> NDArray[np.int64]:
    """Return the side of each target's search region while it is not lost, larger for small targets if so configured.

    Shapes: frames B times [H, W, 3]; size [B, 2], w and h in pixels of the frames; result [B].
    """
    sides = np.full(len(size), config.search_size or model.search_size)
    if config.adaptive:
        areas = np.array([frame.shape[0] * frame.shape[1] for frame in frames])
        sides[size.prod(1) / areas < config.adaptive.share] = config.adaptive.search_size
    return sides


@lru_cache(maxsize=8)
def _constants(anchors: AnchorConfig, cells: int, xp: Any, place: Any, dtype: Any) -> tuple[Array, Array]:
    """Return the anchors, each of their four columns in one piece, and the cosine window, where they are needed."""
    values = (np.asfortranarray(anchor_grid(anchors, cells)), cosine_window(cells, anchors.per_cell))
    grid, window = (xp.asarray(value, device=place, dtype=dtype) for value in values)
    return grid, window


def to_numpy(values: Array) -> NDArray[Any]:
    """Return an array of any namespace and device in host memory."""
    host: NDArray[Any] = values if isinstance(values, np.ndarray) else values.detach().cpu().numpy()
    return host
