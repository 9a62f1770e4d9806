"""How many pairs a second the input gives, by where pictures are kept; and how busy training keeps the GPU.

    python benchmarks/input_speed.py --data DATA --device cuda
    python benchmarks/input_speed.py --data DATA --device cuda --train siamrpnpp_lite --steps 100

Without ``--train`` only batches are made, the preset's as shipped and with everything switched on. With it the preset
is trained for warmup + 2 x steps steps, with the first of ``--caches``: reported are pairs a second, and the share of
the time in which at least one kernel or copy runs on the GPU, in as many steps more under torch.profiler (which slows
the host: without it the share is not lower).
"""

import argparse
import tempfile
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from siamtrack.data.index import read_index
from siamtrack.data.loader import PairLoader
from siamtrack.data.pairs import PairSampler, SamplingConfig, SideConfig
from siamtrack.data.windows import lay_windows
from siamtrack.models import zoo
from siamtrack.train.config import TrainConfig
from siamtrack.train.loop import Training

EVERYTHING = SamplingConfig(
    template=SideConfig(shift=4, scale=0.05, jitter=0.3, rotate=10, lowres=0.1, noise=5),
    search=SideConfig(
        shift=64, scale=0.25, blur=0.3, jitter=0.3, rotate=20, aspect=0.3, shear=0.2, perspective=0.15, lowres=0.2,
        noise=10,
    ),
    negative=0.2, similar=0.3, category=0.3, elsewhere=0.2, gray=0.1, flip=0.5, shuffle=0.1, background=0.3,
    distractor=0.3, copies=0.3, occlude=0.3,
)  # fmt: skip


def wait(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_input(args: argparse.Namespace) -> None:
    """Print pairs a second of the input alone."""
    index, device = read_index(args.data), torch.device(args.device)
    preset = zoo.load(args.preset)
    sizes = preset.model.template_size, preset.model.search_size
    shipped = preset.section("train", TrainConfig).sampling
    for name, sampling in (("as shipped", shipped), ("everything", EVERYTHING)):
        windows = lay_windows(index, sampling, *sizes, args.canvas)
        sampler = PairSampler(index, sampling, *sizes, windows.area)
        times = []
        for step in range(30):
            began = perf_counter()
            sampler.draw(np.random.default_rng([0, step]), args.batch)
            times.append(perf_counter() - began)
        print(f"{name}: drawing {args.batch} pairs takes {np.median(times) * 1e3:.2f} ms of one core")
        with tempfile.TemporaryDirectory() as folder:
            for cache in args.caches:
                began = perf_counter()
                loader = PairLoader(
                    index, sampling, *sizes, batch=args.batch, seed=0, device=device, canvas=args.canvas, cache=cache,
                    folder=Path(folder), workers=args.workers,
                )  # fmt: skip
                filled = perf_counter() - began
                for step in range(args.warmup):
                    loader.batch(step)
                wait(device)
                began = perf_counter()
                for step in range(args.warmup, args.warmup + args.steps):
                    loader.batch(step)
                given = perf_counter() - began
                wait(device)
                took = perf_counter() - began
                loader.close()
                rate = args.batch * args.steps / took
                print(
                    f"{name}, cache {loader.cache}: {rate:,.0f} pairs/s ({took / args.steps * 1e3:.1f} ms a batch, "
                    f"{given / args.steps * 1e3:.1f} ms of it on the host), filled in {filled:.1f} s"
                )
                del loader


def measure_training(args: argparse.Namespace) -> None:
    """Print pairs a second of training, and how busy the GPU was."""
    total = args.warmup + 2 * args.steps
    settings = [f"train.data.root={args.data}", f"train.data.cache={args.caches[0]}", f"train.steps={total}",
                f"train.batch={args.batch}", f"train.data.workers={args.workers}", "train.validation.every=1000000",
                "train.checkpoint_every=1000000", "train.log_every=1000000", *args.set]  # fmt: skip
    device = torch.device(args.device)
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
    marks: dict[int, float] = {}

    def on_step(step: int, numbers: dict[str, float]) -> bool:
        if step in (args.warmup, args.warmup + args.steps):
            wait(device)
            marks[step] = perf_counter()
            if step > args.warmup and device.type == "cuda":
                profiler.start()
        if step == total - 1 and device.type == "cuda":  # before the run is saved
            wait(device)
            profiler.stop()
        return step < total - 1

    with tempfile.TemporaryDirectory() as folder:
        Training(zoo.load(args.train, settings), Path(folder), args.device).run(on_step)
        rate = args.batch * args.steps / (marks[args.warmup + args.steps] - marks[args.warmup])
        print(f"{args.train}, cache {args.caches[0]}: {rate:,.0f} pairs/s")
        if device.type == "cuda":
            spans = [event.time_range for event in profiler.events() if event.device_type.name == "CUDA"]
            edges = sorted({point for span in spans for point in (span.start, span.end)})
            where = {point: number for number, point in enumerate(edges)}
            depth = np.zeros(len(edges))
            for span in spans:
                depth[where[span.start]] += 1
                depth[where[span.end]] -= 1
            busy = sum(b - a for (a, b), k in zip(pairwise(edges), np.cumsum(depth), strict=False) if k > 0)
            print(f"the GPU is busy {busy / (edges[-1] - edges[0]):.1%} of the time")


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="training data")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--caches", nargs="+", default=["device", "memory", "disk", "none"])
    parser.add_argument("--preset", default="siamrpnpp_lite", help="whose sizes and sampling")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--canvas", type=int, default=384)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--train", help="preset to train")
    parser.add_argument("--set", nargs="*", default=[], help="settings of that preset")
    args = parser.parse_args()
    if args.train:
        measure_training(args)
    else:
        measure_input(args)


if __name__ == "__main__":
    main()
