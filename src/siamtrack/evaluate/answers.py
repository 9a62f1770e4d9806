"""What trackers answered, laid beside the truth frame by frame; whatever does not fit is noted."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes
from siamtrack.errors import UserError
from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.results import FAILED, SKIPPED, STARTED, TRACKED, Result, Run, SequenceResult
from siamtrack.evaluate.sequences import Sequence
from siamtrack.regions import Bounds, Convention, Region, decode_mask, overlaps
from siamtrack.video.image import read_image

NAMED = 5
"""How many sequences a note names."""


class Notes:
    """Collects what to say about sequences."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}
        self._sentences: list[str] = []

    def add(self, what: str, name: str) -> None:
        """Note something of a sequence; what is the same of several becomes one sentence."""
        names = self._names.setdefault(what, [])
        if name not in names:
            names.append(name)

    def say(self, sentence: str) -> None:
        """Note a sentence."""
        self._sentences.append(sentence)

    def sentences(self) -> tuple[str, ...]:
        """Return all notes."""
        return *self._sentences, *(f"{what}: {named(names)}" for what, names in self._names.items())


def named(names: list[str]) -> str:
    """Return names for a sentence, the first ones if there are many."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def matched(
    dataset: Dataset,
    run: Run,
    notes: Notes,
    frames: Callable[[Sequence, Result], int] = lambda sequence, result: len(sequence),
) -> Iterator[tuple[Sequence, SequenceResult]]:
    """Give the sequences that the run has results of, and the results, as long as their sequences.

    Results that are too short are filled up with frames without an answer, those that are too long are cut; both, and
    frames without an answer, are noted.

    Args:
        dataset: the sequences.
        run: what a tracker did.
        notes: gets what did not fit.
        frames: how many frames a result should have.

    Raises:
        UserError: the run has no result of any sequence.
    """
    missing = [sequence.name for sequence in dataset.sequences if not run.results.get(sequence.name)]
    count = len(dataset.sequences)
    if len(missing) == count:
        raise UserError(f"run {run.tracker} has no result for any of the {count} sequences of {dataset.name}")
    if missing:
        there = count - len(missing)
        notes.say(f"means are over {there} of {count} sequences, without a result are {named(missing)}")
    unknown = sorted(run.results.keys() - {sequence.name for sequence in dataset.sequences})
    if unknown:
        notes.say(f"{len(unknown)} results are of no sequence of {dataset.name} and do not count: {named(unknown)}")
    for sequence in dataset.sequences:
        if results := run.results.get(sequence.name):
            yield sequence, tuple(_fitted(result, frames(sequence, result), sequence.name, notes) for result in results)


def _fitted(result: Result, count: int, name: str, notes: Notes) -> Result:
    if len(result) < count:
        notes.add("shorter than the sequence, the frames that lack count as without an answer", name)
    elif len(result) > count:
        notes.add("longer than the sequence, the frames after its end do not count", name)
    if len(result) != count:
        result = resized(result, count)
    asked = result.codes == TRACKED
    if not np.isfinite(result.boxes[asked]).all() and _lacks_answers(result, asked):
        notes.add("frames without an answer (NaN), which have overlap 0", name)
    negative = asked & (result.boxes[:, 2:] < 0).any(1)
    if negative.any():
        notes.add("boxes with a negative width or height, which count as no answer", name)
        result = replace(result, boxes=np.where(negative[:, None], np.nan, result.boxes))
    return result


def _lacks_answers(result: Result, asked: NDArray[np.bool_]) -> bool:
    there = np.isfinite(result.boxes).all(1)
    if result.polygons is not None:
        there |= np.isfinite(result.polygons).all((1, 2))
    if result.masks is not None:
        there |= np.array([mask is not None for mask in result.masks], bool)
    return bool((asked & ~there).any())


def resized(result: Result, count: int) -> Result:
    """Return a result cut or filled up to ``count`` frames."""

    def fit(values: NDArray[Any], filling: float) -> NDArray[Any]:
        more = np.full((max(count - len(values), 0), *values.shape[1:]), filling, values.dtype)
        return np.concatenate([values[:count], more])

    return replace(
        result,
        boxes=fit(result.boxes, np.nan),
        scores=fit(result.scores, np.nan),
        seconds=fit(result.seconds, np.nan),
        codes=fit(result.codes, TRACKED),
        polygons=None if result.polygons is None else fit(result.polygons, np.nan),
        masks=None if result.masks is None else (*result.masks, *[None] * count)[:count],
    )


def sized(sequence: Sequence) -> Sequence:
    """Return the sequence with the size of its frames, read off the first where the data set does not say it."""
    return sequence if sequence.size else replace(sequence, size=_size(sequence.paths[0]))


@lru_cache(maxsize=10_000)
def _size(path: Path) -> tuple[int, int] | None:
    """Return width and height of an image, None if it cannot be read."""
    try:
        image = read_image(path)
    except OSError:
        return None
    return None if image is None else (image.shape[1], image.shape[0])


def regions(result: Result) -> list[Region] | NDArray[np.float64]:
    """Return the answers of T frames: polygons or masks where there are, else boxes; None or NaN without an answer."""
    if result.masks is None and result.polygons is None:
        return result.boxes
    return [answer(result, index) for index in range(len(result))]


def answer(result: Result, index: int) -> Region:
    """Return the answer of one frame of a result: a mask or polygon where there is one, else the box; None or NaN
    without an answer.
    """
    mask = None if result.masks is None else result.masks[index]
    if mask is not None:
        return decode_mask(mask)
    if result.polygons is not None and np.isfinite(result.polygons[index]).all():
        polygon: NDArray[np.float64] = result.polygons[index]
        return polygon
    box: Boxes = result.boxes[index]
    return box


def overlaps_of(
    result: Result, sequence: Sequence, bounds: Bounds = None, convention: Convention = "pysot"
) -> NDArray[np.float64]:
    """Return the overlap of answer and truth in the T frames of a result, in its order.

    0 in frames without an answer; NaN in frames of a start or failure, while the tracker is stopped, and where there is
    no truth.
    """
    order = frames_of(result)
    everywhere = np.ones(len(result), bool)
    values = _overlaps(result, sequence, everywhere, bounds, convention)
    values[np.isnan(values) & np.isfinite(sequence.boxes[order]).all(1)] = 0
    values[started(result) | stopped(result)] = np.nan
    return values


def overlaps_within(
    result: Result, sequence: Sequence, bounds: Bounds, wider: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return :func:`overlaps_of` from those within wider bounds, which are the same in frames in which answer and truth
    end a pixel inside ``bounds``.
    """
    if bounds is None:
        return wider.copy()
    if result.masks is not None or (sequence.regions is not None and sequence.polygons is None):
        return overlaps_of(result, sequence, bounds)
    boxes = result.boxes, sequence.boxes[frames_of(result)]
    ends = [each[:, :2] + np.maximum(each[:, 2:], 0) for each in boxes]
    if result.polygons is not None:
        ends.append(result.polygons.max(1))
    beyond = np.isfinite(wider) & np.any([(end + 1 > bounds).any(1) for end in ends], axis=0)
    return np.where(beyond, np.nan_to_num(_overlaps(result, sequence, beyond, bounds, "pysot")), wider)


