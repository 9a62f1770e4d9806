"""Made-up pairs of regions: a pure function of the number, so that only their overlaps need to be recorded."""

import numpy as np

SIZE = 160, 120
"""Width and height of the image."""
COUNT = 10_010
KINDS = "box", "polygon", "mask"


def pair(number: int) -> tuple[object, object, tuple[int, int] | None]:
    """Return two regions that mostly overlap, as box [4], polygon [K, 2] or (x, y, pixels), and the bounds.

    Every kind is paired with every kind; a quarter has coordinates that are halves; one in five is not bounded by the
    image, and then lies right and below of its corner.
    """
    generator = np.random.default_rng(number)
    bounded = number % 5 > 0
    center = generator.uniform((-5, -5), (165, 125)) if bounded else generator.uniform(70, 120, 2)
    size = generator.uniform(2, 60, 2)
    regions = []
    for kind in (KINDS[number % 3], KINDS[number // 3 % 3]):
        at = center + generator.normal(0, 0.2, 2) * size
        extent = size * np.exp(generator.normal(0, 0.3, 2))
        regions.append(_region(kind, at, np.minimum(extent, 60), generator, halves=generator.random() < 0.25))
    return regions[0], regions[1], SIZE if bounded else None


def _region(kind, at, extent, generator, halves):
    if kind == "box":
        box = np.concatenate([at - extent / 2, extent])
        return np.round(box * 2) / 2 if halves else np.round(box, 4)
    if kind == "polygon":
        count = 4 if generator.random() < 0.7 else int(generator.integers(3, 9))
        angles = np.sort(generator.uniform(0, 2 * np.pi, count))
        if count == 4 and generator.random() < 0.7:
            angles = generator.uniform(0, 2 * np.pi) + np.arange(4) * np.pi / 2
        points = at + np.stack([np.cos(angles), np.sin(angles)], 1) * extent / 2
        if generator.random() < 0.1:
            points = points[generator.permutation(count)]  # crosses itself
        return np.round(points * 2) / 2 if halves else np.round(points, 4)
    low = np.maximum(np.round(at - extent / 2), 0).astype(int)
    w, h = np.maximum(extent.astype(int), 4)
    y, x = np.mgrid[:h, :w]
    pixels = ((x - w / 2) / w) ** 2 + ((y - h / 2) / h) ** 2 < generator.uniform(0.1, 0.3)
    pixels &= generator.random((h, w)) < 0.9
    pixels[[h // 2, h // 2 - 1], [w // 2, w // 2 - 1]] = True
    return int(low[0]), int(low[1]), pixels
