"""Many targets at once, in one video or in several: :class:`MultiTracker`."""

import logging
from collections import deque
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from siamtrack.boxes import check_box
from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.runtimes.load import Runtime
from siamtrack.tracker import Box, Tracker, check_frame
from siamtrack.tracking.state import TrackResult
from siamtrack.video.frame import Moment, VideoFrame, reached, shown
from siamtrack.video.image import Image
from siamtrack.video.source import VideoSource

CPU_BATCH, GPU_BATCH, GRAPH_BATCH = 8, 256, 4096
"""How many targets go through the network together; a GPU's graph divides its part by itself."""
Done = TypeVar("Done")
Frames = tuple[Iterable[VideoFrame], Mapping[int, "Target"]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """An object that is to be followed."""

    box: Box
    """x, y, w, h in pixels of the frame in which it is shown."""
    start: Moment | None = None
    """That frame, or its time; None for the first that is read."""
    end: Moment | None = None
    """The frame or time before which it is followed no longer; None for the last."""
    id: int | None = None
    """What it is called in the results; None for its place in the list, from 1."""


@dataclass
class _Group:
    """Targets that go through the network together."""

    ids: list[int]
    state: Any

    def take(self, places: Sequence[int]) -> "_Group":
        return _Group([self.ids[place] for place in places], self.state.take(places))


class MultiTracker:
    """Follows any number of targets. Each may begin and end in any frame, and has its own state and lost flag.

    >>> tracker = MultiTracker()
    >>> person, car = tracker.add(frame, (120, 80, 60, 140)), tracker.add(frame, (400, 200, 180, 90))
    >>> results = tracker.update(next_frame)
    >>> results[person].box, results[car].lost

    All targets go through the network in batches. Where memory does not suffice, batches become smaller by themselves,
    and a warning of the logger ``siamtrack.multi`` says how many targets fit.

    Args:
        model: the name of a model, the path of a weight file, or a tracker whose network and parameters are used.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        runtime: see :class:`siamtrack.Tracker`.
        threads: threads of the CPU; None for one a core.
        tracking: parameters of tracking that take the place of the model's own.
        batch: how many targets go through the network together at most; None for what suits the device.
        drop_after: a target that has been lost for so many frames without a break is dropped; None for never. Needs
            parameters of tracking with ``longterm``, without which a target is never lost.

    Raises:
        UserError: see :class:`siamtrack.Tracker`; or ``batch`` or ``drop_after`` cannot be used.
    """

    batch: int
    """How many targets go through the network together at most; lowered where memory does not suffice."""
    runtime: str
    """What runs the network, such as ``onnx``."""

    def __init__(
        self,
        model: str | Path | Tracker = zoo.DEFAULT,
        *,
        device: str = "cpu",
        runtime: Runtime = "auto",
        threads: int | None = None,
        tracking: Mapping[str, Any] | None = None,
        batch: int | None = None,
        drop_after: int | None = None,
    ) -> None:
        if not isinstance(model, Tracker):
            model = Tracker(model, device=device, runtime=runtime, threads=threads, tracking=tracking)
        self.preset, self.tracking, self.runtime = model.preset, model.tracking, model.runtime
        for name, value in (("batch", batch), ("drop_after", drop_after)):
            if value is not None and value < 1:
                raise UserError(f"{name} {value}: expected a number from 1")
        if drop_after and not self.tracking.longterm:
            raise UserError(
                f"drop_after {drop_after} needs a tracker that knows when it has lost its target: take the model "
                f"{zoo.DEFAULT}, or set tracking.longterm.low and tracking.longterm.high, scores below which a "
                "target is lost and above which it is found again"
            )
        fitting = CPU_BATCH if model.device == "cpu" else GPU_BATCH
        self.batch = batch or (GRAPH_BATCH if model.runtime == "cuda-graph" else fitting)
        self.drop_after = drop_after
        self._core = model.core
        self._groups: list[_Group] = []
        self._streams: dict[int, Hashable] = {}  # by target
        self._shapes: dict[Hashable, tuple[int, ...]] = {}  # of the frames of each stream that has targets
        self._lost: dict[int, int] = {}  # for how many frames without a break
        self._next = 1

    @property
    def ids(self) -> tuple[int, ...]:
        """The targets that are followed, oldest first."""
        return tuple(sorted(self._streams))

    def add(self, frame: Image, box: Box, *, stream: Hashable = None) -> int:
        """Follow the object in ``box`` of ``frame`` from now on, the next :meth:`update` being that of the next frame.

        Args:
            frame: [H, W, 3] uint8 BGR.
            box: x, y, w, h in pixels of the frame.
            stream: name of the video that the frame is of, where several are followed together.

        Returns:
            The target's id, which no other target of this tracker ever has.

        Raises:
            UserError: the frame cannot be used or has another size than those of the stream's other targets, or the
                box is not in it.
        """
        return self.add_all(frame, [box], stream=stream)[0]

    def add_all(self, frame: Image, boxes: Sequence[Box], *, stream: Hashable = None) -> list[int]:
        """Do :meth:`add` with several boxes of a frame, which is faster than one by one; all or, on an error, none."""
        check_frame(frame)
        self._check_shape(frame, stream)
        values = np.array([check_box(box, frame.shape[1], frame.shape[0]) for box in boxes]).reshape(-1, 4)
        ids = list(range(self._next, self._next + len(values)))
        before, new = self.batch, []
        waiting = deque([(ids, values)] if ids else [])
        while waiting:
            some, where = waiting.popleft()
            size = min(self.batch, len(some))
            if size < len(some):
                waiting.appendleft((some[size:], where[size:]))
            state = self._fitting(size, partial(self._core.init, [frame] * size, where[:size]))
            if state is None:
                waiting.appendleft((some[:size], where[:size]))
            else:
                new.append(_Group(some[:size], state))
        self._tell(before)
        self._next += len(ids)
        self._groups = self._joined([*self._groups, *new])
        self._streams |= dict.fromkeys(ids, stream)
        self._lost |= dict.fromkeys(ids, 0)
        if ids:
            self._shapes[stream] = frame.shape
        return ids

    def remove(self, *ids: int) -> None:
        """Follow these targets no longer.

        Raises:
            UserError: one is not followed.
        """
        for each in ids:
            if each not in self._streams:
                raise UserError(f"there is no target {each} to remove; followed are {_some(self.ids)}")
        if not ids:
            return
        gone = set(ids)
        kept = []
        for group in self._groups:
            places = [place for place, each in enumerate(group.ids) if each not in gone]
            if places:
                kept.append(group if len(places) == len(group.ids) else group.take(places))
        self._groups = self._joined(kept)
        for each in gone:
            del self._streams[each], self._lost[each]
        going = set(self._streams.values())
        self._shapes = {stream: shape for stream, shape in self._shapes.items() if stream in going}

    def update(self, frame: Image | Mapping[Hashable, Image]) -> dict[int, TrackResult]:
        """Return where the targets are in the next frame, by their ids.

        Args:
            frame: [H, W, 3] uint8 BGR; or the next frame of each stream that has targets, by the stream's name.

        Raises:
            UserError: a frame cannot be used, is missing or has another size than before, or there is not even memory
                for one target. No target has then moved.
        """
        frames: Mapping[Hashable, Image] = frame if isinstance(frame, Mapping) else {None: frame}
        for stream, image in frames.items():
            check_frame(image)
            self._check_shape(image, stream)
        for stream in self._shapes:
            if stream not in frames:
                raise UserError(
                    f"no frame was given for stream {stream!r}, which has targets; give one, or remove them"
                )
        before, after = self.batch, list[_Group]()
        results: dict[int, TrackResult] = {}
        waiting = deque(self._groups)
        while waiting:
            group = waiting.popleft()
            if len(group.ids) > self.batch:
                places = range(len(group.ids))
                waiting.extendleft([group.take(places[self.batch :]), group.take(places[: self.batch])])
                continue
            images = [frames[self._streams[each]] for each in group.ids]
            stepped = self._fitting(len(images), partial(self._core.step, images, group.state))
            if stepped is None:
                waiting.appendleft(group)
                continue
            state, found = stepped
            after.append(_Group(group.ids, state))
            results |= {each: self._core.result(found, place) for place, each in enumerate(group.ids)}
        self._tell(before)
        self._groups = after
        self._lost = {each: self._lost[each] + 1 if result.lost else 0 for each, result in results.items()}
        if self.drop_after:
            self.remove(*(each for each, lost in self._lost.items() if lost >= self.drop_after))
        return results

    def track(
        self,
        source: str | Path | int | VideoSource,
        targets: Sequence[Target | Box],
        *,
        start: Moment | None = None,
        end: Moment | None = None,
    ) -> Iterator[tuple[VideoFrame, dict[int, TrackResult]]]:
        """Follow ``targets`` through ``source``; yield each frame with the results of those that have begun.

        The first result of a target is its box with score 1. What was followed before is forgotten.

        Args:
            source: a video file, a folder or glob of images, the number of a camera, or an open source.
            targets: boxes of the first frame that is read, or targets that begin later.
            start: first frame (int) or time in seconds (float), of a source that is not open yet.
            end: the frame or time before which tracking ends, likewise.

        Raises:
            UserError: the source cannot be read, two targets have one id, or a box is not in its frame.
        """
        if not isinstance(source, VideoSource):
            source = VideoSource(source, start, end)
        elif (start, end) != (None, None):
            raise UserError("start and end are for sources that are not open yet")
        try:
            for _, frame, results in self.in_step([(None, (source, numbered(targets)))]):
                if isinstance(frame, UserError):
                    raise frame
                if frame:
                    yield frame, results
        finally:
            source.close()

    def in_step(
        self, streams: Iterable[tuple[Hashable, Frames]], together: int | None = None
    ) -> Iterator[tuple[Hashable, VideoFrame | UserError | None, dict[int, TrackResult]]]:
        """Follow the targets of several streams, a frame of each at a time, until all have ended.

        Where a stream ends, the next one takes its place in the same turn, so that batches stay full. Yields a
        stream's name, its frame, and the results of those of its targets that have begun, by their own ids. At the
        stream's end comes None in place of a frame, or the error if it went wrong. What was followed before is
        forgotten.

        Args:
            streams: of each stream its name, its frames, and the targets with their ids (see :func:`numbered`); the
                next is asked for when it can begin.
            together: how many go at a time; None for all.
        """
        self.remove(*self.ids)
        waiting, going = iter(streams), dict[Hashable, _Stream]()

        def turn() -> Iterator[Hashable]:
            """Yield the streams that go on, then new ones while there is room."""
            yield from list(going)
            while together is None or len(going) < together:
                if (entry := next(waiting, None)) is None:
                    return
                name, (frames, targets) = entry
                going[name] = _Stream(iter(frames), targets)
                yield name

        def end(name: Hashable) -> None:
            self.remove(*going.pop(name).begun)

        while True:
            frames: dict[Hashable, VideoFrame] = {}
            for name in turn():
                stream = going[name]
                try:
                    frame = next(stream.frames, None)
                except (UserError, OSError) as error:
                    end(name)
                    yield name, UserError(str(error)), {}
                    continue
                if frame is not None:
                    self.remove(*stream.over(frame))
                    stream.keep(self._streams)
                if frame is None or not stream.goes_on:
                    end(name)
                    yield name, None, {}
                    continue
                frames[name] = frame
            if not going:
                return
            found = self.update({name: frame.image for name, frame in frames.items()})
            for name, frame in frames.items():
                stream = going[name]
                results = {own: found[each] for each, own in stream.begun.items()}
                stream.keep(self._streams)  # without those that were dropped
                try:
                    due = stream.due(frame)
                    ids = self.add_all(frame.image, [target.box for target in due.values()], stream=name)
                except UserError as error:
                    end(name)
                    yield name, error, {}
                    continue
                stream.begun |= dict(zip(ids, due, strict=True))
                results |= {own: TrackResult(np.array(each.box, float).reshape(4), 1.0) for own, each in due.items()}
                yield (
                    name,
                    frame,
                    {each: replace(result, frame=frame.index, time=frame.time) for each, result in results.items()},
                )

    def _check_shape(self, frame: Image, stream: Hashable) -> None:
        before = self._shapes.get(stream, frame.shape)
        if frame.shape != before:
            now, then = (f"{shape[1]}x{shape[0]}" for shape in (frame.shape, before))
            raise UserError(f"the frame is {now}, the targets were added in frames of {then}; resize it")

    def _fitting(self, count: int, work: Callable[[], Done]) -> Done | None:
        """Return what ``work`` on ``count`` targets returns; None, and smaller batches, if memory does not suffice."""
        try:
            return work()
        except Exception as error:
            if not _out_of_memory(error):
                raise
        # Only here what the failed work held in memory is released.
        if count == 1:
            raise UserError(
                f"memory does not suffice even for one target at a time, beside the {len(self._streams)} that are "
                "followed; remove some, or take a smaller model or another device"
            )
        self.batch = -(-count // 2)
        return None

    def _tell(self, before: int) -> None:
        if self.batch < before:
            _log.warning(
                "memory suffices for %d targets at a time, not for %d; they now go in batches of %d",
                self.batch,
                before,
                self.batch,
            )

    def _joined(self, groups: list[_Group]) -> list[_Group]:
        """Return the groups with small neighbours put together."""
        joined: list[_Group] = []
        run: list[_Group] = []

        def finish() -> None:
            if len(run) == 1:
                joined.append(run[0])
            elif run:
                ids = [each for group in run for each in group.ids]
                joined.append(_Group(ids, type(run[0].state).join([group.state for group in run])))
            run.clear()

        for group in groups:
            if sum(len(each.ids) for each in [*run, group]) > self.batch:
                finish()
            run.append(group)
        finish()
        return joined


class _Stream:
    """A stream on its way: its frames, and its targets."""

    def __init__(self, frames: Iterator[VideoFrame], targets: Mapping[int, Target]) -> None:
        self.frames = frames
        self.begun: dict[int, int] = {}
        """The targets that are followed: the tracker's id and their own."""
        self._targets = targets
        self._waiting = list(targets)
        self._first = True

    @property
    def goes_on(self) -> bool:
        """Whether a target is left, or still to come."""
        return bool(self._waiting or self.begun)

    def keep(self, followed: Container[int]) -> None:
        """Forget the targets that are followed no longer."""
        self.begun = {each: own for each, own in self.begun.items() if each in followed}

    def over(self, frame: VideoFrame) -> list[int]:
        """Return the tracker's ids of the targets whose end this frame is."""
        ends = ((each, self._targets[own].end) for each, own in self.begun.items())
        return [each for each, end in ends if end is not None and reached(end, frame.index, frame.time)]

    def due(self, frame: VideoFrame) -> dict[int, Target]:
        """Return the targets that begin in this frame, by their own ids.

        Raises:
            UserError: one should have begun before the first frame, or its box cannot be used.
        """
        due: dict[int, Target] = {}
        later: list[int] = []
        for own in self._waiting:
            target = self._targets[own]
            if target.start is not None and not reached(target.start, frame.index, frame.time):
                later.append(own)
                continue
            first = frame.index if isinstance(target.start, int) else (frame.time or 0.0) - 0.001
            if self._first and target.start is not None and target.start < first:
                raise UserError(
                    f"target {own} starts at {shown(target.start)}, but the first frame that is read is number "
                    f"{frame.index}; start earlier, or give the box in a later frame"
                )
            try:
                check_box(target.box, frame.image.shape[1], frame.image.shape[0])
            except UserError as error:
                raise error if len(self._targets) == 1 else UserError(f"target {own}: {error}") from None
            due[own] = target
        self._first, self._waiting = False, later
        return due


def numbered(targets: Sequence[Target | Box]) -> dict[int, Target]:
    """Return targets by their ids: boxes, and targets without one, get their place in the list, from 1.

    Raises:
        UserError: there are none, or two have one id.
    """
    known: dict[int, Target] = {}
    for place, given in enumerate(targets, 1):
        target = given if isinstance(given, Target) else Target(given)
        own = place if target.id is None else target.id
        if own in known:
            raise UserError(f"two targets have the id {own}; give each its own")
        known[own] = target
    if not known:
        raise UserError("there is nothing to follow: no box was given")
    return known


def earliest(targets: Iterable[Target]) -> Moment | None:
    """Return where reading can begin: at the first start; None, the beginning, if one has none or kinds are mixed."""
    starts = [target.start for target in targets]
    known = [start for start in starts if start is not None]
    return min(known) if len(known) == len(starts) and len({type(start) for start in known}) == 1 else None


def _out_of_memory(error: Exception) -> bool:
    """Return whether an error of numpy, torch, ONNX Runtime or CUDA says that memory does not suffice."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(sign in str(error).lower() for sign in ("out of memory", "failed to allocate memory"))


def _some(ids: Sequence[int]) -> str:
    listed = ", ".join(map(str, ids[:10])) or "none"
    return f"{listed} and {len(ids) - 10} more" if len(ids) > 10 else listed