def _overlaps(
    result: Result, sequence: Sequence, where: NDArray[np.bool_], bounds: Bounds, convention: Convention
) -> NDArray[np.float64]:
    """Return the overlap of answer and truth in the frames ``where``, NaN in others and where one of them is missing.

    Shapes: where [T], result [T].
    """
    values = np.full(len(result), np.nan)
    order = frames_of(result)
    turned: NDArray[np.bool_] = np.zeros(len(result), bool)
    if result.polygons is not None:
        turned = turned | np.isfinite(result.polygons).all((1, 2))
    if result.masks is not None or (sequence.regions is not None and sequence.polygons is None):
        answers = regions(result)
        places = np.flatnonzero(where).tolist()
        truth = [sequence.truth(index) for index in order[places].tolist()]
        values[where] = overlaps([answers[index] for index in places], truth, bounds, convention)
        return values
    whole = sequence.boxes if sequence.polygons is None else sequence.polygons  # arrays are much faster than lists
    for chosen, array in ((where & turned, result.polygons), (where & ~turned, result.boxes)):
        if array is not None and chosen.any():
            values[chosen] = overlaps(array[chosen], whole[order[chosen]], bounds, convention)
    return values


def frames_of(result: Result) -> NDArray[np.intp]:
    """Return the frame of the sequence that each of T frames of a result is."""
    steps = np.arange(len(result))
    return result.start - steps if result.backward else result.start + steps


def stopped(result: Result) -> NDArray[np.bool_]:
    """Return in which of T frames the protocol had stopped the tracker: at a failure, and after it."""
    nothing = ~np.isfinite(result.boxes).all(1)
    if result.polygons is not None:
        nothing &= ~np.isfinite(result.polygons).all((1, 2))
    where: NDArray[np.bool_] = (result.codes == FAILED) | ((result.codes == SKIPPED) & nothing)
    return where


def started(result: Result) -> NDArray[np.bool_]:
    """Return in which of T frames the tracker was started."""
    where: NDArray[np.bool_] = result.codes == STARTED
    return where


def mean_of(figures: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each figure over sequences."""
    return {key: float(np.mean([each[key] for each in figures])) for key in figures[0]}


def by_attribute(
    sequences: list[Sequence], mean: Callable[[list[Sequence]], dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Return the figures over the sequences that carry each attribute."""
    names = sorted({name for sequence in sequences for name in sequence.attributes})
    return {name: mean([sequence for sequence in sequences if name in sequence.attributes]) for name in names}
