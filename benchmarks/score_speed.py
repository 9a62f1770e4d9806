"""How long it takes to score 10 trackers on 1,000 sequences of 500 frames, by protocol.

    python benchmarks/score_speed.py

Boxes are made up: a truth that wanders, and answers that drift from it. ``supervised`` starts again after failures;
``supervised polygons``, the one that fills polygons line by line, has a tenth of the sequences and one tracker; its
time is scaled up.
"""

from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np

from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.protocols import PROTOCOLS
from siamtrack.evaluate.results import FAILED, SKIPPED, STARTED, Result, Run
from siamtrack.evaluate.sequences import Sequence

SEQUENCES, FRAMES, TRACKERS = 1000, 500, 10
SIZE = 640, 480


def corners(boxes: np.ndarray, angle: float) -> np.ndarray:
    """Return boxes [T, 4] turned about their centres, [T, 4, 2]."""
    center, half = boxes[:, None, :2] + boxes[:, None, 2:] / 2, boxes[:, None, 2:] / 2
    points = half * [[-1, -1], [1, -1], [1, 1], [-1, 1]]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return center + points @ turn


def main() -> None:
    """Make the data, score it, print the seconds."""
    generator = np.random.default_rng(0)
    path = (Path("frame.jpg"),) * FRAMES
    start = generator.uniform((100, 100, 30, 30), (400, 300, 120, 120), (SEQUENCES, 1, 4))
    truth = start + np.cumsum(generator.normal(0, 1, (SEQUENCES, FRAMES, 4)) * [1, 1, 0.1, 0.1], 1)
    sequences = tuple(
        Sequence(f"s{number}", path, boxes, size=SIZE, group=f"class {number % 80}", attributes=frozenset({"a", "b"}))
        for number, boxes in enumerate(truth)
    )
    dataset = Dataset("vot2018", sequences)
    unknown = np.full(FRAMES, np.nan)
    once = np.zeros(FRAMES, np.int8)
    once[0] = STARTED
    again = once.copy()
    again[200], again[201:205], again[205] = FAILED, SKIPPED, STARTED
    seconds: dict[str, float] = dict.fromkeys(PROTOCOLS, 0.0)
    for _ in range(TRACKERS):
        drift = np.cumsum(generator.normal(0, 0.5, truth.shape), 1)
        scores = generator.random((SEQUENCES, FRAMES))
        results = {
            sequence.name: Result(sequence.boxes + drift[number], scores[number], unknown, once)
            for number, sequence in enumerate(sequences)
        }
        stopped = {name: (replace(result, codes=again),) for name, result in results.items()}
        for protocol in ("one-pass", "got10k", "long-term", "supervised"):
            chosen = stopped if protocol == "supervised" else {name: (result,) for name, result in results.items()}
            run = Run("made up", "vot2018", protocol, chosen, {})
            began = perf_counter()
            PROTOCOLS[protocol].score(dataset, run)
            seconds[protocol] += perf_counter() - began
    for protocol in ("one-pass", "got10k", "long-term", "supervised"):
        print(f"{protocol}: {seconds[protocol]:.1f} s")
    few = [replace(s, regions=tuple(corners(s.boxes, 0.3))) for s in sequences[: SEQUENCES // 10]]
    turned = {s.name: (replace(stopped[s.name][0], polygons=corners(stopped[s.name][0].boxes, 0.35)),) for s in few}
    began = perf_counter()
    PROTOCOLS["supervised"].score(Dataset("vot2018", tuple(few)), Run("made up", "vot2018", "supervised", turned, {}))
    print(f"supervised polygons: {(perf_counter() - began) * 10 * TRACKERS:.0f} s, scaled up from a hundredth")


if __name__ == "__main__":
    main()
