"""What the options of training cost or give: pairs a second and memory, as ratios to the preset as it is.

    python benchmarks/train_options.py DATA --device cuda [--preset siamrpnpp_lite] [--steps 60] [NAME ...]
    torchrun --nproc-per-node 2 benchmarks/train_options.py DATA --device cuda sync_batch_norm

All weights are trained from the first step on. NAME chooses rows of the table below; the first row is always run, first
and last, so that a drift of the machine shows.
"""

import argparse
import tempfile
from pathlib import Path
from time import perf_counter

import torch

from siamtrack.models import zoo
from siamtrack.train.loop import Training

ROWS = {
    "plain": (),
    "fp32": ("train.precision=fp32",),
    "channels_last": ("train.channels_last=true",),
    "compile": ("train.compile=true",),
    "compile_channels_last": ("train.compile=true", "train.channels_last=true"),
    "accumulate_2": ("train.accumulate=2",),
    "sync_batch_norm": ("train.sync_batch_norm=true",),
    "no_average": ("train.average=0",),
}


def measure(arguments: argparse.Namespace, *settings: str) -> tuple[float, float, float, bool]:
    """Return pairs a second, seconds until the steps that are measured, peak GiB, and whether to speak."""
    total = arguments.warmup + arguments.steps
    quiet = [f"train.{key}=1000000" for key in ("validation.every", "checkpoint_every", "log_every")]
    preset = zoo.load(arguments.preset, [
        f"train.data.root={arguments.data}", f"train.steps={total}", "train.optimizer.backbone_from=0", *quiet,
        *arguments.set, *settings,
    ])  # fmt: skip
    cuda = arguments.device.startswith("cuda")
    times = [perf_counter()]

    def on_step(step: int, numbers: dict[str, float]) -> bool:
        if step in (arguments.warmup, total - 1):  # the last step ends with a checkpoint
            if cuda:
                torch.cuda.synchronize()
            times.append(perf_counter())
        return True

    if cuda:
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        training = Training(preset, Path(folder), arguments.device)
        training.run(on_step)
    peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0
    rate = (arguments.steps - 1) * training.config.batch / (times[2] - times[1])
    return rate, times[1] - times[0], peak, training.main


def main() -> None:
    """Run the rows named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="*", choices=[[], *ROWS])
    parser.add_argument("--preset", default="siamrpnpp_lite")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--set", action="append", default=[], help="key=value for all rows")
    arguments = parser.parse_intermixed_args()
    names = [name for name in arguments.names or ROWS if name != "plain"]
    reference = 0.0
    for name in ["plain", *names, "plain"]:
        rate, ready, peak, speak = measure(arguments, *ROWS[name])
        reference = reference or rate
        if speak:
            print(f"{name:24}{rate:10,.0f} pairs/s{rate / reference:8.2f} x plain, ready after {ready:5.0f} s,"
                  f" {peak:5.1f} GiB", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
