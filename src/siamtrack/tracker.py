"""The tracker that people use: a small stateful object around the functions in :mod:`siamtrack.tracking`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import check_box
from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.runtimes.load import Runtime, load_core, out_of_memory
from siamtrack.tracking.config import TrackingConfig
from siamtrack.tracking.core import Core, Latency
from siamtrack.tracking.state import TrackResult
from siamtrack.video.frame import Moment, VideoFrame
from siamtrack.video.image import Image
from siamtrack.video.source import VideoSource

Box = Sequence[float] | NDArray[np.float64]
Done = TypeVar("Done")


class Tracker:
    """Follows one object through a sequence of frames.

    >>> tracker = Tracker()
    >>> tracker.init(frame, box=(120, 80, 60, 140))
    >>> result = tracker.update(next_frame)
    >>> result.box, result.score

    Frames are [H, W, 3] uint8 BGR arrays, as OpenCV reads them; boxes are x, y, w, h in pixels, 0-based floats.

    Args:
        model: the name of a model (see ``siamtrack models``), or the path of a weight file.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        runtime: ``auto``, ``onnx``, ``openvino``, ``torch``, ``torch-compile``, or ``cuda-graph`` (float16) and
            ``cuda-graph-fp32``, which take the whole step to a GPU; the attribute ``runtime`` says what auto chose.
        threads: threads of the CPU; None for one a core.
        tracking: parameters of tracking that take the place of the model's own, such as ``{"lr": 0.3}``; see
            :class:`siamtrack.tracking.config.TrackingConfig`.
        latency: with ``pipelined`` :meth:`update` does not wait for the GPU, and returns the answer to the frame before
            (after the first update the given box); :meth:`last` has the one to the last frame. :meth:`track` and
            :meth:`track_frames` give each frame its own all the same. For the runtimes of a GPU's graph.

    Raises:
        UserError: the model cannot be loaded (see :func:`siamtrack.runtimes.load.load_core`), or a parameter of
            tracking is unknown or does not fit.
    """

    def __init__(
        self,
        model: str | Path = zoo.DEFAULT,
        *,
        device: str = "cpu",
        runtime: Runtime = "auto",
        threads: int | None = None,
        tracking: Mapping[str, Any] | None = None,
        latency: Latency = "immediate",
    ) -> None:
        self._core, self.preset = load_core(model, device, runtime, threads, tracking, latency)
        self.tracking = self._core.config
        self.device = device
        self._state: Any = None
        self._frame_shape: tuple[int, ...] = ()

    @property
    def runtime(self) -> str:
        """What runs the network, such as ``openvino`` or ``onnx (CUDA)``."""
        return self._core.runtime

    @property
    def latency(self) -> Latency:
        """Whether :meth:`update` answers for its frame, ``immediate``, or for the one before, ``pipelined``."""
        return self._core.latency

    @property
    def core(self) -> Core:
        """The functions that it is made of, to follow many targets in one batch."""
        return self._core

    def with_tracking(self, tracking: TrackingConfig) -> "Tracker":
        """Return a tracker with the same network, other parameters of tracking and nothing to follow yet."""
        other = copy(self)
        other.tracking = tracking
        other._core = self._core.with_tracking(tracking)
        other._state = None
        return other

    def init(self, frame: Image, box: Box) -> None:
        """Start to follow the object in ``box`` of ``frame``; what was followed before is forgotten.

        Raises:
            UserError: the frame is no [H, W, 3] uint8 array, the box is not in it, or memory does not suffice.
        """
        check_frame(frame)
        values = check_box(box, frame.shape[1], frame.shape[0])
        self._state = self._fitting(lambda: self._core.init([frame], values[None]))
        self._frame_shape = frame.shape

    def update(self, frame: Image) -> TrackResult:
        """Return where the object is in the next frame; with latency ``pipelined``, where it was in the one before.

        Raises:
            UserError: called before :meth:`init`, the frame is no [H, W, 3] uint8 array of init's size, or memory does
                not suffice.
        """
        if self._state is None:
            raise UserError("update was called before init; call init(frame, box) with the first frame")
        check_frame(frame)
        if frame.shape != self._frame_shape:
            now, then = (f"{shape[1]}x{shape[0]}" for shape in (frame.shape, self._frame_shape))
            raise UserError(f"the frame is {now}, the one given to init was {then}; resize it, or call init again")
        self._state, found = self._fitting(lambda: self._core.step([frame], self._state))
        return self._core.result(found, 0)

    def last(self) -> TrackResult:
        """Return where the object is in the last frame that was given, which ``pipelined`` updates have not said yet.

        Raises:
            UserError: called before :meth:`init`, or the latency is not ``pipelined``.
        """
        if self._state is None:
            raise UserError("last was called before init; call init(frame, box) with the first frame")
        return self._core.result(self._core.last(self._state), 0)

    def track(
        self,
        source: str | Path | int | VideoSource | Iterable[Image],
        box: Box,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
    ) -> Iterator[TrackResult]:
        """Follow the object in ``box`` of the first frame through ``source``; yield a result a frame.

        The first result is the given box with score 1. Frames of another size than the first are scaled to it.

        Args:
            source: a video file, a folder or glob of images, the number of a camera, an open source, or frames.
            box: x, y, w, h in the first frame that is tracked.
            start: first frame (int) or time in seconds (float), of a source that is not open yet.
            end: the frame or time before which tracking ends, likewise.

        Raises:
            UserError: the source cannot be read, or the box is not in its first frame.
        """
        if isinstance(source, str | Path | int):
            source = VideoSource(source, start, end)
        elif (start, end) != (None, None):
            raise UserError("start and end are for sources that are not open yet; choose the frames yourself")
        frames = source if isinstance(source, VideoSource) else map(_untimed, enumerate(source))
        try:
            for _, result in self.track_frames(frames, box):
                yield result
        finally:
            if isinstance(source, VideoSource):
                source.close()

    def track_frames(self, frames: Iterable[VideoFrame], box: Box) -> Iterator[tuple[VideoFrame, TrackResult]]:
        """Follow the object in ``box`` of the first of ``frames``; yield each frame with its result.

        Raises:
            UserError: the box is not in the first frame.
        """
        before: VideoFrame | None = None  # whose answer comes with the next
        for number, frame in enumerate(frames):
            if number == 0:
                self.init(frame.image, box)
                found = TrackResult(np.array(box, float).reshape(4), 1.0)
            else:
                found = self.update(frame.image)
            if self.latency == "immediate":
                yield frame, replace(found, frame=frame.index, time=frame.time)
                continue
            if before:
                yield before, replace(found, frame=before.index, time=before.time)
            before = frame
        if before:
            yield before, replace(self.last(), frame=before.index, time=before.time)

    def _fitting(self, work: Callable[[], Done]) -> Done:
        try:
            return work()
        except Exception as error:
            if isinstance(error, UserError) or not out_of_memory(error):
                raise
        raise UserError(
            f"the memory of {self.device} does not suffice for one target; free some, or take a smaller model or "
            f"another device"
        )


def _untimed(numbered: tuple[int, Image]) -> VideoFrame:
    index, image = numbered
    return VideoFrame(index, None, image)


def check_frame(frame: object) -> None:
    """Check that ``frame`` is a [H, W, 3] uint8 array.

    Raises:
        UserError: it is not.
    """
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        given = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise UserError(f"the frame is {given}, expected a uint8 array of shape [height, width, 3] in BGR order")
