"""Time ``update()`` against plain eager torch of the same network.

python benchmarks/eager.py [MODEL ...] [--runtime torch] [--threads 2] [--rounds 5] [--updates 5] [--device cpu]
                           [--processor-time] [--pysot FOLDER] [--out FILE]

The reference, "eager", is what PySOT's ``track()`` computes, in torch's eager mode without gradients: the network as it
was trained (batch norm by itself, float32 NCHW), the template's kernels convolved anew in every frame from its stored
features, SiamMask's coarse masks of all cells although one refined mask is drawn, crops rounded to whole pixels with a
bordered copy where they leave the frame, candidates decoded by NumPy on the host. It uses this package's modules and
its step in legacy mode, whose results are PySOT's (tests/parity/test_pysot.py); what is copied for the border is the
window, where PySOT copies the frame, so the reference is no slower than PySOT. Weights are random
(made_up_network.py) where the package has none.

With --pysot FOLDER, a checkout of PySOT, PySOT itself has its turns too, without gradients and with the same weights
(pysot_itself.py), and its boxes are compared with the reference's.

Everything is timed in turn: a round gives each its turn, and the ratio is the median over rounds of the rounds' ratios.
On a machine with other work, --processor-time with --threads 1 counts the seconds that the processor spent on this.
"""

import argparse
import json
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import torch
from made_up_network import network
from pysot_itself import EXPERIMENTS, Pysot

from siamtrack.benchmark.contenders import Contender, Label, Ours
from siamtrack.benchmark.measure import time_in_turn
from siamtrack.benchmark.run import gpu, processor
from siamtrack.benchmark.scene import make_scene
from siamtrack.benchmark.weights import open_tracker
from siamtrack.files import write_text
from siamtrack.models import zoo
from siamtrack.models.neck import center_cut
from siamtrack.models.prediction import Prediction
from siamtrack.models.siamese import SiameseRPN
from siamtrack.runtimes import torch_runtime
from siamtrack.tracking.config import tracking_config
from siamtrack.tracking.core import TrackerCore, to_numpy

MODELS = ["siamrpn_alexnet_dw", "siamrpnpp_mobilenetv2", "siammask_resnet50", "siamrpnpp_resnet50", "siamrpnpp_lite"]
REFERENCES = ("eager", "pysot")


class EagerNetwork:
    """The network as PySOT runs it: what a target leaves behind are features, from which each frame makes kernels.

    Args:
        model: moved to the device.
        device: "cpu" or "cuda".
        gradients: record the graph for them in every frame, as PySOT's own scripts do.
    """

    runtime = "eager"

    def __init__(self, model: SiameseRPN, device: str, gradients: bool = False) -> None:
        self.model, self.device = model.to(device).eval().requires_grad_(gradients), device
        self._context = nullcontext if gradients else torch.no_grad

    def template(self, patches):
        """Return the template's features."""
        with self._context():
            levels, _ = self.model.features(self._images(patches))
        return tuple(center_cut(levels, self.model.config.template_cells) if self.model.neck else levels)

    def search(self, patches, features):
        """Return the response, with kernels and coarse masks computed and the latter dropped."""
        model = self.model
        with self._context():
            kernels = model.rpn.template(list(features))
            if model.mask:
                kernels = (*kernels, model.mask.correlation.template(features[-1]))
            prediction = model.search(self._images(patches), kernels)
            if model.mask:
                model.mask.correlation.decode(prediction.context[0])
        return Prediction(to_numpy(prediction.cls), to_numpy(prediction.loc), prediction.context)

    def draw(self, context, cell):
        """Return the refined masks."""
        row, column = torch.from_numpy(cell).to(self.device).T
        with self._context():
            return to_numpy(self.model.mask.draw(context, torch.arange(len(cell), device=self.device), row, column))

    def _images(self, patches):
        """Return float images, contiguous as PySOT hands them over."""
        return torch.from_numpy(np.ascontiguousarray(patches.transpose(0, 3, 1, 2), np.float32)).to(self.device)


