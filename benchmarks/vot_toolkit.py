"""Let the VOT toolkit drive siamtrack through TraX and compare its report with siamtrack's own.

    python -m venv VENV && VENV/bin/pip install vot-toolkit==0.7.4 attributee==0.1.9
    python benchmarks/vot_toolkit.py VENV/bin/python

The toolkit stays in its own environment. Three experiments (supervised, unsupervised, multi-start) run over two made-up
sequences, one with boxes and one with polygons, in both of which the object jumps. Compared are the regions that the
toolkit recorded with those of siamtrack's own runner, frame by frame, and accuracy, robustness and EAO of both. The
figures of siamtrack's supervised protocol are PySOT's, so they are given twice: as they are, and by the toolkit's
definitions (:func:`by_the_toolkit`) from siamtrack's overlaps.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from siamtrack.evaluate.answers import overlaps_of, started
from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.foreign import find_trackers, read_results
from siamtrack.evaluate.protocols import PROTOCOLS, multistart, supervised
from siamtrack.evaluate.results import FAILED, TRACKED, Run
from siamtrack.evaluate.sequences import Sequence
from siamtrack.tracker import Tracker

MODEL = "siamrpnpp_lite"
SIZE, SIDE, FRAMES = (320, 240), 40, 60
ANCHORS = (0, 20, ~45)
LOW, HIGH = 5, 40
STACK = f"""\
title: made up
experiments:
  baseline:
    type: supervised
    repetitions: 1
    skip_initialize: 5
    analyses:
      - {{type: supervised_average_ar, sensitivity: 30}}
      - {{type: supervised_eao_score, low: {LOW}, high: {HIGH}}}
      - {{type: supervised_eao_curve}}
  unsupervised:
    type: unsupervised
    repetitions: 1
    analyses:
      - {{type: average_accuracy, burnin: 1}}
  multistart:
    type: multistart
    analyses:
      - {{type: multistart_eao_score, low: {LOW}, high: {HIGH}}}
      - {{type: multistart_eao_curve, high: {HIGH}}}
      - {{type: multistart_average_ar}}
