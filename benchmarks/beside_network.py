"""Measure what an update costs beside the network: crop, decoding, choice, state.

python benchmarks/beside_network.py [--model siamrpnpp_lite] [--runtime onnx] [--updates 60] [--size 1280 720]

One target, one thread, the processor's time of the thread that tracks. The network runs in between, so that caches are
as cold as they are in use. Printed are medians, without the first ten updates. Exit code 1 if the sum is 1 ms or more.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from siamtrack.benchmark.contenders import Ours, Parts, spread
from siamtrack.benchmark.scene import make_scene
from siamtrack.benchmark.weights import open_tracker

_WARM_UP = 10


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="siamrpnpp_lite")
    parser.add_argument("--runtime", action="append")
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720))
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    slow = False
    with tempfile.TemporaryDirectory() as folder:
        scene = make_scene(Path(folder), 20, tuple(arguments.size))
        for runtime in arguments.runtime or ["onnx", "torch"]:
            tracker, _ = open_tracker(arguments.model, runtime, "cpu", 1, Path(folder))
            ours = Ours(tracker, arguments.model, "cpu", clock=time.thread_time)
            frames = scene.forth_and_back()
            ours.start(scene.frames[0], scene.boxes(1))
            splits: list[Parts] = []
            for _ in range(arguments.updates):
                splits += filter(None, [ours.split(next(frames))])
            splits = splits[_WARM_UP:]
            total = 1000 * float(np.median([sum(parts) - parts.network for parts in splits]))
            parts = ", ".join(f"{name} {1000 * value:.2f}" for name, value in spread(splits)._asdict().items())
            print(f"{runtime}: {parts}; beside the network {total:.2f} ms", flush=True)
            slow |= total >= 1
    sys.exit(slow)


if __name__ == "__main__":
    main()
