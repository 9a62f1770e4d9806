"""Protocols: how a tracker is run over a sequence, and what its runs are worth. A file each, all of them by name."""

from collections.abc import Callable
from dataclasses import dataclass

from siamtrack.evaluate import running
from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.follows import FollowsOne
from siamtrack.evaluate.protocols import got10k, longterm, multistart, one_pass, supervised, vos
from siamtrack.evaluate.results import Run, SequenceResult
from siamtrack.evaluate.scores import Scores
from siamtrack.evaluate.sequences import Sequence


@dataclass(frozen=True)
class Protocol:
    """One way to evaluate."""

    run: Callable[[FollowsOne, Sequence, Callable[[], None]], SequenceResult]
    """From tracker, sequence and a function that is called after each frame, to what the tracker did."""
    score: Callable[[Dataset, Run], Scores]
    """From the truth and a run to its scores. Sequences that the run lacks are left out and named in the notes."""


SCORERS: dict[str, Callable[[Dataset, Run], Scores]] = {
    "one-pass": one_pass.score,
    "got10k": got10k.score,
    "supervised": supervised.score,
    "multi-start": multistart.score,
    "long-term": longterm.score,
    "vos": vos.score,
}
"""How the runs of each protocol are scored."""

PROTOCOLS: dict[str, Protocol] = {
    "one-pass": Protocol(running.one_pass, SCORERS["one-pass"]),
    "got10k": Protocol(running.one_pass, SCORERS["got10k"]),
}
"""The protocols that trackers can be run by."""
