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
from siamtrack.runtimes.load import GRAPHS, Runtime, out_of_memory
from siamtrack.tracker import Box, Tracker, check_frame
from siamtrack.tracking.core import Latency
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
        latency: see :class:`siamtrack.Tracker`; :meth:`track` and :meth:`in_step` give each frame its own answers.
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
    latency: Latency
    """Whether :meth:`update` answers for its frame, ``immediate``, or for the one before, ``pipelined``."""

    def __init__(
        self,
        model: str | Path | Tracker = zoo.DEFAULT,
        *,
        device: str = "cpu",
        runtime: Runtime = "auto",
        threads: int | None = None,
        tracking: Mapping[str, Any] | None = None,
        latency: Latency = "immediate",
        batch: int | None = None,
        drop_after: int | None = None,
    ) -> None:
        if not isinstance(model, Tracker):
            model = Tracker(model, device=device, runtime=runtime, threads=threads, tracking=tracking, latency=latency)
        self.preset, self.tracking = model.preset, model.tracking
        self.runtime, self.latency = model.runtime, model.latency
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
        self.batch = batch or (GRAPH_BATCH if model.runtime in GRAPHS else fitting)
        self.drop_after = drop_after
        self._core = model.core
        self._groups: list[_Group] = []
        self._streams: dict[int, Hashable] = {}  # by target
        self._shapes: dict[Hashable, tuple[int, ...]] = {}  # of the frames of each stream that has targets
        self._lost: dict[int, int] = {}  # for how many frames without a break
        self._next = 1
        self._stopped: Callable[[], bool] = lambda: False

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

        With latency ``pipelined`` it is where they were in the frame before, for a target that has just been added the
        given box; the answer to the last frame before a target is removed is only in :meth:`last`.

        Args:
            frame: [H, W, 3] uint8 BGR; or the next frame of each stream that has targets, by the stream's name.

        Raises:
            UserError: a frame cannot be used, is missing or has another size than before, or there is not even memory
                for one target. No target has then moved, but in a GPU's graph those of batches that were done before.
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

    def last(self) -> dict[int, TrackResult]:
        """Return where the targets are in the last frame that was given, which ``pipelined`` updates have not said yet.

        Raises:
            UserError: the latency is not ``pipelined``.
        """
        results: dict[int, TrackResult] = {}
        for group in self._groups:
            found = self._core.last(group.state)
            results |= {each: self._core.result(found, place) for place, each in enumerate(group.ids)}
        return results

    def track(
        self,
        source: str | Path | int | VideoSource,
        targets: Sequence[Target | Box],
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[VideoFrame, dict[int, TrackResult]]]:
        """Follow ``targets`` through ``source``; yield each frame with the results of those that have begun.

        The first result of a target is its box with score 1. What was followed before is forgotten.

        Args:
            source: a video file, a folder or glob of images, the number of a camera, or an open source.
            targets: boxes of the first frame that is read, or targets that begin later.
            start: first frame (int) or time in seconds (float), of a source that is not open yet.
            end: the frame or time before which tracking ends, likewise.
            stopped: asked before each batch of targets; once true, tracking ends, without the frame that it is in.

        Raises:
            UserError: the source cannot be read, two targets have one id, or a box is not in its frame.
        """
        if not isinstance(source, VideoSource):
            source = VideoSource(source, start, end)
        elif (start, end) != (None, None):
            raise UserError("start and end are for sources that are not open yet")
        self._stopped = stopped
        try:
            for _, frame, results in self.in_step([(None, (source, numbered(targets)))]):
                if isinstance(frame, UserError):
                    raise frame
                if frame:
                    yield frame, results
        except _Stopped:
            return
        finally:
            self._stopped = lambda: False
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
        late = self.latency == "pipelined"  # the answers to a frame come with the next, or when their target leaves

        def turn() -> Iterator[Hashable]:
            """Yield the streams that go on, then new ones while there is room."""
            yield from list(going)
            while together is None or len(going) < together:
                if (entry := next(waiting, None)) is None:
                    return
                name, (images, targets) = entry
                going[name] = _Stream(iter(images), targets)
                yield name

        while True:
            frames: dict[Hashable, VideoFrame] = {}
            leaving: dict[Hashable, dict[int, TrackResult]] = {}
            for name in turn():
                stream, problem = going[name], None
                try:
                    frame = next(stream.frames, None)
                except (UserError, OSError) as error:
                    frame, problem = None, UserError(str(error))
                over = stream.over(frame)
                if late and over:
                    answers = self.last()
                    leaving[name] = {each: answers[each] for each in over}
                self.remove(*over)
                if frame is not None and stream.goes_on(self._streams):
                    frames[name] = frame
                    continue
                if late and stream.shown:
                    yield name, stream.shown, stream.answers(stream.shown, leaving.get(name, {}))
                del going[name]
                yield name, problem, {}
            if not going:
                return
            found = self.update({name: frame.image for name, frame in frames.items()})
            for name, frame in frames.items():
                stream = going[name]
                known = found | leaving[name] if name in leaving else found
                results = {each: known[each] for each in stream.begun if each in known}
                if late and stream.shown:
                    yield name, stream.shown, stream.answers(stream.shown, results)
                try:
                    due = stream.due(frame)
                    ids = self.add_all(frame.image, [target.box for target in due.values()], stream=name)
                except UserError as error:
                    self.remove(*(each for each in stream.begun if each in self._streams))
                    del going[name]
                    yield name, error, {}
                    continue
                stream.begun |= dict(zip(ids, due, strict=True))
                if not late:
                    boxes = (np.array(target.box, float).reshape(4) for target in due.values())
                    results |= {each: TrackResult(box, 1.0) for each, box in zip(ids, boxes, strict=True)}
                    yield name, frame, stream.answers(frame, results)
                elif stream.goes_on(self._streams):
                    stream.shown = frame
                else:  # the answers that have just come dropped its last target
                    del going[name]
                    yield name, None, {}
                stream.keep(self._streams)

    def _check_shape(self, frame: Image, stream: Hashable) -> None:
        before = self._shapes.get(stream, frame.shape)
        if frame.shape != before:
            now, then = (f"{shape[1]}x{shape[0]}" for shape in (frame.shape, before))
            raise UserError(f"the frame is {now}, the targets were added in frames of {then}; resize it")

    def _fitting(self, count: int, work: Callable[[], Done]) -> Done | None:
        """Return what ``work`` on ``count`` targets returns; None, and smaller batches, if memory does not suffice."""
        if self._stopped():
            raise _Stopped
        try:
            return work()
        except Exception as error:
            if not out_of_memory(error):
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


