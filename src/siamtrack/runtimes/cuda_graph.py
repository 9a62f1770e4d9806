"""The whole step on a GPU: a frame goes up once, boxes come down, and what is between is one CUDA graph.

:class:`DeviceCore` is :class:`siamtrack.tracking.core.TrackerCore` for torch networks on a GPU. The targets live in a
table on the device; a state is only a list of its rows. Targets go through a graph in batches of 1, 2, 4 ..., filled up
with row 0, which belongs to nobody, so that a new target needs no new graph.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siamtrack.errors import TooMuchAtOnce, UserError
from siamtrack.models.siamese import SiameseRPN
from siamtrack.runtimes import device_ops as ops
from siamtrack.runtimes.device_network import DeviceNetwork
from siamtrack.tracking import mask
from siamtrack.tracking.anchors import anchor_grid
from siamtrack.tracking.config import TrackingConfig
from siamtrack.tracking.core import Latency, Step, first_search_sizes
from siamtrack.tracking.longterm import search_sizes
from siamtrack.tracking.shortterm import cosine_window
from siamtrack.tracking.state import TrackResult
from siamtrack.video.image import Image

Precision = Literal["fp32", "fp16"]
Floats = NDArray[np.float64]
Mark = Callable[[str], None]
"""Is called when a part of a step, by its name, has been given to the device."""
T = TypeVar("T")
P = ParamSpec("P")

_log = logging.getLogger(__name__)

LARGEST_BATCH = 256
"""Targets that go through the network together; more take turns."""
_PIECE = 1 << 20  # bytes of a frame that go up at a time
_WARM_UPS = 3  # steps before a graph is captured, in which kernels are compiled and chosen


def device_network(model: SiameseRPN, device: str = "cuda", precision: Precision = "fp16") -> DeviceNetwork:
    """Return a network for :class:`DeviceCore`.

    Args:
        model: is copied.
        device: ``cuda``, ``cuda:1``, ..., or ``cpu``, which does the same without graphs, slowly.
        precision: ``fp32`` (without TF32), or ``fp16`` with sums in float32, which only a GPU has.

    Raises:
        UserError: fp16 on a CPU, or a trunk of timm.
    """
    place = torch.device(device)
    if precision == "fp16" and place.type == "cpu":
        raise UserError("precision fp16 is for GPUs; take fp32 on a CPU")
    return DeviceNetwork(model, place, torch.float16 if precision == "fp16" else torch.float32)


class _Row:
    """A row of the table, given back when no state holds it any more."""

    def __init__(self, index: int, free: list[int]) -> None:
        self.index, self._free = index, free

    def __del__(self) -> None:
        self._free.append(self.index)


@dataclass(frozen=True)
class _Answers:
    """The answers to a frame for B targets, perhaps still on their way to the host."""

    values: Tensor
    """[B, 11] float64, as in :data:`siamtrack.runtimes.device_ops.ANSWER`."""
    masks: Sequence[Tensor] | Tensor | None
    """B times [capacity] uint8, empty for a target that has no mask yet."""
    order: NDArray[np.intp]
    """[B] where each target's answer is."""
    shapes: list[tuple[int, int]]
    """B times height and width of the target's frame."""
    event: "torch.cuda.Event | None" = None

    def get(self) -> Floats:
        """Wait for the answers and return them. Shape: [B, 11]."""
        if self.event:
            self.event.synchronize()
        values: Floats = self.values.numpy()[self.order]
        return values

    def step(self) -> Step:
        """Wait for the answers and return them in the form of :class:`siamtrack.tracking.core.TrackerCore`."""
        values, masks = self.get(), None
        if self.masks is not None:
            pictures = [self.masks[place].numpy().view(np.bool_) for place in self.order]
            masks = [each[: height * width].reshape(height, width) if each.size else each[None]
                     for each, (height, width) in zip(pictures, self.shapes, strict=True)]  # fmt: skip
        return Step(values[:, :4], values[:, 4], values[:, 5] > 0, masks)


