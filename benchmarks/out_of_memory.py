"""Check on a GPU that batches become smaller by themselves where memory does not suffice.

python benchmarks/out_of_memory.py [--device cuda] [--targets 1024] [--gigabytes 3] [--model siamrpnpp_lite]
python benchmarks/out_of_memory.py --sequences 64 --size 3840x2160 --gigabytes 1.5 --runtime cuda-graph-fp32

Follows the targets in batches of 16, then with all in one batch while this process may only take so much of the GPU's
memory. Printed are the batch that was left over, and the largest difference between the boxes. Exit code 1 if the batch
was not lowered, or the boxes differ by more than 0.1 pixels. On a CPU nothing is limited, and the batch stays.

With --sequences so many are tracked in step, as `siamtrack eval` does, first one by one and then all together with
little memory, and the differences between the boxes are printed. Exit code 1 if they differ by more or no warning came.
"""

import argparse
import logging
import sys

import numpy as np

from siamtrack import MultiTracker, Tracker
from siamtrack.evaluate.lockstep import run_in_step
from siamtrack.tracking.core import Core


def main() -> None:
    """Check and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--targets", type=int, default=1024)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=3)
    parser.add_argument("--model", default="siamrpnpp_lite")
    parser.add_argument("--sequences", type=int)
    parser.add_argument("--runtime", default="auto", help="of --sequences")
    parser.add_argument("--size", default="1280x720")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    rng = np.random.default_rng(0)
    size = tuple(map(int, arguments.size.split("x")))
    frames = [rng.integers(0, 255, (size[1], size[0], 3), np.uint8) for _ in range(arguments.frames)]
    count = arguments.sequences or arguments.targets
    sides = rng.uniform(20, 90, (count, 2))
    boxes = np.concatenate([rng.uniform(0, 1, (count, 2)) * (size - sides), sides], 1)
    if arguments.sequences:
        sys.exit(check_sequences(arguments, frames, boxes))
    # A graph divides its targets by itself (tests/unit/test_device_core.py).
    tracker = Tracker(arguments.model, device=arguments.device, runtime="torch")

    def run(batch: int) -> tuple[int, np.ndarray]:
        many = MultiTracker(tracker, batch=batch)
        ids = many.add_all(frames[0], boxes)
        for frame in frames[1:]:
            results = many.update(frame)
        return many.batch, np.array([results[each].box for each in ids])

    _, expected = run(min(16, arguments.targets))
    limited = limit(arguments)
    left, found = run(arguments.targets)
    differ = np.abs(found - expected).max()
    print(f"{arguments.targets} targets in one batch became batches of {left}; boxes differ by {differ:.4f} px at most")
    sys.exit(differ > 0.1 or (limited and left == arguments.targets))


def limit(arguments: argparse.Namespace) -> bool:
    """Let this process have only so much of the GPU's memory; return whether there is a GPU."""
    if arguments.device == "cpu":
        return False
    import torch

    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(torch.device(arguments.device)).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, arguments.gigabytes * 2**30 / whole))
    return True


def check_sequences(arguments: argparse.Namespace, frames: list[np.ndarray], boxes: np.ndarray) -> bool:
    """Track sequences in step with little memory; print how their boxes differ, and return whether it went wrong."""

    def core() -> Core:
        return Tracker(arguments.model, device=arguments.device, runtime=arguments.runtime).core

    one = core()
    expected = np.concatenate([run_in_step(one, [frames], box[None]) for box in boxes])
    del one
    limited = limit(arguments)
    together = [[frame.copy() for frame in frames] for _ in boxes]  # the same object would go up once for all
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("siamtrack.evaluate.lockstep").addHandler(handler)
    found = np.stack(run_in_step(core(), together, boxes))
    differ = np.abs(found - expected).max()
    print(f"{len(boxes)} sequences in step: {warnings or 'all fitted'}; boxes differ by {differ:.4f} px at most")
    return bool(differ > 0.1 or (limited and not warnings))


if __name__ == "__main__":
    main()
