"""Protocols: how a tracker is run over a sequence, and what its runs are worth. A file each, all of them by name."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import UserError
from siamtrack.evaluate import running
from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.follows import FollowsOne
from siamtrack.evaluate.protocols import got10k, longterm, multistart, one_pass, supervised, vos
from siamtrack.evaluate.results import Result, Run, SequenceResult
from siamtrack.evaluate.scores import Scores
from siamtrack.evaluate.sequences import Sequence


@dataclass(frozen=True)
class Protocol:
    """One way to evaluate."""

    run: Callable[[FollowsOne, Sequence, Callable[[], None], float | None], SequenceResult]
    """From tracker, sequence, a function that is called after each frame, and the frames a second of a realtime
    experiment, to what the tracker did."""
    score: Callable[[Dataset, Run], Scores]
    """From the truth and a run to its scores. Sequences that the run lacks are left out and named in the notes."""
    overlap: Callable[[Sequence, Result], NDArray[np.float64]]
    """From the truth and a result, which lies within the sequence, to the overlap that it scores in each of the
    result's frames; NaN where there is none."""
    join: Callable[[list[SequenceResult]], list[SequenceResult]] | None = None
    """From what it did for each object of a video to what that makes together, where objects exclude each other."""


def check(dataset: Dataset, protocol: str) -> None:
    """Check that a data set has what a protocol needs.

    Raises:
        UserError: it has not.
    """
    for sequence in dataset.sequences:
        if protocol == "multi-start" and not sequence.anchors:
            raise UserError(
                f"sequence {sequence.name} of {dataset.name} has no anchors, which multi-start needs; choose another "
                "protocol"
            )
        if protocol == "vos" and sequence.masks is None:
            raise UserError(
                f"sequence {sequence.name} of {dataset.name} has no masks, which vos needs; choose another protocol"
            )


PROTOCOLS: dict[str, Protocol] = {
    "one-pass": Protocol(running.one_pass, one_pass.score, one_pass.overlap),
    "got10k": Protocol(running.one_pass, got10k.score, got10k.overlap),
    "supervised": Protocol(running.supervised, supervised.score, supervised.overlap),
    "multi-start": Protocol(running.multi_start, multistart.score, multistart.overlap),
    "long-term": Protocol(running.one_pass, longterm.score, supervised.overlap),
    "vos": Protocol(running.one_object, vos.score, vos.overlap, running.separate),
}