@dataclass(frozen=True)
class DeviceState:
    """B targets in the table of a :class:`DeviceCore`, which each step changes: an old state is no way back."""

    rows: list[_Row]
    search_size: NDArray[np.int64]
    """[B] side of the search region while not lost."""
    answers: _Answers
    """What was said of the last frame."""

    def take(self, index: Sequence[int] | NDArray[np.intp]) -> Self:
        """Return the chosen targets. Shape: index [K]; result with B = K."""
        chosen = np.asarray(index, np.intp)
        shapes = [self.answers.shapes[i] for i in chosen]
        answers = replace(self.answers, order=self.answers.order[chosen], shapes=shapes)
        return replace(self, rows=[self.rows[i] for i in chosen], search_size=self.search_size[chosen], answers=answers)

    @classmethod
    def join(cls, states: Sequence["DeviceState"]) -> "DeviceState":
        """Return the targets of several states, of the same latency, as one state."""
        parts = [state.answers for state in states]
        values = torch.from_numpy(np.concatenate([part.get() for part in parts]))
        shapes = [shape for part in parts for shape in part.shapes]
        masks = None
        if any(part.masks is not None for part in parts):
            none = torch.empty(0, dtype=torch.uint8)
            masks = [none if part.masks is None else part.masks[place] for part in parts for place in part.order]
        answers = _Answers(values, masks, np.arange(len(values)), shapes)
        rows = [row for state in states for row in state.rows]
        return cls(rows, np.concatenate([state.search_size for state in states]), answers)


def _on_device(method: Callable[Concatenate["DeviceCore", P], T]) -> Callable[Concatenate["DeviceCore", P], T]:
    """Run a method without gradients and, if it is a GPU, with the network's as the current one."""

    @wraps(method)
    def run(core: "DeviceCore", /, *args: P.args, **kwargs: P.kwargs) -> T:
        device = core.network.device
        with torch.inference_mode(), torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            return method(core, *args, **kwargs)

    return run


