"""Frames of a video file or network stream, decoded with PyAV; entered anywhere without decoding what comes before."""

from bisect import bisect_left, insort
from collections.abc import Generator, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from siamtrack.errors import UserError
from siamtrack.video.frame import Moment, VideoFrame, reached
from siamtrack.video.image import Image

_NUMBERED = ("h264", "hevc", "av1", "vp9", "mpeg4", "mjpeg")
"""Codecs in which each packet is a frame that is shown; others (VP8's hidden frames) are decoded from the start."""
_REORDERED = 32
"""Frames that may come later in the file than frames shown after them; H.264 and HEVC allow 16."""
_TRIES = 3  # keyframes that are sought before a file counts as one that cannot be entered in the middle

Decoded = Iterator[tuple[int, float, av.VideoFrame]]


class Film:
    """A video file or stream that is open.

    Args:
        path: of a file, or a URL.
        patience: seconds without data after which a URL counts as stalled.

    Raises:
        UserError: no such file, or no video in it.
    """

    fps: Fraction | None
    """Frames a second, if it says so."""
    count: int | None
    """Frames that it should have, if that is known."""
    live: bool
    """Whether it is a URL without an end, such as a camera's: frames come when they come."""
    problem: str | None = None
    """What went wrong, if reading ended before it should have; one sentence."""

    def __init__(self, path: str, patience: float) -> None:
        self._path, self._patience = path, patience
        self._number = 0  # of the next frame
        self._remote = "://" in path and not path.startswith("file:")
        if "://" not in path and not Path(path).is_file():
            raise UserError(f"there is no file {path}")
        self._container = self._open()
        stream = self._container.streams.video[0]
        self.live = self._remote and self._container.duration is None
        rate = stream.average_rate or stream.guessed_rate
        self.fps = Fraction(rate) if rate else None
        duration = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        # An edit list hides frames that the container counts; the duration is what is shown.
        self.count = round(duration * self.fps) if duration and self.fps else stream.frames or None

    def frames(self, start: Moment | None, end: Moment | None) -> Generator[VideoFrame]:
        """Yield the frames from ``start`` to before ``end``; the film is closed afterwards."""
        try:
            for index, time, frame in self._from(start):
                if end is not None and reached(end, index, time):
                    return
                if start is None or reached(start, index, time):
                    yield VideoFrame(index, time, to_bgr(frame))
        finally:
            self._container.close()

    def _open(self) -> Any:
        options = {"rtsp_transport": "tcp"} if self._path.startswith("rtsp") else {}
        try:
            container = av.open(self._path, options=options, timeout=self._patience if self._remote else None)
        except av.error.ExitError:
            raise UserError(f"{self._path} did not answer for {self._patience:g} s") from None
        except av.error.FFmpegError as error:
            raise UserError(f"{self._path} is no video that can be read ({error.strerror})") from None
        if not container.streams.video:
            container.close()
            raise UserError(f"{self._path} holds no video stream")
        container.streams.video[0].thread_type = "AUTO"
        return container

    def _from(self, start: Moment | None) -> Decoded:
        """Yield frames from ``start`` or somewhat before on."""
        if start and not self._remote:
            stamps, keys = self._stamps(start)
            self._container.close()  # read on to somewhere behind the start
            self._container = self._open()
            if keys:
                found = self._entered(start, stamps, keys)
                if found is not None:
                    return found
                self._container.close()
                self._container = self._open()
        return self._decoded(None)

    def _stamps(self, start: Moment) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the time stamps of all frames up to somewhat behind ``start``, in order, without decoding any, and
        each keyframe's, with the one to seek it by; nothing if the file does not tell them reliably.
        """
        stream = self._container.streams.video[0]
        stamps: list[int] = []
        keys: list[tuple[int, int]] = []
        if stream.codec_context.name not in _NUMBERED:
            return [], []
        try:
            for packet in self._container.demux(stream):
                if packet.size == 0 and packet.dts is None:  # the end
                    break
                if packet.pts is None or not (keys or packet.is_keyframe):
                    return [], []
                if packet.is_keyframe:
                    keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
                if not packet.is_discard:  # by an edit list
                    insort(stamps, packet.pts)
                place = len(stamps) - 1 - _REORDERED
                if place >= 0 and reached(start, place, float((stamps[place] - stamps[0]) * stream.time_base)):
                    break
        except av.error.FFmpegError:  # decoding will say what is wrong
            return [], []
        return (stamps, keys) if len(set(stamps)) == len(stamps) else ([], [])

    def _entered(self, start: Moment, stamps: list[int], keys: list[tuple[int, int]]) -> Decoded | None:
        """Return the frames from ``start`` on by way of the last keyframe before it; None if that is not possible."""
        stream = self._container.streams.video[0]
        tick, origin = stream.time_base, stamps[0]
        first = next((i for i, pts in enumerate(stamps) if reached(start, i, float((pts - origin) * tick))), None)
        if first is None:
            return iter(())
        before = [key for key in keys if origin < key[0] <= stamps[first]]
        for _, dts in before[: -_TRIES - 1 : -1]:
            try:
                self._container.seek(dts, stream=stream)
            except av.error.FFmpegError:
                return None
            found = self._followed(first, stamps)
            if found is not None:
                return found
        return None

    def _followed(self, first: int, stamps: list[int]) -> Decoded | None:
        """Decode on to frame number ``first``; return it and what follows.

        None if the frames on the way there are not those that ``stamps`` tells of.
        """
        frames = self._decoded(stamps[0])
        place = None
        for _, time, frame in frames:
            if place is None:
                place = len(stamps) if frame.pts is None else bisect_left(stamps, frame.pts)
                self._number = place + 1
            if place > first or stamps[place] != frame.pts:
                break
            if place == first:
                return chain([(first, time, frame)], frames)
            place += 1
        self._number, self.problem = 0, None
        return None

    def _decoded(self, origin: int | None) -> Decoded:
        """Yield what can be decoded from here on. Origin: time stamp of frame 0; None if that is the first to come."""
        stream = self._container.streams.video[0]
        began = None if origin is None else float(origin * stream.time_base)
        error = None
        packets = self._container.demux(stream)
        while error is None:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                frames = packet.decode()
            except av.error.FFmpegError as problem:
                error, frames = problem, _held_back(stream)
            for frame in frames:
                stamped = frame.pts is not None and stream.time_base is not None
                seconds = float(frame.pts * stream.time_base) if stamped else self._number / float(self.fps or 25)
                began = seconds if began is None else began
                number, self._number = self._number, self._number + 1
                yield number, seconds - began, frame
        if isinstance(error, av.error.ExitError):
            self.problem = f"{self._path} gave no frame for {self._patience:g} s after {self._number} frames"
        elif error and self._number:
            self.problem = f"{self._path} broke after {self._number} frames ({error.strerror})"
        elif error:
            self.problem = f"{self._path} holds no frame that can be decoded ({error.strerror})"
        elif self.count and self._number < 0.98 * self.count - 1:
            self.problem = f"{self._path} ended after {self._number} of {self.count} frames; the file is cut short"


def _held_back(stream: Any) -> list[av.VideoFrame]:
    """Return the frames that a decoder still holds when a packet is damaged."""
    try:
        return list(stream.codec_context.decode(None))
    except av.error.FFmpegError:
        return []


def to_bgr(frame: av.VideoFrame) -> Image:
    """Return a decoded frame upright as BGR. OpenCV converts the usual 4:2:0 layout faster than swscale."""
    if frame.format.name == "yuv420p" and frame.width % 2 == 0 and frame.height % 2 == 0:
        image = cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2BGR_I420)
    else:
        image = frame.to_ndarray(format="bgr24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
