"""Check on a GPU that batches of targets become smaller by themselves where memory does not suffice.

python benchmarks/out_of_memory.py [--device cuda] [--targets 1024] [--gigabytes 3] [--model siamrpnpp_lite]

Follows the targets in batches of 16, then with all in one batch while this process may only take so much of the GPU's
memory. Printed are the batch that was left over, and the largest difference between the boxes. Exit code 1 if the batch
was not lowered, or the boxes differ by more than 0.1 pixels. On a CPU nothing is limited, and the batch stays.
"""

import argparse
import logging
import sys

import numpy as np

from siamtrack import MultiTracker, Tracker

SIZE = (1280, 720)


def main() -> None:
    """Check and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--targets", type=int, default=1024)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=3)
    parser.add_argument("--model", default="siamrpnpp_lite")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8) for _ in range(arguments.frames)]
    sides = rng.uniform(20, 90, (arguments.targets, 2))
    boxes = np.concatenate([rng.uniform(0, 1, (arguments.targets, 2)) * (SIZE - sides), sides], 1)
    # A graph divides its targets by itself (tests/unit/test_device_core.py).
    tracker = Tracker(arguments.model, device=arguments.device, runtime="torch")

    def run(batch: int) -> tuple[int, np.ndarray]:
        many = MultiTracker(tracker, batch=batch)
        ids = many.add_all(frames[0], boxes)
        for frame in frames[1:]:
            results = many.update(frame)
        return many.batch, np.array([results[each].box for each in ids])

    _, expected = run(min(16, arguments.targets))
    limited = arguments.device != "cpu"
    if limited:
        import torch

        torch.cuda.empty_cache()
        whole = torch.cuda.get_device_properties(torch.device(arguments.device)).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, arguments.gigabytes * 2**30 / whole))
    left, found = run(arguments.targets)
    differ = np.abs(found - expected).max()
    print(f"{arguments.targets} targets in one batch became batches of {left}; boxes differ by {differ:.4f} px at most")
    sys.exit(differ > 0.1 or (limited and left == arguments.targets))


if __name__ == "__main__":
    main()
