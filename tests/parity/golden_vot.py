"""The made-up VOT runs that PySOT's toolkit was run on, as siamtrack's own objects."""

import json
from pathlib import Path

import numpy as np

from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.results import FAILED, SKIPPED, STARTED, TRACKED, Result, Run
from siamtrack.evaluate.sequences import Sequence
from siamtrack.regions import enclosing_box, parse_region

LABELS = "camera_motion", "illum_change", "motion_change", "size_change", "occlusion"


def dataset(folder: Path, name: str) -> Dataset:
    sequences = []
    for video, facts in json.loads((folder / "dataset.json").read_text()).items():
        regions = [parse_region(",".join(map(str, values))) for values in facts["gt_rect"]]
        labels = {label: np.array(facts[label], bool) for label in LABELS if facts[label]}
        sequences.append(
            Sequence(
                video,
                tuple(map(Path, facts["img_names"])),
                np.stack([enclosing_box(region) for region in regions]),
                tuple(regions),
                labels=labels,
                size=(facts["width"], facts["height"]),
            )
        )
    return Dataset(name, tuple(sequences), "supervised")


def run(folder: Path, tracker: str, name: str) -> Run:
    results = {}
    for path in sorted((folder / "results" / tracker / "baseline").glob("*/*_001.txt")):
        lines = path.read_text().split()
        codes = np.array([{"1": STARTED, "2": FAILED, "0": SKIPPED}.get(line, TRACKED) for line in lines], np.int8)
        regions = [parse_region(line) for line in lines]
        boxes = np.stack([enclosing_box(region) for region in regions])
        polygons = None
        if tracker == "polygon":
            polygons = np.stack([np.full((4, 2), np.nan) if region is None else region for region in regions])
        nothing = np.full(len(lines), np.nan)
        results[path.parent.name] = (Result(boxes, nothing, nothing, codes, polygons),)
    return Run(tracker, name, "supervised", results, {})
