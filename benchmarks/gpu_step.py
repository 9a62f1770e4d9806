"""Measure the step on a GPU: its boxes against the CPU's, its latency, the network alone.

python benchmarks/gpu_step.py OUT.json [--device cuda] [--parts parity,latency,network]
    [--presets siamrpn_alexnet_dw,...] [--sequences FOLDER] [--frames 200] [--pysot FOLDER]

Networks but siamrpnpp_lite have random weights, whose batch norms have seen noise: enough to measure time. The
reference is what PySOT's ``track()`` does in a frame, written anew (eager.py), with gradients. With --pysot FOLDER, a
checkout of PySOT, it is PySOT itself with the same weights (pysot_itself.py), where it has the model: "pysot" with
gradients, as its own scripts run it, and "pysot_no_grad" without.
Results are written after each row; times in milliseconds. Many targets, and where a step's time goes: ``siamtrack
benchmark``.
"""

import argparse
import json
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from eager import EagerNetwork
from made_up_network import network
from pysot_itself import EXPERIMENTS, Pysot

from siamtrack.evaluate.datasets.folder import read_folder
from siamtrack.evaluate.protocols.one_pass import score_boxes
from siamtrack.files import write_text
from siamtrack.models import zoo
from siamtrack.runtimes import torch_runtime
from siamtrack.runtimes.cuda_graph import DeviceCore, _captured, _exact, device_network
from siamtrack.tracking.config import TrackingConfig, tracking_config
from siamtrack.tracking.core import TrackerCore

PRESETS = "siamrpn_alexnet_dw,siamrpnpp_mobilenetv2,siamrpnpp_resnet50,siammask_resnet50,siamrpnpp_lite"
SIZE = (1280, 720)


def film(frames: int = 8) -> list[np.ndarray]:
    """Return frames of a made-up film in which everything moves a little to the right."""
    rng = np.random.default_rng(0)
    width, height = SIZE
    wide = cv2.resize(
        rng.integers(0, 255, (45, 100, 3), np.uint8), (width + 320, height), interpolation=cv2.INTER_CUBIC
    )
    return [np.ascontiguousarray(wide[:, 40 + n : 40 + n + width]) for n in range(frames)]


def places(count: int) -> np.ndarray:
    """Return boxes of 60 by 90 pixels, spread over the frame. Shape: [count, 4]."""
    rng = np.random.default_rng(1)
    corners = rng.uniform((20, 20), (SIZE[0] - 100, SIZE[1] - 130), (count, 2))
    return np.concatenate([corners, np.tile([60.0, 90.0], (count, 1))], 1)


class PysotCore:
    """PySOT's tracker with the functions that :func:`cycle` calls; its state is its own."""

    def __init__(self, tracker: Pysot) -> None:
        self._tracker = tracker

    def init(self, frames: list[np.ndarray], boxes: np.ndarray) -> None:
        """Begin anew."""
        self._tracker.init(frames[0], boxes[0])

    def step(self, frames: list[np.ndarray], state: None) -> tuple[None, dict[str, Any]]:
        """Find the target in the next frame, and its polygon where there are masks."""
        return None, self._tracker.track(frames[0])

    def result(self, found: dict[str, Any], index: int) -> dict[str, Any]:
        """Return what was found."""
        return found


def plain(config: TrackingConfig) -> TrackingConfig:
    """Return the parameters without what only the path over the host knows."""
    return config.model_copy(update={"legacy": False, "distractors": None})


def cycle(core: Any, state: Any, frames: list[np.ndarray], count: int, polygon: bool) -> list[float]:
    """Return the seconds of each of ``count`` steps, from frames in host memory to results on the host."""
    seconds = []
    for number in range(count):
        image = frames[number % len(frames)]
        began = time.perf_counter()
        state, found = core.step([image], state)
        if polygon:
            core.result(found, 0)
        seconds.append(time.perf_counter() - began)
    return seconds


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """Return median and 95th percentile."""
    return {"median": 1e3 * float(np.median(seconds)), "p95": 1e3 * float(np.percentile(seconds, 95))}


