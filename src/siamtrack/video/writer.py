"""H.264 in MP4, written with PyAV."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2

from siamtrack.errors import UserError
from siamtrack.files import partial, writable
from siamtrack.video.image import Image

_CLOCK = 90_000  # ticks a second, the usual time base of MP4
_LARGEST = 16384  # pixels a side that x264 takes


class VideoWriter:
    """Writes frames to an MP4 file. There is no file before the first frame; it has its name once closed.

    Args:
        path: ends in ``.mp4``.
        size: width and height of the frames; an odd one is extended by a pixel, as H.264's 4:2:0 needs.
        fps: frames a second.

    Raises:
        UserError: another suffix, frames too large for H.264, or the file cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: Fraction) -> None:
        if path.suffix.lower() != ".mp4":
            raise UserError(f"video cannot be written to {path}: the name must end in .mp4")
        if max(size) > _LARGEST:
            raise UserError(f"frames of {size[0]}x{size[1]} are too large for H.264 video; add --no-video")
        self.path = writable(path)
        self._size, self._fps = size, fps
        self._container: Any = None
        self._stream: Any = None
        self._first = 0.0
        self._last = -1
        self._broken = False

    def _open(self) -> None:
        width, height = self._size
        place = str(partial(self.path).absolute())  # FFmpeg would take the beginning of .12:30:00.mp4 for a protocol
        self._container = av.open(place, "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=self._fps.limit_denominator(1001))
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"preset": "veryfast", "crf": "22"}
        self._stream.codec_context.time_base = Fraction(1, _CLOCK)

    def write(self, image: Image, time: float) -> None:
        """Add a frame. Image: [H, W, 3] uint8 BGR; time: seconds, increasing; the video starts with the first.

        Raises:
            OSError: the disk is full, or the file cannot be written any more.
        """
        if self._container is None:
            self._open()
            self._first = time
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_ndarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), format="yuv420p")
        self._last = frame.pts = max(round((time - self._first) * _CLOCK), self._last + 1)
        frame.time_base = Fraction(1, _CLOCK)
        self._mux(frame)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except av.error.FFmpegError as error:
            self._broken = True
            raise OSError(error.errno, error.strerror) from error

    def close(self) -> None:
        """Complete the file; one that could not be written to its end is removed.

        Raises:
            OSError: the last frames could not be written.
        """
        if self._container is None:
            return
        try:
            if not self._broken:
                self._mux(None)
                self._container.close()
                os.replace(partial(self.path), self.path)
        except av.error.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error
        finally:
            self._container = None
            partial(self.path).unlink(missing_ok=True)
