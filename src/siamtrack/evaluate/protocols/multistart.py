"""VOT's multi-start (2020 to 2022): started in anchors, runs forward or backward from there, never started again
(Kristan et al., ECCV workshops 2020, section 2).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from siamtrack.evaluate.answers import Notes, answer, frames_of, matched, overlaps_of, sized, started
from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.results import Result, Run
from siamtrack.evaluate.scores import Curve, Scores
from siamtrack.evaluate.sequences import Sequence
from siamtrack.regions import Convention, enclosing_box

FAILED_AT = 0.1
"""Overlap at which the object counts as lost .."""
GRACE = 10
""".. if it is not above it in this many frames in a row."""
INTERVAL = 115, 755
"""Numbers of frames after the start over which the expected overlap is averaged, without the last, in all years."""


class Attempt(NamedTuple):
    """A tracker from one anchor on."""

    overlap: NDArray[np.float64]
    """[T] in the order in which the frames were seen; 0 in the first, which was given."""
    progress: int
    """Frames until it failed; T if it did not."""
    flags: NDArray[np.bool_]
    """[T] which of the frames count."""


def score(
    dataset: Dataset, run: Run, interval: tuple[int, int] = INTERVAL, convention: Convention = "vot-toolkit"
) -> Scores:
    """Return EAO, accuracy and robustness, over the data set, per sequence, and accuracy and robustness per tag.

    eao: the mean over lengths in the interval of the overlap expected after that many frames. accuracy: the mean
    overlap in all frames before failures. robustness: the share of a sequence's frames that are before failures,
    averaged over sequences weighted by their lengths. The tracker has failed in the first of 10 frames in a row with an
    overlap of at most .1. Frames in which a start is given count with overlap 0, as in vot-toolkit.

    Args:
        dataset: the truth.
        run: what a tracker did, a result an anchor.
        interval: first length, and the one after the last.
        convention: how regions overlap inside the image (:func:`~siamtrack.regions.overlaps`).

    Raises:
        UserError: the run has no result of any sequence.
    """
    notes = Notes()
    attempts: dict[str, list[Attempt]] = {}
    tagged: dict[str, dict[str, list[Attempt]]] = {}
    lengths = {sequence.name: len(sequence) for sequence in dataset.sequences}
    for sequence, results in matched(dataset, run, notes, _length):
        if {anchor if anchor >= 0 else ~anchor for anchor in sequence.anchors} - {result.start for result in results}:
            notes.add("no result from some anchors, which do not count", sequence.name)
        sequence = sized(sequence)
        if sequence.size is None:
            notes.add("the size of the images is not known, what lies outside counts", sequence.name)
        attempts[sequence.name] = [_attempt(result, sequence, convention) for result in results]
        orders = [frames_of(result) for result in results]
        for tag, flags in sequence.labels.items():
            those = [a._replace(flags=flags[order]) for a, order in zip(attempts[sequence.name], orders, strict=True)]
            tagged.setdefault(tag, {})[sequence.name] = those
    curve = expected_overlap([attempt for each in attempts.values() for attempt in each])
    if len(curve) <= interval[0]:
        notes.say(f"EAO cannot be computed: no run is as long as its interval, {interval[0]} to {interval[1]} frames")
    elif len(curve) < interval[1]:
        notes.say(
            f"EAO is over {interval[0]} to {len(curve)} frames instead of to {interval[1]}: no run is as long, so it "
            "cannot be compared with published values"
        )
    chosen = curve[interval[0] : interval[1]]
    eao = float(chosen.mean()) if len(chosen) else np.nan
    return Scores(
        {"eao": eao, **_figures(attempts, lengths)},
        {name: _figures({name: each}, lengths) for name, each in attempts.items()},
        {tag: _figures(each, lengths) for tag, each in sorted(tagged.items())},
        {"eao": Curve(np.arange(float(len(curve))), curve, "frames after the start", "expected overlap")},
        notes.sentences(),
    )


def expected_overlap(attempts: list[Attempt]) -> NDArray[np.float64]:
    """Return the overlap expected after each number of frames. Shape: [T of the longest].

    The mean overlap of the frames up to there, without the first, averaged over attempts: those that have failed go on
    with overlap 0 for ever, others are left out after their end. After the end of an attempt that failed, the sum is
    divided by a frame less, as in vot-toolkit.
    """
    longest = max(len(attempt.overlap) for attempt in attempts)
    after = np.arange(longest)
    total, count = np.zeros(longest), np.zeros(longest)
    for values, progress, _ in attempts:
        row = np.zeros(longest)
        row[1:progress] = values[1:progress]
        failed = progress < len(values)
        known = (after < len(values)) | failed
        frames = np.where(after < len(values), after, after - 1)
        total += known * np.cumsum(row) / np.maximum(frames, 1)
        count += known
    return total / count


def overlap(sequence: Sequence, result: Result, convention: Convention = "vot-toolkit") -> NDArray[np.float64]:
    """Return the overlap inside the image in T frames of a result, NaN where it was started; where there is nothing to
    find, 1 if nothing was found. Shape: [T].
    """
    values = overlaps_of(result, sequence, sequence.size, convention)
    for index in np.flatnonzero(~np.isfinite(sequence.boxes[frames_of(result)]).all(1)).tolist():
        values[index] = not np.isfinite(enclosing_box(answer(result, index))).all()
    return values


def _length(sequence: Sequence, result: Result) -> int:
    return result.start + 1 if result.backward else len(sequence) - result.start


def _attempt(result: Result, sequence: Sequence, convention: Convention) -> Attempt:
    values = overlap(sequence, result, convention)
    values[started(result)] = 0
    there = np.isfinite(sequence.boxes[frames_of(result)]).all(1)
    lost = np.cumsum(np.concatenate([[0], (values <= FAILED_AT) & there & ~started(result)]))
    failures = np.flatnonzero(lost[GRACE:] - lost[:-GRACE] == GRACE)
    progress = int(failures[0]) if len(failures) else len(values)
    return Attempt(values, progress, np.ones(len(values), bool))


def _figures(attempts: Mapping[str, list[Attempt]], lengths: Mapping[str, int]) -> dict[str, float]:
    total, before, shares = 0.0, 0, []
    for name, each in attempts.items():
        frames = sum(int(attempt.flags.sum()) for attempt in each)
        progress = sum(int(attempt.flags[: attempt.progress].sum()) for attempt in each)
        total += sum(float((attempt.overlap * attempt.flags)[: attempt.progress].sum()) for attempt in each)
        before += progress
        if frames:
            shares.append((progress / frames, lengths[name]))
    return {
        "accuracy": total / before if before else np.nan,
        "robustness": sum(share * length for share, length in shares) / max(sum(length for _, length in shares), 1),
    }
