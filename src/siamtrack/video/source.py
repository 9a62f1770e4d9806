"""Where frames come from: a video file or stream, a folder or glob of images, a camera.

A reader knows one kind of source; :class:`VideoSource` reads ahead with it in a thread.
"""

import re
import time
import weakref
from collections.abc import Generator, Iterator
from fractions import Fraction
from glob import glob
from pathlib import Path
from typing import Protocol

import cv2

from siamtrack.errors import UserError
from siamtrack.video.ahead import ReadAhead
from siamtrack.video.decode import Film
from siamtrack.video.frame import Moment, VideoFrame, reached, shown
from siamtrack.video.image import IMAGE_SUFFIXES, image_files, read_image

DEFAULT_FPS = 25
PATIENCE = 10.0
"""Seconds without a frame after which a camera or stream counts as stalled."""
_AHEAD = 4  # frames that are decoded before they are needed
_AHEAD_BYTES = 2**28  # that they may take; one always may


class VideoSource:
    """Frames of one source, read once from beginning to end, ahead of their use in a thread of their own.

    A frame of another size than the first one is scaled to the first one's size, so that all boxes of a source
    share one coordinate frame; ``rescaled`` counts them.

    A camera or a stream without an end never lags: whoever is slower than it gets the newest frame, and ``dropped``
    counts those in between. Their numbers are missing from the frames.

    Args:
        source: a video file or URL, a folder or glob of images, or the number of a camera.
        start: the first frame that is read, or its time.
        end: the first frame, or its time, that is left out.
        threads: that decode a film; None for one a core.

    Raises:
        UserError: no such source, it is neither video nor images, or no frame of it can be read.
    """

    name: str
    """For messages and for the names of output files."""
    fps: Fraction
    """Frames a second."""
    size: tuple[int, int]
    """Width and height of every frame."""
    count: int | None
    """About how many frames there will be, if that is known."""
    rescaled: int = 0
    """How many frames had another size."""

    def __init__(
        self,
        source: str | Path | int,
        start: Moment | None = None,
        end: Moment | None = None,
        threads: int | None = None,
    ) -> None:
        text = str(source)
        self._reader = _reader(text, threads)
        self._stalled: str | None = None
        self.name = f"camera{text}" if isinstance(self._reader, _Camera) else text
        self.fps = self._reader.fps or Fraction(DEFAULT_FPS)
        start, end = _plain(start), _plain(end)
        self.count = None if self._reader.count is None else self._planned(self._reader.count, start, end)
        self._frames = self._reader.frames(start, end)
        self._ahead: ReadAhead[VideoFrame] | None = None
        if self._reader.live:
            self._read_ahead()
        self._first = self._next()  # so that the size is known, and a source without frames is refused
        if self._first is None:
            self.close()
            where = "" if (start, end) == (None, None) else f" between start {shown(start)} and end {shown(end)}"
            raise UserError(self.problem or f"{self.name} has no frame{where} that can be decoded")
        self.size = (self._first.image.shape[1], self._first.image.shape[0])

    @property
    def problem(self) -> str | None:
        """What went wrong, if reading ended before it should have; one sentence."""
        return self._stalled or self._reader.problem

    @property
    def dropped(self) -> int:
        """How many frames of a camera or stream were dropped for newer ones."""
        return self._ahead.dropped if self._ahead else 0

    def __iter__(self) -> Iterator[VideoFrame]:
        if not self._ahead:
            self._read_ahead()
        frame, self._first = self._first, None
        while frame := frame or self._next():
            if (frame.image.shape[1], frame.image.shape[0]) != self.size:
                self.rescaled += 1
                frame = VideoFrame(frame.index, frame.time, cv2.resize(frame.image, self.size))
            yield frame
            frame = None

    def close(self) -> None:
        """Release the file or camera, and end the thread."""
        if self._ahead:
            self._ahead.close()
        else:
            self._frames.close()

    def _read_ahead(self) -> None:
        live = self._reader.live
        room = 1 if live or not self._first else max(1, min(_AHEAD, _AHEAD_BYTES // self._first.image.nbytes))
        self._ahead = ReadAhead(self._frames, room, newest=live)
        weakref.finalize(self, self._ahead.close)  # the thread does not know this object, so that it can be forgotten

    def _next(self) -> VideoFrame | None:
        if not self._ahead:
            return next(self._frames, None)
        try:
            return self._ahead.take(PATIENCE if self._reader.live else None)
        except TimeoutError:
            self._stalled = f"{self.name} gave no frame for {PATIENCE:g} s"
            self.close()
            return None

    def _planned(self, count: int, start: Moment | None, end: Moment | None) -> int:
        first, last = (
            moment if isinstance(moment, int) else round(moment * self.fps)
            for moment in (0 if start is None else start, count if end is None else end)
        )
        return max(0, min(last, count) - first)


class _Reader(Protocol):
    """A source that is open; its members are those of :class:`~siamtrack.video.decode.Film`."""

    fps: Fraction | None
    count: int | None
    live: bool
    problem: str | None

    def frames(self, start: Moment | None, end: Moment | None) -> Generator[VideoFrame]: ...


def _reader(source: str, threads: int | None) -> _Reader:
    if not source:
        raise UserError("the source has an empty name; give a video, a folder or glob of images, or a camera's number")
    path = Path(source)
    if path.is_dir() or (any(sign in source for sign in "*?[") and "://" not in source and not path.exists()):
        return _Images(source)
    if source.isdecimal() and not path.exists():
        return _Camera(int(source))
    if path.suffix.lower() in IMAGE_SUFFIXES and "://" not in source:
        raise UserError(f"{source} is a single image; give a folder of images, a glob such as '*.jpg', or a video")
    return Film(source, PATIENCE, threads)


class _Images:
    """A folder or glob of images, at 25 frames a second."""

    live = False
    problem: str | None = None

    def __init__(self, pattern: str) -> None:
        if Path(pattern).is_dir():
            paths = image_files(Path(pattern))
            wanted = f"images ({' '.join(IMAGE_SUFFIXES)})"
        else:
            paths = [Path(name) for name in glob(pattern) if Path(name).is_file()]
            wanted = "files"
        if not paths:
            raise UserError(f"there are no {wanted} in {pattern}")
        self._paths = sorted(paths, key=lambda path: _natural(str(path)))
        self.fps: Fraction | None = Fraction(DEFAULT_FPS)
        self.count: int | None = len(paths)

    def frames(self, start: Moment | None, end: Moment | None) -> Generator[VideoFrame]:
        for index, path in enumerate(self._paths):
            seconds = index / DEFAULT_FPS
            if end is not None and reached(end, index, seconds):
                return
            if start is None or reached(start, index, seconds):
                try:
                    image = read_image(path)
                except OSError as error:
                    self.problem = f"{path} cannot be opened ({error.strerror or error})"
                    return
                if image is None:
                    self.problem = f"{path} is no image that can be read"
                    return
                yield VideoFrame(index, seconds, image)


class _Camera:
    """A camera of this machine, until it gives no more frames."""

    live = True
    count: int | None = None
    problem: str | None = None

    def __init__(self, number: int) -> None:
        if number > 999:
            raise UserError(f"there is no file or folder {number}, and no camera has so high a number")
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        self._camera = cv2.VideoCapture(number)
        cv2.utils.logging.setLogLevel(level)
        if not self._camera.isOpened():
            raise UserError(f"camera {number} cannot be opened; is it connected, and not in use elsewhere?")
        self._number = number
        rate = self._camera.get(cv2.CAP_PROP_FPS)
        self.fps = Fraction(rate).limit_denominator(1001) if rate > 0 else None

    def frames(self, start: Moment | None, end: Moment | None) -> Generator[VideoFrame]:
        began, index = time.monotonic(), 0
        try:
            while True:
                ok, image = self._camera.read()
                seconds = time.monotonic() - began
                if not ok:
                    self.problem = f"camera {self._number} gave no frame after {index}"
                    return
                if end is not None and reached(end, index, seconds):
                    return
                if start is None or reached(start, index, seconds):
                    yield VideoFrame(index, seconds, image)
                index += 1
        finally:
            self._camera.release()


def stem_of(source: str) -> str:
    """Return a name for output files: that of the source, without the suffix of a file and the signs of a glob."""
    path = Path(source)
    text = path.resolve().name if path.is_dir() else path.stem
    cleaned = "".join("_" if sign in '*?[]:"<>|' else sign for sign in text)
    return cleaned.strip("_.") or "frames"


def _plain(moment: Moment | None) -> Moment | None:
    """Return a frame number of any integer type, NumPy's too, as int."""
    return int(moment) if hasattr(moment, "__index__") else moment  # type: ignore[arg-type]


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key by which frame2 comes before frame10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]