class DeviceCore:
    """Tracking of any number of targets in step, on one GPU. ``init``, ``step`` and ``result`` as of ``TrackerCore``.

    Boxes are those of ``TrackerCore`` but for the last digits of the network's arithmetic.

    Args:
        network: from :func:`device_network`.
        config: without ``legacy`` and ``distractors``, which only the path over the host has.
        latency: ``immediate``: a step returns the boxes in its frame; ``pipelined``: those in the frame before (after
            the first step the given boxes), so that the host reads the next frame while the GPU works on this one;
            :meth:`last` gives the boxes in the last frame.

    Raises:
        UserError: the configuration has a part that is only for the path over the host.
    """

    def __init__(self, network: DeviceNetwork, config: TrackingConfig, latency: Latency = "immediate") -> None:
        if config.legacy or config.distractors:
            part = "legacy" if config.legacy else "distractors"
            raise UserError(f"the GPU's graph does not know tracking.{part}; leave it out, or take --runtime torch")
        self.network, self.model, self.config, self.latency = network, network.config, config, latency
        self.largest_batch = LARGEST_BATCH
        self._frames = _FrameBuffer(network.device)
        self._targets = _table(LARGEST_BATCH + 1, network.device)
        self._features: tuple[Tensor, ...] = ()
        self._free = list(range(LARGEST_BATCH, 0, -1))
        self._rules: dict[int, ops.Rules] = {}
        self._graphs: dict[tuple[int, int, bool], _Batch] = {}
        self._pool: Any = None
        # One stream for all graphs, for they share the pool's memory; torch's own choice would be a stream of the GPU
        # that made the process's first graph.
        cuda = network.device.type == "cuda"
        self._stream = torch.cuda.Stream(network.device) if cuda else None  # type: ignore[no-untyped-call]

    @property
    def runtime(self) -> str:
        """What runs the network."""
        return "cuda-graph" if self.network.dtype == torch.float16 else "cuda-graph-fp32"

    def with_tracking(self, config: TrackingConfig) -> Self:
        """Return the same with other parameters of tracking, and a table and graphs of its own."""
        return type(self)(self.network, config, self.latency)

    @_on_device
    def init(self, frames: Sequence[Image], boxes: Floats) -> DeviceState:
        """Return the state of targets that have just been shown.

        Shapes: frames B times [H, W, 3] uint8 BGR, of any sizes; boxes [B, 4] as x, y, w, h.

        Raises:
            UserError: the GPU's memory is too small.
        """
        config, count, device = self.config, len(boxes), self.network.device
        sizes = boxes[:, 2:].astype(float)
        search_size = first_search_sizes(frames, sizes, self.model, config)
        shown = {id(frame): frame for frame in frames}
        fills = {key: np.array(cv2.mean(frame)[:3]).astype(np.uint8) for key, frame in shown.items()}
        owner = self._upload(frames)
        rows = self._rows(count)
        index = torch.tensor([row.index for row in rows], device=device)
        values = (boxes[:, :2] + sizes / 2, sizes, np.minimum(sizes, config.smallest),
                  np.stack([fills[id(frame)] for frame in frames]), np.zeros(count, np.int32))  # fmt: skip
        for column, value in zip(self._targets, values, strict=True):
            column[index] = torch.from_numpy(value).to(device)
        place = torch.from_numpy(owner).to(device)
        for _ in self._turns(range(count), lambda part: self._describe(index[part[0] : part[-1] + 1],
                                                                       place[part[0] : part[-1] + 1])):  # fmt: skip
            pass
        if count == 1:
            self._prepare(search_size[0])
        said = np.zeros((count, ops.ANSWER))
        said[:, :4], said[:, 4] = boxes, 1
        shapes = [(frame.shape[0], frame.shape[1]) for frame in frames]
        return DeviceState(rows, search_size, _Answers(torch.from_numpy(said), None, np.arange(count), shapes))

    @_on_device
    def step(self, frames: Sequence[Image], state: DeviceState, mark: Mark | None = None) -> tuple[DeviceState, Step]:
        """Find the targets in their next frames; frames that are the same object go up once.

        Shapes: frames B times [H, W, 3] uint8 BGR, of any sizes.

        Args:
            frames: of each target the one to find it in.
            state: what the step before returned, or :meth:`init`.
            mark: is called after ``upload``, ``crop``, ``network`` and ``boxes`` (masks add a second ``network`` and
                ``boxes``), each a graph of its own then; to measure where the time goes.

        Raises:
            UserError: the GPU's memory is too small for one target.
        """
        owner = self._upload(frames)
        if mark:
            mark("upload")
        sizes = state.search_size
        if self.config.longterm:
            sizes = search_sizes(sizes, state.answers.get()[:, 5].astype(np.int64), self.config)
        cuda = self.network.device.type == "cuda"
        count, capacity = len(frames), self._frames.capacity // 3
        values = torch.empty(count, ops.ANSWER, dtype=torch.float64, pin_memory=cuda)
        masks = torch.empty(count, capacity, dtype=torch.uint8, pin_memory=cuda) if self.model.mask else None
        rows = np.array([row.index for row in state.rows])
        order, done = np.empty(count, np.intp), 0
        for size in np.unique(sizes).tolist():
            group = np.flatnonzero(sizes == size).tolist()

            def search(part: Sequence[int], size: int = size) -> _Batch:
                batch = self._batch(_bucket(len(part)), size, mark is not None)
                batch.put(rows[list(part)], owner[list(part)])
                for name, run in batch.parts:
                    run()
                    if mark:
                        mark(name)
                return batch

            for part, batch in self._turns(group, search):
                place = slice(done, done + len(part))
                values[place].copy_(batch.answers[: len(part)], non_blocking=True)
                if masks is not None and batch.masks is not None:
                    masks[place].copy_(batch.masks[: len(part)], non_blocking=True)
                order[part] = np.arange(place.start, place.stop)
                done += len(part)
        event = None
        if cuda:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        shapes = [(frame.shape[0], frame.shape[1]) for frame in frames]
        answers = _Answers(values, masks, order, shapes, event)
        said = answers if self.latency == "immediate" else state.answers
        return replace(state, answers=answers), said.step()

    def last(self, state: DeviceState) -> Step:
        """Return the answer to the last frame that was given to :meth:`step`; waits for it. For any latency."""
        return state.answers.step()

    def result(self, found: Step, index: int) -> TrackResult:
        """Return the answer for one target, with its mask and the rectangle around it where there are masks."""
        result = TrackResult(found.boxes[index], float(found.scores[index]), bool(found.lost[index]))
        if found.masks and found.masks[index].size:
            pixels = found.masks[index].copy()  # from page-locked memory, where all targets' are in one piece
            result = replace(result, mask=pixels, polygon=mask.rotated_rectangle(pixels, result.box))
        return result

    def _prepare(self, search_size: int) -> None:
        """Capture the graphs that one target may need, of all sizes of search region, so that no frame waits for it."""
        longterm = self.config.longterm
        try:
            for size in sorted({int(search_size), *(longterm.search_sizes if longterm else ())}):
                self._batch(1, size, False)
        except torch.OutOfMemoryError:
            return  # perhaps it is never lost

    def _describe(self, rows: Tensor, owner: Tensor) -> None:
        """Fill the templates' rows."""
        size = self.model.template_size
        with _exact(fastest=False):
            patches = ops.crop(self._frames.frames, owner, self._targets, rows, size, size, self.network.dtype)
            features = self.network.template(patches)
        if not self._features:
            self._features = tuple(each.new_zeros(len(self._targets.lost), *each.shape[1:]) for each in features)
        for column, value in zip(self._features, features, strict=True):
            column[rows] = value

    def _turns(self, group: Sequence[int], work: Callable[[Sequence[int]], T]) -> Iterator[tuple[Sequence[int], T]]:
        """Do ``work`` for a part of the group at a time, for fewer if the memory is too small."""
        start = 0
        while start < len(group):
            part = group[start : start + self.largest_batch]
            try:
                done = work(part)
            except torch.OutOfMemoryError:
                self._shrink(_bucket(len(part)))
                continue
            yield part, done
            start += len(part)

    def _shrink(self, failed: int) -> None:
        """Lower the largest batch after one of ``failed`` targets did not fit."""
        if self.network.device.type == "cuda":
            torch.cuda.empty_cache()
        if failed == 1:
            raise UserError(
                f"{self.network.device} has too little free memory for one target of this model; stop what else uses "
                f"this GPU, or take --device cpu"
            )
        self.largest_batch = failed // 2
        _log.warning(
            "the memory of %s fits %d targets at a time; more take turns", self.network.device, self.largest_batch
        )

    def _upload(self, frames: Sequence[Image]) -> NDArray[np.int32]:
        """Bring the frames to the device and return which of them is whose. Shape: [B]."""
        before = self._frames.frames
        try:
            return self._frames.put(frames)
        except torch.OutOfMemoryError:
            distinct = len({id(frame) for frame in frames})
            raise TooMuchAtOnce(
                f"{self.network.device} has too little free memory for {distinct} frames at once; track fewer videos "
                f"together"
            ) from None
        finally:
            if self._frames.frames is not before:
                self._forget_graphs()

    def _rows(self, count: int) -> list[_Row]:
        """Return free rows of the table; if it has too few it grows, and all graphs are made anew."""
        if len(self._free) < count:
            capacity = len(self._targets.lost)
            added = max(capacity, count)
            more = _table(added, self.network.device)
            targets = ops.Targets(*(torch.cat(pair) for pair in zip(self._targets, more, strict=True)))
            features = tuple(torch.cat([each, each.new_zeros(added, *each.shape[1:])]) for each in self._features)
            self._targets, self._features = targets, features  # both or, where memory does not suffice, neither
            self._free[:0] = range(capacity + added - 1, capacity - 1, -1)
            self._forget_graphs()
        return [_Row(self._free.pop(), self._free) for _ in range(count)]

    def _forget_graphs(self) -> None:
        """Drop all graphs, once the GPU has done with them: addresses have changed."""
        if self.network.device.type == "cuda":
            torch.cuda.synchronize()
        self._graphs.clear()

    def _batch(self, count: int, size: int, parted: bool) -> "_Batch":
        """Return the step for ``count`` targets with search regions of ``size`` pixels, whole or in parts."""
        key = count, size, parted
        if key not in self._graphs:
            device = self.network.device
            pixels = self._frames.capacity // 3
            batch = _Batch(
                rows=torch.zeros(count, dtype=torch.int64, device=device),
                owner=torch.zeros(count, dtype=torch.int32, device=device),
                answers=torch.zeros(count, ops.ANSWER, dtype=torch.float64, device=device),
                masks=torch.zeros(count, pixels, dtype=torch.uint8, device=device) if self.model.mask else None,
            )
            if size not in self._rules:
                self._rules[size] = self._rules_for(size)
            if self._stream is not None and not self._graphs:  # the last graph of a pool takes it away
                self._pool = torch.cuda.graph_pool_handle()
            stages = self._stages(batch, self._rules[size])
            batch.parts = self._prepared(stages if parted else [("step", _chain(stages))])
            self._graphs[key] = batch
        return self._graphs[key]

    def _stages(self, batch: "_Batch", rules: ops.Rules) -> "list[_Stage]":
        """Return a batch's step from the frames to the table's new rows and the answers, by names of its parts."""
        frames, targets, rows = self._frames.frames, self._targets, batch.rows

        def cut() -> tuple[Any, ...]:
            template = rules.template
            return (ops.crop(frames, batch.owner, targets, rows, rules.output, template, self.network.dtype),)

        def search(x: Tensor) -> tuple[Any, ...]:
            return self.network.search(x, self._features, rows)

        def choose(response: Tensor, context: tuple[Tensor, ...]) -> tuple[Any, ...]:
            ops.choose(response, rules, targets, rows, batch.owner, frames.sizes, batch.answers)
            return (context,)

        def draw(context: tuple[Tensor, ...]) -> tuple[Any, ...]:
            return (self.network.draw(context, batch.answers[:, 6:8].long()),)

        def paste(logits: Tensor) -> tuple[Any, ...]:
            assert batch.masks is not None
            threshold, stride = self.config.mask_threshold, self.model.anchors.stride
            ops.paste(logits, batch.answers, batch.owner, frames.sizes, batch.masks, rules, stride, threshold)
            return ()

        stages: list[_Stage] = [("crop", cut), ("network", search), ("boxes", choose)]
        return stages if batch.masks is None else [*stages, ("network", draw), ("boxes", paste)]

    def _prepared(self, stages: "list[_Stage]") -> list[tuple[str, Callable[[], None]]]:
        """Return the stages ready to run in turn; on a GPU each is captured as a graph.

        Graphs hand their results on in the memory that they share. It is theirs until the last of them has run.
        """
        parts: list[tuple[str, Callable[[], None]]] = []
        taken: list[Any] = []
        for name, stage in stages:
            given: list[Any] = []

            def run(
                stage: Callable[..., tuple[Any, ...]] = stage, taken: list[Any] = taken, given: list[Any] = given
            ) -> None:
                with _exact(fastest=True):
                    given[:] = stage(*taken)

            if self._stream is not None:
                ready = _captured(run, self._pool, self._stream)
                ready()  # so that the next stage warms up with numbers
            else:
                ready = run
            parts.append((name, ready))
            taken = given
        return parts

    def _rules_for(self, size: int) -> ops.Rules:
        """Return the rules for search regions of ``size`` pixels."""
        config, longterm, device = self.config, self.config.longterm, self.network.device
        cells = self.model.response_cells(size)
        window = cosine_window(cells, self.model.anchors.per_cell)
        return ops.Rules(
            anchors=torch.from_numpy(anchor_grid(self.model.anchors, cells)).float().to(device),
            window=torch.from_numpy(window).float().to(device),
            output=size,
            template=self.model.template_size,
            cells=cells,
            penalty_k=config.penalty_k,
            influence=config.window_influence,
            lost_influence=longterm.window_influence if longterm else config.window_influence,
            lr=config.lr,
            low=longterm.low if longterm else 0.0,
            high=longterm.high if longterm else 0.0,
            longterm=longterm is not None,
        )


