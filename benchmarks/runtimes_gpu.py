"""The runtimes of a GPU against the CPU: what auto takes, whether boxes are the same, how long loading takes.

python benchmarks/runtimes_gpu.py siamrpnpp_lite siamrpnpp_resnet50 [--device cuda] [--runtime NAME ...] [--frames 60]
                                  [--json FILE]

A row is a model and a runtime, ``pipelined`` the graph with answers a frame late. Loading has the first frames in it,
and with them compilation. Boxes are compared with those of torch on the CPU over a made-up video of 1280x720, random
weights where none are in the package; ``moved_px`` tells how far the object went there. What a runtime cannot do here
is said in its row. With ``--device cpu --runtime torch torch-compile`` it runs without a GPU. How fast they are:
``siamtrack benchmark``.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from siamtrack import Tracker, UserError
from siamtrack.benchmark.scene import make_scene
from siamtrack.benchmark.weights import open_tracker
from siamtrack.runtimes.load import GRAPHS

RUNTIMES = ["torch", "auto", "torch-compile", *GRAPHS, "pipelined", "onnx"]


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--runtime", nargs="+", default=RUNTIMES, choices=RUNTIMES)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        scene = make_scene(place, given.frames)
        box = np.array([384, 192 + round(48 * (1 + np.sin(384 / 9))), 96, 96], float)  # of a moving square
        for model in given.models:
            reference, made_up = open_tracker(model, "torch", "cpu", None, place)
            file = place / f"{model}.safetensors" if made_up else model
            expected = np.array([result.box for result in reference.track(scene.frames, box)])
            moved = float(np.abs(expected - expected[0]).max())
            for name in given.runtime:
                row: dict[str, object] = {"model": model, "asked": name, "random_weights": made_up, "moved_px": moved}
                rows.append(row)
                began = time.perf_counter()
                try:
                    if name == "pipelined":
                        tracker = Tracker(file, device=given.device, latency="pipelined")
                    elif name == "onnx":
                        tracker, _ = open_tracker(model, "onnx", given.device, None, place)
                    else:
                        tracker = Tracker(file, device=given.device, runtime=name)
                    list(tracker.track(scene.frames[:3], box))
                except UserError as error:
                    row["problem"] = str(error)
                    continue
                row["runtime"], row["loading_s"] = tracker.runtime, time.perf_counter() - began
                found = np.array([result.box for result in tracker.track(scene.frames, box)])
                row["largest_px"] = float(np.abs(found - expected).max())
            for row in rows[-len(given.runtime) :]:
                print(" ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                               for key, value in row.items()), flush=True)  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
