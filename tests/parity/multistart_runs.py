"""Made-up multi-start runs: a pure function of nothing, so that only the figures need to be recorded."""

import numpy as np

SIZE = 160, 120
INTERVAL = 30, 120
LENGTHS = {"one": 180, "two": 230, "three": 140}


def runs() -> dict[str, tuple[np.ndarray, dict[int, np.ndarray]]]:
    """Return by sequence the truth [T, 4] and by anchor (negative to run backwards) the boxes in the order of the run.

    Objects wander over the border of the image; some runs lose them for longer or shorter than ten frames.
    """
    generator = np.random.default_rng(5)
    made = {}
    for name, length in LENGTHS.items():
        steps = np.arange(length)
        centers = np.cumsum(generator.normal(0, 1.5, (length, 2)), 0) + (70, 50)
        sizes = np.stack([30 + 5 * np.sin(steps / 9), 24 + 4 * np.cos(steps / 11)], 1)
        truth = np.concatenate([centers - sizes / 2, sizes], 1).round(3)
        results = {}
        for anchor in range(0, length, 50):
            forward = length - anchor > anchor
            order = np.arange(anchor, length) if forward else np.arange(anchor, -1, -1)
            lost, drift = generator.integers(20, 90), np.zeros(2)
            for_frames = generator.choice([0, 6, 12, 40])
            boxes = truth[order].copy()
            for place in range(1, len(order)):
                drift = 0.9 * drift + generator.normal(0, 1.5, 2)
                away = 50 * (lost < place <= lost + for_frames)
                boxes[place] += [*(drift + away), *generator.normal(0, 2, 2)]
            results[anchor if forward else ~anchor] = boxes.round(4)
        made[name] = truth, results
    return made
