"""What is shown while the clock runs: frames in memory, boxes in the first one, and the time that decoding takes."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from siamtrack.boxes import Boxes
from siamtrack.video.image import Image
from siamtrack.video.source import VideoSource
from siamtrack.video.writer import VideoWriter

SIZE = (1280, 720)
"""Width and height of the made-up video."""
_SQUARE = 96  # pixels of its moving squares


@dataclass(frozen=True)
class Scene:
    """Frames and where objects are in the first of them."""

    name: str
    path: Path
    """The video they come from."""
    frames: list[Image]
    """T times [H, W, 3]."""

    def boxes(self, count: int) -> Boxes:
        """Return boxes of the same size, spread over the first frame. Shape: [count, 4] as x, y, w, h in pixels."""
        height, width = self.frames[0].shape[:2]
        columns = int(np.ceil(np.sqrt(count * width / height)))
        rows = -(-count // columns)
        side = min(_SQUARE, width / 2, height / 2)
        index = np.arange(count)
        x = (index % columns + 0.5) * width / columns - side / 2
        y = (index // columns + 0.5) * height / rows - side / 2
        return np.stack([x, y, np.full(count, side), np.full(count, side)], axis=1)

    def forth_and_back(self) -> Iterator[Image]:
        """Yield the frames after the first without end, forwards and backwards, so that nothing jumps."""
        while True:
            yield from self.frames[1:]
            yield from self.frames[-2::-1]

    def decode(self) -> float:
        """Return the seconds that reading and decoding take for a frame of the video."""
        source = VideoSource(self.path)
        began = time.perf_counter()
        count = sum(1 for _ in islice(source, len(self.frames)))
        seconds = time.perf_counter() - began
        source.close()
        return seconds / count


def read_scene(video: Path, frames: int) -> Scene:
    """Return the first frames of a video.

    Raises:
        UserError: it cannot be read.
    """
    source = VideoSource(video)
    images = [frame.image for frame in islice(source, frames)]
    source.close()
    return Scene(video.name, video, images)


def make_scene(folder: Path, frames: int, size: tuple[int, int] = SIZE) -> Scene:
    """Return the made-up scene: textured squares that wander over a textured background; its video goes to ``folder``.

    Shapes: size is width and height.
    """
    rng = np.random.default_rng(7)
    width, height = size
    background = _texture(rng, width, height, 16)
    square = _texture(rng, _SQUARE, _SQUARE, 12)
    writer = VideoWriter(folder / "scene.mp4", size, Fraction(25))
    for number in range(frames):
        image = background.copy()
        for row in range(0, height - 2 * _SQUARE, 2 * _SQUARE):
            for column in range(0, width - 2 * _SQUARE, 2 * _SQUARE):
                x, y = column + number % _SQUARE, row + round(_SQUARE / 2 * (1 + np.sin((number + column) / 9)))
                image[y : y + _SQUARE, x : x + _SQUARE] = square
        writer.write(image, number / 25)
    writer.close()
    return read_scene(writer.path, frames)


def _texture(rng: np.random.Generator, width: int, height: int, grain: int) -> Image:
    coarse = rng.integers(0, 255, (height // grain + 1, width // grain + 1, 3), np.uint8)
    fine: Image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return fine


def typical(seconds: list[float]) -> float:
    """Return the median in milliseconds."""
    return 1000 * median(seconds)