class _Stopped(Exception):
    """Tracking was stopped in the middle of a frame; no target has moved in it."""


class _Stream:
    """A stream on its way: its frames, and its targets."""

    def __init__(self, frames: Iterator[VideoFrame], targets: Mapping[int, Target]) -> None:
        self.frames = frames
        self.begun: dict[int, int] = {}
        """The targets that are followed: the tracker's id and their own."""
        self.shown: VideoFrame | None = None
        """The last frame that its targets were looked for in."""
        self._targets = targets
        self._waiting = list(targets)
        self._first = True

    def goes_on(self, followed: Container[int]) -> bool:
        """Return whether a target is left, or still to come."""
        return bool(self._waiting) or any(each in followed for each in self.begun)

    def keep(self, followed: Container[int]) -> None:
        """Forget the targets that are followed no longer."""
        self.begun = {each: own for each, own in self.begun.items() if each in followed}

    def answers(self, frame: VideoFrame, results: Mapping[int, TrackResult]) -> dict[int, TrackResult]:
        """Return the results in ``frame``, which are by the tracker's ids, by the targets' own."""
        stamped = ((each, replace(result, frame=frame.index, time=frame.time)) for each, result in results.items())
        return {self.begun[each]: result for each, result in stamped}

    def over(self, frame: VideoFrame | None) -> list[int]:
        """Return the tracker's ids of the targets whose end this frame is; of all at the stream's end, None."""
        if frame is None:
            return list(self.begun)
        ends = ((each, self._targets[own].end) for each, own in self.begun.items())
        return [each for each, end in ends if end is not None and reached(end, frame.index, frame.time)]

    def due(self, frame: VideoFrame) -> dict[int, Target]:
        """Return the targets that begin in this frame, by their own ids.

        Raises:
            UserError: one should have begun before the first frame, or, told at the first frame, the box of one that
                begins now or later cannot be used.
        """
        if self._first:  # frames keep their size, and who waits for hours wants to know before
            for own, target in self._targets.items():
                try:
                    check_box(target.box, frame.image.shape[1], frame.image.shape[0])
                except UserError as error:
                    raise error if len(self._targets) == 1 else UserError(f"target {own}: {error}") from None
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


def _some(ids: Sequence[int]) -> str:
    listed = ", ".join(map(str, ids[:10])) or "none"
    return f"{listed} and {len(ids) - 10} more" if len(ids) > 10 else listed
