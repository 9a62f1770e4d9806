"""Measure whether memory stays flat over hours of video.

python benchmarks/memory_flat.py [--frames 100000] [--every 20] [--model siamrpnpp_lite] [--device cpu]

Writes a made-up video of so many frames, then follows a target through it with what ``siamtrack track`` is made of:
decoding in its thread, tracking, the rows of boxes and the video with the box drawn. To save time the network runs in
every 20th frame only (``--every 1``: in all). Printed is the resident memory after 1, 10, 25, 50, 75 and 100 % of the
frames. Exit code 1 if that of the end differs from that at 10 % by 5 % or more. Linux only.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Hashable, Mapping
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from siamtrack.cli.follow import follow
from siamtrack.multi import MultiTracker, Target
from siamtrack.tracking.state import TrackResult
from siamtrack.video.image import Image
from siamtrack.video.source import VideoSource

SIZE = (96, 64)


class NowAndThen(MultiTracker):
    """Runs the network in every ``every``-th frame, and repeats its answers in between."""

    every = 1
    _seen = 0
    _said: dict[int, TrackResult]

    def update(self, frame: Image | Mapping[Hashable, Image]) -> dict[int, TrackResult]:
        """Return where the targets are, or were last."""
        if self._seen % self.every == 0:
            self._said = super().update(frame)
        self._seen += 1
        return {**self._said}


def made_up(path: Path, frames: int) -> None:
    """Write a video of a square that goes round in circles."""
    rng = np.random.default_rng(1)
    scene = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.options = {"preset": "ultrafast", "g": "250"}
        for number in range(frames):
            image = scene.copy()
            x, y = (round(36 + 20 * np.cos(number / 40)), round(22 + 12 * np.sin(number / 40)))
            image[y : y + 20, x : x + 20] = (40, 220, 250)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))


def resident() -> float:
    """Return the memory that this process holds, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--model", default="siamrpnpp_lite")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    marks = {max(1, round(arguments.frames * share / 100)) - 1: share for share in (1, 10, 25, 50, 75, 100)}
    memory: dict[int, float] = {}

    def look(number: int, _: Image) -> None:
        if number in marks:
            memory[marks[number]] = resident()
            print(f"{marks[number]:4d} % of the frames: {memory[marks[number]]:.1f} MB", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mp4"
        made_up(path, arguments.frames)
        tracker = NowAndThen(arguments.model, device=arguments.device)
        tracker.every = arguments.every
        began = time.perf_counter()
        source = VideoSource(path)
        table, film = path.with_suffix(".jsonl"), Path(folder) / "tracked.mp4"
        done = follow(tracker, source, [Target((56, 22, 20, 20))], table, film, look)
    drift = memory[100] / memory[10] - 1
    print(f"{done.frames} frames in {time.perf_counter() - began:.0f} s; from 10 % to the end {drift:+.1%}")
    sys.exit(abs(drift) >= 0.05 or done.frames != arguments.frames)


if __name__ == "__main__":
    main()
