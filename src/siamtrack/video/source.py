"""Where frames come from: a video file or stream, a folder or glob of images, a camera."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from glob import glob
from itertools import chain
from pathlib import Path

import av
import cv2
import numpy as np

from siamtrack.errors import UserError
from siamtrack.video.image import IMAGE_SUFFIXES, Image, image_files, read_image

DEFAULT_FPS = 25
Moment = int | float
"""A point in a source: an int is the number of a frame, a float a time in seconds."""


@dataclass(frozen=True)
class VideoFrame:
    """One frame."""

    index: int
    """Number in the source, 0-based."""
    time: float | None
    """Seconds since the source's first frame; None for frames that come from no source."""
    image: Image
    """[H, W, 3] uint8 BGR."""


class VideoSource:
    """Frames of one source, read once from beginning to end.

    A frame of another size than the first one is scaled to the first one's size, so that all boxes of a source
    share one coordinate frame; ``rescaled`` counts them.

    Args:
        source: a video file or URL, a folder or glob of images, or the number of a camera.
        start: the first frame that is read, or its time.
        end: the first frame, or its time, that is left out.

    Raises:
        UserError: no such source, it is neither video nor images, or no frame of it can be read.
    """

    name: str
    """For messages and for the names of output files."""
    fps: Fraction
    """Frames a second."""
    size: tuple[int, int]
    """Width and height of every frame."""
    count: int | None = None
    """How many frames there will be, if that is known."""
    problem: str | None = None
    """What went wrong, if reading ended before it should have; one sentence."""
    rescaled: int = 0
    """How many frames had another size."""

    def __init__(self, source: str | Path | int, start: Moment | None = None, end: Moment | None = None) -> None:
        text = str(source)
        self._release: Callable[[], None] | None = None
        self.name = text
        self.fps = Fraction(DEFAULT_FPS)
        path = Path(text)
        if path.is_dir() or (any(sign in text for sign in "*?[") and not path.exists()):
            frames = self._images(text)
        elif text.isdecimal() and not path.exists():
            frames = self._camera(int(text))
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            raise UserError(f"{text} is a single image; give a folder of images, a glob such as '*.jpg', or a video")
        else:
            frames = self._video(text)
        start, end = _plain(start), _plain(end)
        self._frames = self._range(frames, start, end)
        if self.count is not None:
            self.count = self._planned(self.count, start, end)
        first = next(self._frames, None)  # so that the size is known, and a source without frames is refused
        if first is None:
            self.close()
            where = "" if (start, end) == (None, None) else f" between start {_shown(start)} and end {_shown(end)}"
            raise UserError(self.problem or f"{self.name} has no frame{where} that can be decoded")
        self.size = (first.image.shape[1], first.image.shape[0])
        self._frames = chain([first], self._frames)

    def __iter__(self) -> Iterator[VideoFrame]:
        for frame in self._frames:
            if (frame.image.shape[1], frame.image.shape[0]) != self.size:
                self.rescaled += 1
                frame = VideoFrame(frame.index, frame.time, cv2.resize(frame.image, self.size))
            yield frame

    def close(self) -> None:
        """Release the file or camera."""
        if self._release:
            self._release()

    def _range(self, frames: Iterator[VideoFrame], start: Moment | None, end: Moment | None) -> Iterator[VideoFrame]:
        for frame in frames:
            if end is not None and _reached(frame, end):
                return
            if start is None or _reached(frame, start):
                yield frame

    def _planned(self, count: int, start: Moment | None, end: Moment | None) -> int:
        first, last = (
            moment if isinstance(moment, int) else round(moment * self.fps)
            for moment in (0 if start is None else start, count if end is None else end)
        )
        return max(0, min(last, count) - first)

    def _video(self, path: str) -> Iterator[VideoFrame]:
        if "://" not in path and not Path(path).is_file():
            raise UserError(f"there is no file {path}")
        try:
            container = av.open(path)
        except av.error.FFmpegError as error:
            raise UserError(f"{path} is no video that can be read ({error.strerror})") from None
        self._release = container.close
        if not container.streams.video:
            container.close()
            raise UserError(f"{path} holds no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = stream.average_rate or stream.guessed_rate
        self.fps = Fraction(rate) if rate else self.fps
        duration = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        # An edit list hides frames that the container counts; the duration is what is shown.
        self.count = round(duration * self.fps) if duration else stream.frames or None
        return self._decoded(container, stream, path, self.count)

    def _decoded(
        self, container: av.container.InputContainer, stream: av.VideoStream, path: str, expected: int | None
    ) -> Iterator[VideoFrame]:
        decoded, origin, error = 0, 0.0, None
        packets = container.demux(stream)
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
                seconds = float(frame.pts * stream.time_base) if stamped else decoded / float(self.fps)  # type: ignore[operator]
                origin = seconds if decoded == 0 else origin
                yield VideoFrame(decoded, seconds - origin, _to_bgr(frame))
                decoded += 1
        if error and decoded:
            self.problem = f"{path} broke after {decoded} frames ({error.strerror})"
        elif error:
            self.problem = f"{path} holds no frame that can be decoded ({error.strerror})"
        elif expected and decoded < 0.98 * expected - 1:
            self.problem = f"{path} ended after {decoded} of {expected} frames; the file is cut short"

    def _images(self, pattern: str) -> Iterator[VideoFrame]:
        if Path(pattern).is_dir():
            paths = image_files(Path(pattern))
            wanted = f"images ({' '.join(IMAGE_SUFFIXES)})"
        else:
            paths = [Path(name) for name in glob(pattern) if Path(name).is_file()]
            wanted = "files"
        if not paths:
            raise UserError(f"there are no {wanted} in {pattern}")
        paths.sort(key=lambda path: _natural(str(path)))
        self.count = len(paths)
        return self._read(paths)

    def _read(self, paths: list[Path]) -> Iterator[VideoFrame]:
        for index, path in enumerate(paths):
            image = read_image(path)
            if image is None:
                self.problem = f"{path} is no image that can be read"
                return
            yield VideoFrame(index, index / float(self.fps), image)

    def _camera(self, number: int) -> Iterator[VideoFrame]:
        if number > 999:
            raise UserError(f"there is no file or folder {number}, and no camera has so high a number")
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        camera = cv2.VideoCapture(number)
        cv2.utils.logging.setLogLevel(level)
        if not camera.isOpened():
            raise UserError(f"camera {number} cannot be opened; is it connected, and not in use elsewhere?")
        self.name = f"camera{number}"
        self._release = camera.release
        rate = camera.get(cv2.CAP_PROP_FPS)
        self.fps = Fraction(rate).limit_denominator(1001) if rate > 0 else self.fps
        return self._grabbed(camera, number)

    def _grabbed(self, camera: cv2.VideoCapture, number: int) -> Iterator[VideoFrame]:
        began, index = time.monotonic(), 0
        while True:
            ok, image = camera.read()
            if not ok:
                self.problem = f"camera {number} gave no frame after {index}"
                return
            yield VideoFrame(index, time.monotonic() - began, image)
            index += 1


def parse_moment(text: str) -> Moment:
    """Return the frame number or time in a text: ``120`` is a frame; ``4.5``, ``4.5s`` and ``1:02.5`` are times.

    Raises:
        UserError: none of these.
    """
    if text.isdecimal():
        return int(text)
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)s?", text)
    if not match:
        raise UserError(f"{text!r} is neither a frame number (120) nor a time (4.5s, 1:02.5, 1:00:00)")
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)


