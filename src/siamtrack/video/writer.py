"""H.264 in MP4, written with PyAV."""

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import UserError
from siamtrack.files import partial, writable

_CLOCK = 90_000  # ticks a second, the usual time base of MP4


class VideoWriter:
    """Writes frames to an MP4 file, which appears under its name when the writer is closed.

    Args:
        path: ends in ``.mp4``.
        size: width and height of the frames; an odd one is extended by a pixel, as H.264's 4:2:0 needs.
        fps: frames a second.

    Raises:
        UserError: another suffix, or the file cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: Fraction) -> None:
        if path.suffix.lower() != ".mp4":
            raise UserError(f"video cannot be written to {path}: the name must end in .mp4")
        self.path = writable(path)
        width, height = size
        self._padding = (height % 2, width % 2)
        self._container = av.open(str(partial(path)), "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=fps.limit_denominator(1001))
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"preset": "veryfast", "crf": "22"}
        self._stream.codec_context.time_base = Fraction(1, _CLOCK)
        self._last = -1

    def write(self, image: NDArray[np.uint8], time: float) -> None:
        """Add a frame. Image: [H, W, 3] uint8 BGR; time: seconds since the first frame, increasing."""
        bottom, right = self._padding
        if bottom or right:
            image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_ndarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), format="yuv420p")
        self._last = frame.pts = max(round(time * _CLOCK), self._last + 1)
        frame.time_base = Fraction(1, _CLOCK)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Complete the file."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        os.replace(partial(self.path), self.path)

    def discard(self) -> None:
        """Leave no file."""
        self._container.close()
        partial(self.path).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