class Eager:
    """The reference as a :class:`siamtrack.benchmark.contenders.Contender`."""

    def __init__(self, model: SiameseRPN, name: str, device: str) -> None:
        config = tracking_config(zoo.load(name)).model_copy(update={"legacy": True})
        self._core = TrackerCore(EagerNetwork(model, device), model.config, config)
        self.label = Label(name, "eager", device)

    def start(self, frame, boxes):
        """Begin anew."""
        self._state = self._core.init([frame], boxes)

    def update(self, frame):
        """Find the target in the next frame."""
        self._state, found = self._core.step([frame], self._state)
        self._core.result(found, 0)
        self.box = found.boxes[0]

    def split(self, frame):
        """Return nothing: only the whole is compared."""


class PysotItself:
    """PySOT as a contender."""

    def __init__(self, folder: Path, model: SiameseRPN, name: str, device: str) -> None:
        self._tracker = Pysot(folder, name, model, device, gradients=False)
        self.label = Label(name, "pysot", device)

    def start(self, frame, boxes):
        """Begin anew."""
        self._tracker.init(frame, boxes[0])

    def update(self, frame):
        """Find the target in the next frame."""
        self.box = self._tracker.track(frame)["bbox"]

    def split(self, frame):
        """Return nothing: only the whole is compared."""


def apart(first, second, scene, updates):
    """Return the largest difference in pixels between the boxes of two contenders."""
    largest = 0.0
    for contender in (first, second):
        contender.start(scene.frames[0], scene.boxes(1))
    for frame in scene.frames[1 : updates + 1]:
        first.update(frame)
        second.update(frame)
        largest = max(largest, float(np.abs(np.subtract(first.box, second.box)).max()))
    return largest


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--runtime", action="append")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720))
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--pysot", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    print(f"{processor()}, {arguments.threads} threads, {gpu(arguments.device) or 'no GPU'}, torch {torch.__version__}")
    clock = time.process_time if arguments.processor_time else time.perf_counter
    results = []
    with tempfile.TemporaryDirectory() as folder:
        scene = make_scene(Path(folder), 2 * arguments.updates + 2, tuple(arguments.size))
        for name in arguments.models or MODELS:
            model, preset = network(name, "cpu", scene.frames[0], scene.boxes(1)[0])
            torch_runtime.save(Path(folder) / f"{name}.safetensors", model, preset)  # where open_tracker looks for it
            eager = Eager(model, name, arguments.device)
            contenders: list[Contender] = [eager]
            for runtime in arguments.runtime or ["torch"]:
                tracker, _ = open_tracker(name, runtime, arguments.device, arguments.threads, Path(folder))
                contenders.append(Ours(tracker, name, arguments.device))
            if arguments.pysot and name in EXPERIMENTS:
                pysot = PysotItself(arguments.pysot, model, name, arguments.device)
                contenders.append(pysot)
                pixels = apart(eager, pysot, scene, arguments.updates)
                print(f"{name:22} PySOT's boxes and the reference's: at most {pixels:.1g} pixels apart")
            rows = time_in_turn(contenders, scene, arguments.rounds, arguments.updates, clock=clock)
            for row in rows:
                ratios = {
                    other.label.runtime: row.faster_than(other) for other in rows if other.label.runtime in REFERENCES
                }
                shown = ", ".join(f"{ratio:.2f} times as fast as {other}" for other, ratio in ratios.items())
                print(f"{name:22} {row.label.runtime:10} {1000 * row.median:8.1f} ms, {shown}", flush=True)
                ms = [[1000 * value for value in turn] for turn in row.totals]
                results.append({"model": name, "runtime": row.label.runtime, "ratios": ratios, "updates_ms": ms})
    if arguments.out:
        write_text(arguments.out, json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