@dataclass
class _Batch:
    """What goes into and comes out of a step, at fixed addresses."""

    rows: Tensor
    """[B] int64."""
    owner: Tensor
    """[B] int32."""
    answers: Tensor
    """[B, 11] float64."""
    masks: Tensor | None
    """[B, capacity] uint8."""
    parts: list[tuple[str, Callable[[], None]]] = field(default_factory=list)
    """What does the step, in this order, by name."""
    _shown: tuple[bytes, bytes] = (b"", b"")

    def put(self, rows: NDArray[np.int64], owner: NDArray[np.int32]) -> None:
        """Say which rows are searched for in which frames; the rest of the batch is row 0. Shapes: [K <= B] each."""
        shown = rows.tobytes(), owner.tobytes()
        if shown == self._shown:
            return
        for tensor, values in ((self.rows, rows), (self.owner, owner)):
            whole = np.zeros(len(tensor), values.dtype)
            whole[: len(values)] = values
            tensor.copy_(torch.from_numpy(whole), non_blocking=True)
        self._shown = shown


_Stage = tuple[str, Callable[..., tuple[Any, ...]]]  # a name, and what makes of the last stage's results its own


def _chain(stages: Sequence[_Stage]) -> Callable[[], tuple[Any, ...]]:
    """Return the stages as one."""

    def run() -> tuple[Any, ...]:
        values: tuple[Any, ...] = ()
        for _, stage in stages:
            values = stage(*values)
        return ()

    return run


