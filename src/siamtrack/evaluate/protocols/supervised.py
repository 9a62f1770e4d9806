"""VOT's supervised restart (2013 to 2019): where the tracker has lost the object, it is started again 5 frames later
(Kristan et al., PAMI 2016; EAO: Kristan et al., ICCV workshops 2015). The figures are those of PySOT's toolkit.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamtrack.evaluate.answers import Notes, matched, overlaps_of, overlaps_within, sized, started
from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.results import FAILED, Result, Run
from siamtrack.evaluate.scores import Curve, Scores
from siamtrack.evaluate.sequences import Sequence

BURN_IN = 10
"""Frames from a start on that do not count for the accuracy."""
SKIP = 5
"""Frames from a failure to the next start."""
INTERVALS = {
    "vot2015": (108, 371),
    "vot2016": (108, 371),
    "vot2017": (100, 356),
    "vot2018": (100, 356),
    "vot2019": (46, 291),
}
"""Lengths, from 1, over which the expected overlap is averaged, by data set (the challenges' reports)."""


class Attempt(NamedTuple):
    """One repetition on a sequence."""

    sequence: Sequence
    overlap: NDArray[np.float64]
    """[T] inside an image a pixel narrower and lower than it is, as PySOT has it for EAO; NaN where unknown."""
    failures: NDArray[np.intp]
    """Frames in which the tracker failed."""
    weight: float
    """1 over the number of repetitions."""


def score(dataset: Dataset, run: Run, interval: tuple[int, int] | None = None) -> Scores:
    """Return EAO, accuracy and robustness, over the data set and per sequence, tag and length.

    eao: the mean over lengths in the interval of the overlap expected in a sequence of that length. accuracy: the mean
    overlap over all frames of all sequences, without the 10 from each start on. robustness: failures per 100 frames.
    lost_number: failures. Of several repetitions, overlaps are averaged frame by frame, and failures too. Overlaps are
    :func:`~siamtrack.regions.overlaps` inside the image. Per tag of frames: frames and failures that carry it, and
    fragments weighted by their share of such frames; ``empty`` is the frames that carry none.

    Args:
        dataset: the truth.
        run: what a tracker did.
        interval: first and last length, from 1; None for the one of the data set's year. Data sets without one get the
            quartiles of their lengths, which is noted.

    Raises:
        UserError: the run has no result of any sequence.
    """
    notes = Notes()
    frame_overlaps: dict[str, NDArray[np.float64]] = {}
    failures: dict[str, NDArray[np.float64]] = {}  # [T] mean over repetitions
    attempts: list[Attempt] = []
    sequences: list[Sequence] = []
    for sequence, results in matched(dataset, run, notes):
        sequence = sized(sequence)
        if sequence.size is None:
            notes.add("the size of the images is not known, what lies outside counts", sequence.name)
        less = None if sequence.size is None else (sequence.size[0] - 1, sequence.size[1] - 1)
        counted, failed = [], []
        for result in results:
            whole = overlap(sequence, result)
            failed.append(result.codes == FAILED)
            narrow = overlaps_within(result, sequence, less, whole)
            for start in np.flatnonzero(started(result)):
                whole[start : start + BURN_IN] = np.nan
            counted.append(whole)
            lost = np.flatnonzero(result.codes == FAILED)
            attempts.append(Attempt(sequence, narrow, lost, 1 / len(results)))
        frame_overlaps[sequence.name] = np.mean(counted, 0)
        failures[sequence.name] = np.mean(failed, 0)
        sequences.append(sequence)
    if interval is None:
        interval = INTERVALS.get(dataset.name.lower())
    if interval is None:
        low, high = np.quantile([len(sequence) for sequence in sequences], (0.25, 0.75)).round().astype(int).tolist()
        interval = max(low, 2), max(high, 2)
        notes.say(f"{dataset.name} has no published interval for EAO, took the quartiles of lengths, {low} to {high}")

    def figures(tag: str | None) -> dict[str, float]:
        flags = {sequence.name: tagged(sequence, tag) for sequence in sequences}
        values = np.concatenate([frame_overlaps[name][flag] for name, flag in flags.items()])
        lost = sum(float(failures[name][flag].sum()) for name, flag in flags.items())
        curve = expected_overlap(attempts, tag)
        return {
            "eao": average(curve, interval),
            "accuracy": _nanmean(values),
            "robustness": 100 * lost / max(len(values), 1),
            "lost_number": lost,
        }

    tags = sorted({name for sequence in sequences for name in sequence.labels})
    curve = expected_overlap(attempts)
    known = interval[0] - 1 + np.flatnonzero(np.isfinite(curve[interval[0] - 1 : interval[1]]))
    if not len(known):
        notes.say(f"EAO cannot be computed: no run is as long as its interval, {interval[0]} to {interval[1]} frames")
    elif known[-1] + 1 < interval[1]:
        notes.say(
            f"EAO is over {interval[0]} to {known[-1] + 1} frames instead of to {interval[1]}: no run is as long, so "
            "it cannot be compared with published values"
        )
    return Scores(
        figures(None),
        {
            sequence.name: {
                "accuracy": _nanmean(frame_overlaps[sequence.name]),
                "robustness": float(100 * failures[sequence.name].mean()),
                "lost_number": float(failures[sequence.name].sum()),
            }
            for sequence in sequences
        },
        {tag: figures(tag) for tag in [*tags, "empty"]} if tags else {},
        {"eao": Curve(np.arange(1.0, len(curve) + 1), curve, "sequence length, frames", "expected overlap")},
        notes.sentences(),
    )


def overlap(sequence: Sequence, result: Result) -> NDArray[np.float64]:
    """Return the overlap inside the image in T frames of a result, NaN where it was started or stopped. Shape: [T]."""
    return overlaps_of(result, sequence, sequence.size)


def tagged(sequence: Sequence, tag: str | None) -> NDArray[np.bool_]:
    """Return which of T frames carry a tag: all for None, for ``empty`` those that carry none."""
    if tag is None:
        return np.ones(len(sequence), bool)
    if tag == "empty" and "empty" not in sequence.labels:
        none: NDArray[np.bool_] = ~np.any([np.zeros(len(sequence), bool), *sequence.labels.values()], axis=0)
        return none
    return sequence.labels.get(tag, np.zeros(len(sequence), bool))


def expected_overlap(attempts: list[Attempt], tag: str | None = None) -> NDArray[np.float64]:
    """Return the overlap expected at the end of sequences of each length, NaN where none is as long. Shape: [longest].

    Each attempt is cut 5 frames after each failure. A fragment that ends with a failure goes on with overlap 0 for
    ever, the last one is unknown after its end. The expectation at a length is the mean overlap from the second frame
    on, averaged over the fragments that are known there, weighted by the share of their frames that carry the tag.
    """
    longest = max(len(attempt.overlap) for attempt in attempts)
    rows, weights = [], []
    for sequence, overlap, failures, weight in attempts:
        flags = tagged(sequence, tag)
        starts = [0, *(place + SKIP for place in failures.tolist() if place + SKIP <= len(overlap))]
        for start, end in zip(starts, [*starts[1:], None], strict=True):
            row = np.full(longest, np.nan if end is None else 0.0)
            piece = overlap[start:] if end is None else overlap[start : end + 1]
            row[: len(piece)] = piece if not len(failures) else np.nan_to_num(piece)
            row[0] = 0  # the frame of the start, which has no overlap
            length = len(overlap) - start if end is None else end - start + 1
            rows.append(row)
            weights.append(weight * flags[start : None if end is None else end + 1].sum() / max(length, 1))
    fragments, shares = np.stack(rows), np.array(weights)
    known = np.isfinite(fragments)
    sums = np.cumsum(np.where(known, fragments, 0), 1)
    total = (known * shares[:, None]).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected: NDArray[np.float64] = (sums * known * shares[:, None]).sum(0) / total / np.arange(longest)
    expected[0] = 1
    return expected


def average(curve: NDArray[np.float64], interval: tuple[int, int]) -> float:
    """Return the mean of the expected overlap over the lengths of an interval, from 1, both included."""
    return _nanmean(curve[interval[0] - 1 : interval[1]])


def _nanmean(values: NDArray[np.float64]) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else np.nan