def parity(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield differences between the boxes of the host's path on the CPU and of the device, and the AUC of each."""
    clips = []
    if arguments.sequences:
        for name, read in read_folder(arguments.sequences).items():
            sequence = read().first(arguments.clip)
            clips.append((name, [sequence.frame(index) for index in range(len(sequence))], sequence.boxes))
    else:
        frames = film(min(arguments.clip, 40))
        clips.append(("film", frames, places(1) - np.arange(len(frames))[:, None] * [1, 0, 0, 0]))
    model, preset = torch_runtime.load(zoo.weights(zoo.DEFAULT, ".safetensors"))
    config = tracking_config(preset)
    cores: dict[str, Any] = {"host": TrackerCore(torch_runtime.TorchNetwork(model), preset.model, config)}
    for precision in ("fp32", "fp16") if arguments.device != "cpu" else ("fp32",):
        cores[precision] = DeviceCore(device_network(model, arguments.device, precision), config)
    for name, frames, truth in clips:
        boxes = {}
        for label, core in cores.items():
            state, answers = core.init(frames[:1], truth[:1]), [truth[0]]
            for frame in frames[1:]:
                state, found = core.step([frame], state)
                answers.append(found.boxes[0])
            boxes[label] = np.array(answers)
        row: dict[str, Any] = {"clip": name, "frames": len(frames)}
        for label, found in boxes.items():
            row[f"{label}_auc"] = score_boxes(found, truth)["auc"]
            if label != "host":
                apart = np.abs(found - boxes["host"]).max(1)
                row[f"{label}_pixels"] = {
                    "max": apart.max(), "p99": float(np.percentile(apart, 99)), "median": float(np.median(apart))
                }  # fmt: skip
        yield row


def latency(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the latency of one target's whole step, beside the eager network and PySOT or its way."""
    frames, box = film(), places(1)
    for name in arguments.presets:
        model, preset = network(name, arguments.device, film()[0], places(1)[0])
        config = plain(tracking_config(preset))
        legacy = config.model_copy(update={"legacy": True})
        row: dict[str, Any] = {"preset": name}
        ways: dict[str, Callable[[], Any]] = {}
        if arguments.pysot and name in EXPERIMENTS:
            for label, gradients in {"pysot": True, "pysot_no_grad": False}.items():
                ways[label] = lambda m=model, n=name, g=gradients: PysotCore(
                    Pysot(arguments.pysot, n, m, arguments.device, g)
                )
        else:
            ways["reference"] = lambda m=model, p=preset, c=legacy: TrackerCore(
                EagerNetwork(m, arguments.device, gradients=True), p.model, c
            )
        references = list(ways)
        ways["eager"] = lambda m=model, p=preset, c=config: TrackerCore(
            torch_runtime.TorchNetwork(m, arguments.device), p.model, c
        )
        for precision in ("fp32", "fp16") if arguments.device != "cpu" else ("fp32",):
            ways[f"graph_{precision}"] = lambda m=model, c=config, p=precision: DeviceCore(
                device_network(m, arguments.device, p), c
            )
        last = list(ways)[-1]
        ways["pipelined"] = lambda m=model, c=config, p=last: DeviceCore(
            device_network(m, arguments.device, p.removeprefix("graph_")), c, "pipelined"
        )
        for label, make in ways.items():
            core = make()
            began = time.perf_counter()
            state = core.init(frames[:1], box)
            cycle(core, state, frames, arguments.warmup, False)
            row[f"{label}_start_s"] = time.perf_counter() - began
            state = core.init(frames[:1], box)
            with_polygon = preset.model.mask and label in references
            row[label] = milliseconds(cycle(core, state, frames, arguments.frames, with_polygon))
            if preset.model.mask and label not in references:
                row[f"{label}_with_polygon"] = milliseconds(cycle(core, state, frames, arguments.frames, True))
        for label in references:
            row[f"times_faster_than_{label}"] = row[label]["median"] / row[last]["median"]
            if preset.model.mask:
                row[f"times_faster_than_{label}_with_polygon"] = (
                    row[label]["median"] / row[f"{last}_with_polygon"]["median"]
                )
        yield row


def timed(work: Callable[[], Any], device: torch.device, repeats: int = 30) -> float:
    """Return the milliseconds of a piece of work, replayed as a graph where there is a GPU."""
    if device.type == "cpu":
        began = time.perf_counter()
        work()
        return (time.perf_counter() - began) * 1e3
    replay = _captured(work, torch.cuda.graph_pool_handle(), torch.cuda.Stream(device))
    replay()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        replay()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / repeats


def alone(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the time of the network alone, replayed as a graph."""
    for name in arguments.presets:
        model, preset = network(name, arguments.device, film()[0], places(1)[0])
        size = tracking_config(preset).search_size or preset.model.search_size
        for precision in ("fp32", "fp16") if arguments.device != "cpu" else ("fp32",):
            net = device_network(model, arguments.device, precision)
            for count in (1, 64) if arguments.device != "cpu" else (1,):
                if (precision, count) == ("fp32", 64):
                    continue
                with torch.inference_mode(), _exact(True):
                    z, x = (torch.rand(count, n, n, 8, device=net.device).mul(255).to(net.dtype).permute(0, 3, 1, 2)
                            for n in (preset.model.template_size, size))  # fmt: skip
                    features = net.template(z)
                    rows = torch.arange(count, device=net.device)
                    spent = timed(partial(net.search, x, features, rows), net.device)
                yield {"preset": name, "precision": precision, "targets": count, "ms": spent, "each_ms": spent / count}


PARTS = {"parity": parity, "latency": latency, "network": alone}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", type=names, default=["parity", "latency", "network"])
    parser.add_argument("--presets", type=names, default=PRESETS.split(","))
    parser.add_argument("--sequences", type=Path, help="folder of */img and */groundtruth.txt, for parity")
    parser.add_argument("--clip", type=int, default=100, help="frames of each sequence")
    parser.add_argument("--frames", type=int, default=200, help="steps that are timed")
    parser.add_argument("--pysot", type=Path, metavar="FOLDER", help="checkout of PySOT, for latency")
    parser.add_argument("--warmup", type=int, default=15)
    arguments = parser.parse_args()
    results: dict[str, Any] = {"torch": torch.__version__, "opencv": cv2.__version__, "device": arguments.device}
    if arguments.device != "cpu":
        results["device"] = torch.cuda.get_device_name(arguments.device)
    for part in arguments.parts:
        began = time.perf_counter()
        results[part] = []
        try:
            for row in PARTS[part](arguments):
                results[part].append(row)
                print(part, json.dumps(row), flush=True)
                write_text(arguments.out, json.dumps(results, indent=1) + "\n")
        except Exception as error:  # the other parts are worth their numbers
            results[part].append({"error": repr(error)})
            print(part, "failed:", repr(error), flush=True)
            traceback.print_exc()
        results[f"{part}_s"] = time.perf_counter() - began
        write_text(arguments.out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