class _FrameBuffer:
    """Frames on the device. On their way they pass through two buffers of pinned memory in turn."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._turn = 0
        self.capacity = 0
        self._allocate(0, 0)

    def _allocate(self, count: int, capacity: int) -> None:
        cuda = self._device.type == "cuda"
        pixels = torch.empty(count * capacity, dtype=torch.uint8, device=self._device)
        sizes = torch.zeros(count, 2, dtype=torch.int32, device=self._device)
        staging = [torch.empty(count * capacity, dtype=torch.uint8, pin_memory=True) for _ in range(2 * cuda)]
        # Only now that the memory is there, of the device and of the host:
        self.frames, self.capacity = ops.Frames(pixels, sizes, capacity), capacity
        self._sizes = np.zeros((count, 2), np.int32)
        self._staging: list[Tensor] = staging
        self._copied: list[torch.cuda.Event] = [torch.cuda.Event() for _ in staging]  # type: ignore[no-untyped-call]

    def put(self, frames: Sequence[Image]) -> NDArray[np.int32]:
        """Bring the distinct frames to the device, to another place if they need more room; return which is whose.

        Shapes: frames B times [H, W, 3]; result [B].
        """
        numbers: dict[int, int] = {}
        owner = np.array([numbers.setdefault(id(frame), len(numbers)) for frame in frames], np.int32)
        distinct = list({id(frame): frame for frame in frames}.values())
        largest = max(frame.nbytes for frame in distinct)
        if largest > self.capacity or len(distinct) > len(self._sizes):
            self._allocate(_bucket(max(len(distinct), len(self._sizes))), max(largest, self.capacity))
        sizes = self._sizes.copy()
        sizes[: len(distinct)] = [frame.shape[:2] for frame in distinct]
        if (sizes != self._sizes).any():
            self._sizes = sizes
            self.frames.sizes.copy_(torch.from_numpy(sizes), non_blocking=True)
        self._turn = 1 - self._turn
        if self._copied:
            self._copied[self._turn].synchronize()
        for number, frame in enumerate(distinct):
            place = slice(number * self.capacity, number * self.capacity + frame.nbytes)
            pixels = torch.from_numpy(np.require(frame, requirements=["C", "W"]).reshape(-1))
            there = self.frames.pixels[place]
            if not self._staging:
                there.copy_(pixels)
                continue
            pinned = self._staging[self._turn][place]
            for start in range(0, frame.nbytes, _PIECE):  # one travels while the next is copied
                piece = slice(start, start + _PIECE)
                if len(distinct) == 1:
                    pinned[piece].copy_(pixels[piece])
                else:  # torch's threads would wait for a turn among those that decode so many videos
                    np.copyto(pinned[piece].numpy(), pixels[piece].numpy())
                there[piece].copy_(pinned[piece], non_blocking=True)
        if self._copied:
            self._copied[self._turn].record()
        return owner


def _table(rows: int, device: torch.device) -> ops.Targets:
    """Return a table whose rows hold some box."""
    return ops.Targets(
        center=torch.full((rows, 2), 32.0, dtype=torch.float64, device=device),
        size=torch.full((rows, 2), 32.0, dtype=torch.float64, device=device),
        smallest=torch.full((rows, 2), 10.0, dtype=torch.float64, device=device),
        fill=torch.zeros(rows, 3, dtype=torch.uint8, device=device),
        lost=torch.zeros(rows, dtype=torch.int32, device=device),
    )


def _captured(run: Callable[[], None], pool: Any, stream: torch.cuda.Stream) -> Callable[[], None]:
    """Return the replay of ``run`` as a CUDA graph. It runs a few times first, for nobody's row."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
        run()
    replay: Callable[[], None] = graph.replay
    return replay


def _exact(fastest: bool) -> AbstractContextManager[None]:
    """Return a block without TF32; with ``fastest`` cuDNN tries its algorithms on each new shape, which takes time."""
    block: AbstractContextManager[None] = torch.backends.cudnn.flags(enabled=True, benchmark=fastest, allow_tf32=False)
    return block


def _bucket(count: int) -> int:
    """Return the smallest power of two that is not below ``count``."""
    return 1 << (count - 1).bit_length()
