"""Contenders timed in turn, round after round, so that whatever else the machine does hits all of them alike."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import median

import numpy as np

from siamtrack.benchmark.contenders import Contender, Label, Parts, spread
from siamtrack.benchmark.scene import Scene
from siamtrack.runtimes.load import out_of_memory


@dataclass
class Row:
    """What was measured of a contender; the times are seconds."""

    label: Label
    totals: list[list[float]] = field(default_factory=list)
    """For each round, each update's time."""
    splits: list[Parts] = field(default_factory=list)
    problem: str | None = None
    """Why there are no times; one sentence."""

    @property
    def median(self) -> float:
        """The median update."""
        return float(np.median([value for each in self.totals for value in each]))

    @property
    def slowest(self) -> float:
        """The 95th percentile of the updates."""
        return float(np.quantile([value for each in self.totals for value in each], 0.95))

    @property
    def parts(self) -> Parts | None:
        """The median of each part."""
        return spread(self.splits) if self.splits else None

    @property
    def targets_a_second(self) -> float:
        """Targets found in a second."""
        return self.label.targets / self.median

    def faster_than(self, other: "Row") -> float:
        """Return how many times faster for each target: the median over rounds of the ratio of the rounds' medians."""
        mine, theirs = ([median(each) / row.label.targets for each in row.totals] for row in (self, other))
        return median(b / a for a, b in zip(mine, theirs, strict=True))

    def further(self, single: "Row") -> float:
        """Return what each target after the first adds, as a share of the time of ``single``, which follows one."""
        targets = self.label.targets
        return (targets / self.faster_than(single) - 1) / (targets - 1)


def time_in_turn(
    contenders: Sequence[Contender],
    scene: Scene,
    rounds: int,
    updates: int,
    on_turn: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Time all contenders; one that fails for want of memory keeps the reason and is left out of further rounds.

    Each starts on the scene's first frame and warms up before it is timed, so nothing is loaded, compiled or chosen
    while the clock runs.

    Args:
        contenders: in the order of the rows.
        scene: what they follow.
        rounds: how many times each has its turn.
        updates: frames in a turn.
        on_turn: called after each turn, the warm-up included.
        clock: gives seconds.
    """
    rows = [Row(contender.label) for contender in contenders]
    for number in range(rounds + 1):
        for contender, row in zip(contenders, rows, strict=True):
            if row.problem is None:
                try:
                    _turn(contender, row, scene, updates if number else 2, clock, warm_up=number == 0)
                except Exception as error:
                    if not out_of_memory(error):
                        raise
                    row.problem = f"{row.label.targets} targets need more memory than {row.label.device} has"
                    row.totals.clear()
            on_turn()
    return rows


def _turn(
    contender: Contender, row: Row, scene: Scene, updates: int, clock: Callable[[], float], warm_up: bool
) -> None:
    frames = scene.forth_and_back()
    contender.start(scene.frames[0], scene.boxes(row.label.targets))
    contender.update(next(frames))  # wakes caches that the others have used since
    totals = []
    for frame in islice(frames, updates):
        began = clock()
        contender.update(frame)
        totals.append(clock() - began)
    splits = [contender.split(frame) for frame in islice(frames, updates)]
    if not warm_up:
        row.totals.append(totals)
        row.splits += [parts for parts in splits if parts]


def usable(rows: Iterable[Row]) -> list[Row]:
    """Return the rows that have times."""
    return [row for row in rows if row.totals]
