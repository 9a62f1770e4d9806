"""Frames of a video file or network stream, decoded with PyAV; entered anywhere without decoding what comes before."""

import math
from bisect import bisect_left, insort
from collections.abc import Generator, Iterator
from fractions import Fraction
from heapq import heappop, heappush
from itertools import chain
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.stream import Disposition

from siamtrack.errors import UserError
from siamtrack.video.frame import Moment, VideoFrame, reached
from siamtrack.video.image import Image

_NUMBERED = ("h264", "hevc", "av1", "vp9", "mjpeg")
"""Codecs in which each packet is a frame that is shown. Others are decoded from the start: VP8 has hidden frames,
MPEG-4 Part 2 has packets that show nothing."""
_REORDERED = 32
"""Frames that may come later in the file than frames shown after them; H.264 and HEVC allow 16."""
_TRIES = 3  # keyframes that are sought before a file counts as one that cannot be entered in the middle
_FASTEST = 1000  # frames a second; a file that claims as many or more tells the ticks of its clock

Decoded = Iterator[tuple[int, float, av.VideoFrame]]


class Film:
    """A video file or stream that is open.

    Args:
        path: of a file, or a URL.
        patience: seconds without data after which a URL counts as stalled.
        threads: that decode; None for one a core.

    Raises:
        UserError: no such file, or no video in it.
    """

    fps: Fraction | None
    """Frames a second, if it says so."""
    count: int | None
    """About how many frames it should have, if that is known."""
    live: bool
    """Whether it is a URL without an end, such as a camera's: frames come when they come."""
    problem: str | None = None
    """What went wrong, if reading ended before it should have; one sentence."""

    def __init__(self, path: str, patience: float, threads: int | None = None) -> None:
        self._path, self._patience, self._threads = path, patience, threads
        self._number = 0  # of the next frame
        self._remote = "://" in path and not path.startswith("file:")
        if "://" not in path and not Path(path).is_file():
            raise UserError(f"there is no file {path}")
        self._container = self._open()
        stream = _shown(self._container)
        # A file of known size has an end even where it does not tell its length; of a playlist the size says nothing.
        listed = self._container.format.name in ("hls", "dash")
        self.live = self._remote and self._container.duration is None and (listed or self._container.size <= 0)
        rates = (rate for rate in (stream.average_rate, stream.guessed_rate) if rate and rate < _FASTEST)
        self.fps = next(map(Fraction, rates), None)
        self._length = _length(self._container)
        # An edit list hides frames that the container counts; the length is what is shown.
        self.count = round(self._length * self.fps) if self._length and self.fps else stream.frames or None

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
        # FFmpeg would take the beginning of 12:30:00.mp4 for a protocol, but not that of an absolute path.
        place = self._path if "://" in self._path else str(Path(self._path).absolute())
        try:
            container = av.open(place, options=options, timeout=self._patience if self._remote else None)
        except av.error.ExitError:
            raise UserError(f"{self._path} did not answer for {self._patience:g} s") from None
        except av.error.FFmpegError as error:
            raise UserError(f"{self._path} is no video that can be read ({error.strerror})") from None
        if container.format.name == "tty" or not _films(container):
            container.close()
            raise UserError(f"{self._path} holds no video stream")
        stream = _shown(container)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = self._threads or 0  # 0: one a core
        return container

    def _from(self, start: Moment | None) -> Decoded:
        """Yield frames from ``start`` or somewhat before on."""
        told = self._container.format.name != "avi" and _shown(self._container).codec_context.name in _NUMBERED
        if start and told and not self._remote:
            origin = next((frame.pts for _, _, frame in self._decoded(None)), None)
            self._start_again()
            if origin is not None:
                stamps, keys = self._stamps(start, origin)
                self._start_again()
                if stamps:
                    found = self._entered(start, stamps, keys)
                    if found is not None:
                        return found
                    self._start_again()
        return self._decoded(None)

    def _start_again(self) -> None:
        self._container.close()
        self._container = self._open()
        self._number, self.problem = 0, None

    def _stamps(self, start: Moment, origin: int) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the time stamps of all frames up to somewhat behind ``start``, in order, without decoding any, and
        each keyframe's, with the one to seek it by; nothing if the file does not tell them reliably.

        Args:
            start: frame or time.
            origin: time stamp of the first frame that can be decoded; what is before is never shown.
        """
        stream = _shown(self._container)
        stamps: list[int] = []
        keys: list[tuple[int, int]] = []
        last = -math.inf
        try:
            for packet in self._container.demux(stream):
                if packet.size == 0 and packet.dts is None:  # the end
                    break
                if packet.pts is None or (packet.dts is not None and packet.dts < last):
                    return [], []
                last = last if packet.dts is None else packet.dts
                if packet.pts < origin:
                    continue
                if packet.is_keyframe:
                    keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
                if not packet.is_discard:  # by an edit list
                    insort(stamps, packet.pts)
                place = len(stamps) - 1 - _REORDERED
                if place >= 0 and reached(start, place, float((stamps[place] - stamps[0]) * stream.time_base)):
                    break
        except av.error.FFmpegError:  # decoding will say what is wrong
            return [], []
        reliable = len(set(stamps)) == len(stamps) and stamps[:1] == [origin]
        return (stamps, keys) if reliable else ([], [])

    def _entered(self, start: Moment, stamps: list[int], keys: list[tuple[int, int]]) -> Decoded | None:
        """Return the frames from ``start`` on by way of the last keyframe before it; None if that is not possible."""
        stream = _shown(self._container)
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
        stream = _shown(self._container)
        clock = _Clock(self._container, origin, 1 / float(self.fps or 25))
        error: av.error.FFmpegError | None = None
        broken = False
        packets = self._container.demux(stream)
        while not broken:
            packet, frames = None, []
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                clock.feed(packet)
                frames = packet.decode()
            except av.error.FFmpegError as problem:
                error = problem
                # A recording may begin between two keyframes, and a camera go on after a disturbance.
                broken = packet is None or not (self.live or self._number == 0)
                frames = _held_back(stream) if broken else []
            for frame in frames:
                number, self._number = self._number, self._number + 1
                yield number, clock.time(frame), frame
        if isinstance(error, av.error.ExitError):
            self.problem = f"{self._path} gave no frame for {self._patience:g} s after {self._number} frames"
        elif error and broken and self._number:
            self.problem = f"{self._path} broke after {self._number} frames ({error.strerror})"
        elif error and not self._number:
            self.problem = f"{self._path} holds no frame that can be decoded ({error.strerror})"
        elif self._length and clock.missing(self._length):
            self.problem = (
                f"{self._path} ended after {self._number} frames, {clock.missing(self._length):.1f} s before the end "
                f"of the {float(self._length):.1f} s that it should have; it was cut short"
            )


class _Clock:
    """The times of frames, where a file tells them and where it does not.

    Args:
        container: that is read.
        origin: time stamp of frame 0; None if that is the first to come.
        step: seconds between frames that have no time stamp.
    """

    def __init__(self, container: Any, origin: int | None, step: float) -> None:
        self._stream = _shown(container)
        self._origin, self._step = origin, step
        # AVI tells when packets are decoded; sorted, these are the times at which frames are shown.
        self._fed: list[int] | None = [] if container.format.name == "avi" else None
        self._shift, self._last = 0.0, -step
        # The length of a whole container, where a stream tells none, counts from 0.
        self._end = self._start = (self._stream.start_time or 0) if self._stream.duration else 0

    def feed(self, packet: Any) -> None:
        """Note the packet that is decoded next."""
        if packet.dts is None:
            return
        if self._fed is not None and packet.size:
            heappush(self._fed, packet.dts)
        self._end = max(self._end, (packet.dts if packet.pts is None else packet.pts) + (packet.duration or 0))

    def time(self, frame: av.VideoFrame) -> float:
        """Return the seconds of the next frame since frame 0; they never go back, even where two films were joined."""
        stamp = heappop(self._fed) if self._fed else frame.pts
        seconds = self._last + self._step
        if stamp is not None and self._stream.time_base is not None:
            self._origin = stamp if self._origin is None else self._origin
            told = float((stamp - self._origin) * self._stream.time_base) + self._shift
            if told > self._last:
                seconds = told
            else:
                self._shift += seconds - told
        self._last = seconds
        return seconds

    def missing(self, length: Fraction) -> float:
        """Return how many seconds of ``length`` did not come; 0 if it is too little to tell."""
        tick = self._stream.time_base or Fraction(0)
        missing = float(length - (self._end - self._start) * tick)
        return missing if missing > max(0.02 * float(length), 1.5 * self._step) else 0.0


def _films(container: Any) -> list[Any]:
    """Return the video streams of a container, without the covers of songs and films."""
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def _shown(container: Any) -> Any:
    """Return the first video stream, which is the one that is read."""
    return _films(container)[0]


def _length(container: Any) -> Fraction | None:
    """Return how many seconds the video stream should have, if the file says so."""
    stream = _shown(container)
    if stream.duration and stream.time_base:
        return Fraction(stream.duration * stream.time_base)
    if container.duration and len(container.streams) == 1:  # of more, another may be the longest
        return Fraction(container.duration, av.time_base)
    return None


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