"""
EXPERIMENTS = {"baseline": "supervised", "unsupervised": "one-pass", "multistart": "multi-start"}


def make_sequences(root: Path) -> Dataset:
    """Write two sequences in VOT's layout and return them as siamtrack sees them."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 255, (16, 21, 3), np.uint8)
    background = cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC)
    patch = cv2.resize(rng.integers(0, 255, (5, 5, 3), np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    sequences = []
    for name in ("boxes", "polygons"):
        (root / name / "color").mkdir(parents=True)
        paths, boxes, corners = [], [], []
        for number in range(FRAMES):
            x, y = 30 + 2 * number, 40 + round(20 * np.sin(number / 5))
            if number >= 30:  # farther than any search region reaches
                x, y = 310 - 3 * number, 150 + round(10 * np.sin(number / 4))
            image = background.copy()
            image[y : y + SIDE, x : x + SIDE] = patch
            paths.append(root / name / "color" / f"{number + 1:08d}.jpg")
            cv2.imwrite(str(paths[-1]), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
            boxes.append([x, y, SIDE, SIDE])
            middle, arm = np.array([x, y]) + SIDE / 2, np.array([24.0, 7.0])
            turned = np.array([arm, [-arm[1], arm[0]], -arm, [arm[1], -arm[0]]])
            corners.append(middle + turned)
        truth = np.array(boxes, float)
        regions = tuple(corners) if name == "polygons" else None
        if regions:
            low, high = np.min(corners, 1), np.max(corners, 1)
            truth = np.concatenate([low, high - low], 1)
        lines = [",".join(f"{value:g}" for value in np.ravel(region)) for region in (corners if regions else boxes)]
        (root / name / "groundtruth.txt").write_text("\n".join(lines) + "\n")
        (root / name / "sequence").write_text("channels.color=color/%08d.jpg\nfps=30\nformat=default\n")
        marks = {max(anchor, ~anchor): 1 if anchor >= 0 else -1 for anchor in ANCHORS}
        (root / name / "anchor.value").write_text("".join(f"{marks.get(each, 0)}\n" for each in range(FRAMES)))
        sequences.append(Sequence(name, tuple(paths), truth, regions, anchors=ANCHORS, size=SIZE))
    (root / "list.txt").write_text("boxes\npolygons\n")
    return Dataset("vot", tuple(sequences), "supervised")


def run_toolkit(python: str, folder: Path) -> dict[str, Any]:
    """Let the toolkit evaluate and analyse in a workspace; return its figures by experiment."""
    workspace = folder / "workspace"
    (folder / "stack.yaml").write_text(STACK)
    _call(
        [sys.executable, "-m", "siamtrack", "vot", str(workspace), "--stack", str(folder / "stack.yaml")]
        + ["--sequences", str(folder / "sequences"), "--model", MODEL, "--threads", "1"]
    )
    _call([python, "-m", "vot", "evaluate", "--workspace", str(workspace), MODEL])
    _call([python, "-m", "vot", "analysis", "--workspace", str(workspace), "--name", "report", MODEL])
    report = json.loads((workspace / "analysis" / "report.json").read_text())
    found = {name: each["results"] for name, each in report["results"].items()}
    (accuracy, failures, *_), (eao,), _ = (part[0] for part in found["baseline"])
    (multi_eao,), _, (multi_accuracy, robustness, *_) = (part[0] for part in found["multistart"])
    return {
        "baseline": {"accuracy": accuracy, "failures": failures, "eao": eao},
        "multistart": {"accuracy": multi_accuracy, "robustness": robustness, "eao": multi_eao},
        "unsupervised": {"accuracy": found["unsupervised"][0][0][0]},
    }


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def compare(dataset: Dataset, results: Path) -> dict[str, Any]:
    """Run siamtrack's protocols on the same sequences; return how far its regions are from those of the toolkit."""
    tracker = Tracker(MODEL, threads=1)
    compared: dict[str, Any] = {}
    for experiment, protocol in EXPERIMENTS.items():
        ((name, layout),) = find_trackers(results, dataset, "vot", experiment).items()
        theirs = read_results(name, layout, dataset)
        assert theirs.protocol == protocol, f"{experiment} was read as {theirs.protocol}"
        own = {each.name: PROTOCOLS[protocol].run(tracker, each, lambda: None) for each in dataset.sequences}
        ours = Run(name, dataset.name, protocol, own, {})
        compared[experiment] = _differences(dataset, theirs, ours)
        for whose, run in (("read", theirs), ("run", ours)):
            compared[experiment][whose] = figures(dataset, run)
            if protocol != "multi-start":
                compared[experiment][f"{whose}, by the toolkit's definitions"] = by_the_toolkit(dataset, run)
    return compared


def figures(dataset: Dataset, run: Run) -> dict[str, float]:
    """Return siamtrack's figures, EAO over the lengths that the toolkit averages over."""
    if run.protocol == "supervised":  # the toolkit counts lengths from 0 and takes the last too
        mean = supervised.score(dataset, run, (LOW + 1, HIGH + 1)).mean
        return {**mean, "failures": mean["lost_number"] / len(dataset.sequences)}
    if run.protocol == "multi-start":  # its curve ends before HIGH
        return dict(multistart.score(dataset, run, (LOW, HIGH)).mean)
    return dict(PROTOCOLS[run.protocol].score(dataset, run).mean)


def by_the_toolkit(dataset: Dataset, run: Run) -> dict[str, float]:
    """Return accuracy, failures and EAO as the toolkit defines them, from siamtrack's overlaps.

    Overlaps are vot-toolkit's, inside the whole image. accuracy: the mean over sequences, weighted by their lengths, of
    the mean over repetitions of the mean overlap; in supervised experiments without 10 frames from each start on. eao:
    as in siamtrack, but the curve ends with the longest stretch from a start to a failure or to the end of a sequence.
    """
    accuracies, failures, attempts, longest = [], [], [], 0
    for sequence in dataset.sequences:
        for result in run.results[sequence.name]:
            overlap = overlaps_of(result, sequence, sequence.size, "vot-toolkit")
            lost = np.flatnonzero(result.codes == FAILED)
            attempts.append(supervised.Attempt(sequence, overlap.copy(), lost, 1.0))
            for start in np.flatnonzero(started(result)):
                longest = max(longest, min([*lost[lost > start], len(sequence)]) - start)
                overlap[start : start + (supervised.BURN_IN if run.protocol == "supervised" else 1)] = np.nan
            accuracies.append((np.nanmean(overlap), len(sequence)))
            failures.append((len(lost), len(sequence)))
    values, lengths = zip(*accuracies, strict=True)
    found = {"accuracy": float(np.average(values, weights=lengths))}
    if run.protocol == "supervised":
        curve = supervised.expected_overlap(attempts)[:longest]
        found["failures"] = float(np.average([count for count, _ in failures], weights=lengths))
        found["eao"] = supervised.average(curve, (LOW + 1, HIGH + 1))
    return found


def table(outcome: Mapping[str, Any]) -> str:
    """Return the figures that both have, a line each: the toolkit's, siamtrack's, and how far they are apart."""
    lines = []
    for experiment, theirs in outcome["toolkit"].items():
        ours = outcome["siamtrack"][experiment]
        for whose in (key for key in ours if key.startswith("r")):
            for figure, value in theirs.items():
                if figure in ours[whose]:
                    mine = ours[whose][figure]
                    title = f"{experiment} {figure}, {whose}"
                    lines.append(f"{title:60} {value:.6f} {mine:.6f} {mine - value:+.6f}")
    return "\n".join(lines)


def _differences(dataset: Dataset, theirs: Run, ours: Run) -> dict[str, Any]:
    """Return by sequence: frames in which both answered, how far apart, and in how many frames the codes differ."""
    found: dict[str, Any] = {}
    for sequence in dataset.sequences:
        mine = {(result.start, result.backward): result for result in ours.results[sequence.name]}
        pairs = [(read, mine[read.start, read.backward]) for read in theirs.results[sequence.name]]
        apart = [
            np.abs(read.boxes - run.boxes)[(read.codes == TRACKED) & (run.codes == TRACKED)] for read, run in pairs
        ]
        found[sequence.name] = {
            "frames": sum(map(len, apart)),
            "pixels apart": float(np.concatenate(apart).max()),
            "codes that differ": sum(int((read.codes != run.codes).sum()) for read, run in pairs),
        }
    return found


def main() -> Mapping[str, Any]:
    """Compare, print and return the outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="The interpreter of the toolkit's environment.")
    parser.add_argument("--out", type=Path, help="Also write the outcome to this JSON file.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sequences").mkdir()
        dataset = make_sequences(folder / "sequences")
        toolkit = run_toolkit(options.python, folder)
        outcome = {"toolkit": toolkit, "siamtrack": compare(dataset, folder / "workspace" / "results")}
    text = json.dumps(outcome, indent=1)
    print(text)
    print(table(outcome))
    if options.out:
        options.out.write_text(text + "\n")
    return outcome


if __name__ == "__main__":
    main()
