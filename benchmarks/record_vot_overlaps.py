"""Record the overlaps that vot-toolkit gives for the pairs of ``tests/parity/region_pairs.py``.

vot-toolkit is GPL and needs another OpenCV, so it runs in an environment of its own, which siamtrack is no part of:

    python -m venv vot && vot/bin/pip install vot-toolkit==0.9.0
    vot/bin/pip install --no-deps attributee==0.1.9  # 0.1.10 does not import on Python 3.11
    vot/bin/python benchmarks/record_vot_overlaps.py
"""

import sys
from pathlib import Path

import numpy as np
from vot.region import Mask, Polygon, Rectangle, calculate_overlap

PARITY = Path(__file__).parents[1] / "tests" / "parity"


def theirs(region):
    """Return a region of the test as one of vot-toolkit's."""
    if isinstance(region, tuple):
        x, y, pixels = region
        return Mask(pixels.astype(np.uint8), (x, y))
    if region.ndim == 1:
        return Rectangle(*map(float, region))
    return Polygon([(float(x), float(y)) for x, y in region])


def main() -> None:
    """Compute and write all overlaps."""
    sys.path.insert(0, str(PARITY))
    from region_pairs import COUNT, pair

    recorded = np.empty(COUNT, np.float32)
    for number in range(COUNT):
        a, b, bounds = pair(number)
        recorded[number] = calculate_overlap(theirs(a), theirs(b), bounds)
    np.savez_compressed(PARITY / "vot_overlaps.npz", overlaps=recorded)
    print(f"recorded {COUNT} overlaps, mean {recorded.mean():.6f}")


if __name__ == "__main__":
    main()