def _held_back(stream: av.VideoStream) -> list[av.VideoFrame]:
    """Return the frames that a decoder still holds when a packet is damaged."""
    try:
        return list(stream.codec_context.decode(None))
    except av.error.FFmpegError:
        return []


def _plain(moment: Moment | None) -> Moment | None:
    """Return a frame number of any integer type, NumPy's too, as int."""
    return int(moment) if hasattr(moment, "__index__") else moment  # type: ignore[arg-type]


def _reached(frame: VideoFrame, moment: Moment) -> bool:
    # Half a millisecond of tolerance: time stamps are rounded to the container's time base.
    return frame.index >= moment if isinstance(moment, int) else (frame.time or 0) >= moment - 0.0005


def _shown(moment: Moment | None) -> str:
    if moment is None:
        return "(none)"
    return f"frame {moment}" if isinstance(moment, int) else f"{moment:g} s"


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key by which frame2 comes before frame10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _to_bgr(frame: av.VideoFrame) -> Image:
    """Return a decoded frame upright as BGR. OpenCV converts the usual 4:2:0 layout faster than swscale."""
    if frame.format.name == "yuv420p" and frame.width % 2 == 0 and frame.height % 2 == 0:
        image = cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2BGR_I420)
    else:
        image = frame.to_ndarray(format="bgr24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
