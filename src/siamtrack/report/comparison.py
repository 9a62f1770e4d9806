"""Several runs over one data set under one protocol, scored: what every part of a report is made from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isnan, nan
from pathlib import Path

import numpy as np

from siamtrack.errors import UserError, nearest
from siamtrack.evaluate.datasets import Dataset, read_dataset
from siamtrack.evaluate.protocols import PROTOCOLS
from siamtrack.evaluate.results import TRACKED, Run, read_run
from siamtrack.evaluate.scores import Scores, lower_is_better


@dataclass(frozen=True)
class Comparison:
    """Trackers and what they scored, best first."""

    dataset: Dataset
    protocol: str
    runs: tuple[Run, ...]
    scores: tuple[Scores, ...]
    """One a run, in the same order."""
    notes: tuple[str, ...] = ()
    """Sentences on what a reader must know before comparing."""

    @property
    def trackers(self) -> tuple[str, ...]:
        """Names in the order of the runs."""
        return tuple(run.tracker for run in self.runs)


def read_runs(folders: Iterable[Path]) -> list[Run]:
    """Return the runs in the folders, each a run or a folder of runs.

    Raises:
        UserError: one is neither, or a file in it is damaged.
    """
    runs = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no run {folder}: no such folder")
        inside = [folder] if (folder / "run.json").is_file() else sorted(p.parent for p in folder.glob("*/run.json"))
        if not inside:
            raise UserError(f"{folder} is no run and holds none: looked for run.json and */run.json")
        runs += [read_run(path) for path in inside]
    return runs


def compare(runs: Sequence[Run], dataset: str | None = None, root: Path | None = None) -> Comparison:
    """Score runs against the truth and rank them by the first figure.

    Args:
        runs: what was run; those without a finished sequence are left out with a note.
        dataset: name of the data set, if another reader is wanted than the runs say.
        root: where it is now, if not where the runs say.

    Raises:
        UserError: two runs share the names of tracker and folder, or they differ in data set, protocol or number of
            frames; nothing is finished; the data set is not there or is another one.
    """
    for key in ("dataset", "protocol"):
        _check_same(key, {_place(run): getattr(run, key) for run in runs})
    _check_same("frames", {_place(run): run.facts.get("frames") for run in runs})
    runs = _named_apart(runs)
    protocol = PROTOCOLS.get(runs[0].protocol)
    if protocol is None:
        near = nearest(runs[0].protocol, PROTOCOLS)
        raise UserError(f"unknown protocol {runs[0].protocol!r}{near}; known are {', '.join(PROTOCOLS)}")
    finished = [run for run in runs if run.results]
    if not finished:
        raise UserError(f"nothing is finished in {', '.join(_place(run) for run in runs)}; there is nothing to report")
    truth = read_dataset(dataset or runs[0].dataset, _root(runs, root), _only(runs), runs[0].facts.get("frames"))
    names = {sequence.name for sequence in truth.sequences}
    for run in finished:
        if not names & run.results.keys():
            raise UserError(
                f"{_place(run)} has no result for a sequence of the data set {truth.name}, such as {min(names)!r}, but "
                f"for others, such as {min(run.results)!r}; give the data set with --dataset and --root"
            )
    scored = [(run, protocol.score(truth, run)) for run in finished]
    scored.sort(key=lambda pair: _rank(pair[1], runs[0].protocol))
    ranked = tuple(run for run, _ in scored)
    notes = _notes(runs, ranked, truth)
    return Comparison(truth, runs[0].protocol, ranked, tuple(scores for _, scores in scored), notes)


def figures(values: Iterable[Mapping[str, object]]) -> list[str]:
    """Return the keys of all mappings, each once, in the order in which they come."""
    return list(dict.fromkeys(key for each in values for key in each))


def update_ms(run: Run) -> float:
    """Return the median time of an update over all frames in milliseconds, NaN where it is unknown."""
    times = [
        result.seconds[(result.codes == TRACKED) & (result.seconds > 0)]
        for results in run.results.values()
        for result in results
    ]
    joined = np.concatenate([np.zeros(0), *times])
    return float(np.median(joined) * 1e3) if len(joined) else nan


def _rank(scores: Scores, protocol: str) -> float:
    """Return what runs are sorted by, ascending: NaN last."""
    figure, value = next(iter(scores.mean.items()), ("", nan))
    if isnan(value):
        return inf
    return value if lower_is_better(figure, protocol) else -value


def _place(run: Run) -> str:
    return str(run.folder or run.tracker)


def _named_apart(runs: Sequence[Run]) -> list[Run]:
    """Return the runs; those of trackers of one name are called as their folders are."""
    names = [run.tracker for run in runs]
    apart = [
        replace(run, tracker=run.folder.name) if names.count(run.tracker) > 1 and run.folder else run for run in runs
    ]
    seen: dict[str, Run] = {}
    for run in apart:
        if run.tracker in seen:
            raise UserError(
                f"two runs are of a tracker named {run.tracker!r}: {_place(seen[run.tracker])} and {_place(run)}; "
                "leave one out, or change 'tracker' in the run.json of one"
            )
        seen[run.tracker] = run
    return apart


def _check_same(what: str, values: Mapping[str, object]) -> None:
    first, *others = values.items()
    for name, value in others:
        if value != first[1]:
            raise UserError(
                f"the runs differ in {what} and cannot be compared: {first[1]!r} in {first[0]}, {value!r} in {name}; "
                "make a report of each"
            )


def _root(runs: Sequence[Run], root: Path | None) -> Path:
    if root:
        return root
    roots = list(dict.fromkeys(str(run.facts["root"]) for run in runs if run.facts.get("root")))
    found = next((Path(each) for each in roots if Path(each).is_dir()), None)
    if found is None:
        where = f"is not at {' or '.join(roots)}" if roots else "is at no place that the runs name"
        raise UserError(f"the data set {runs[0].dataset} {where}; say where it is with --root")
    return found


def _only(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the sequences that any of the runs was to do, empty for all."""
    wanted = [tuple(run.facts.get("only") or ()) for run in runs]
    return tuple(dict.fromkeys(name for each in wanted for name in each)) if all(wanted) else ()


def _notes(runs: Sequence[Run], ranked: Sequence[Run], truth: Dataset) -> tuple[str, ...]:
    notes = [f"{run.tracker} is left out: it has not finished a sequence." for run in runs if not run.results]
    done = {run.tracker: {s.name for s in truth.sequences if s.name in run.results} for run in ranked}
    common = set.intersection(*done.values())
    if any(each != common for each in done.values()):
        counts = ", ".join(f"{name} {len(each)}" for name, each in done.items())
        notes.append(
            f"The trackers finished different sequences ({counts} of {len(truth.sequences)}, {len(common)} in common), "
            "so that their means are not over the same."
        )
    if len({tuple(repr(run.facts.get(key)) for key in ("device", "threads")) for run in ranked}) > 1:
        notes.append("The runs differ in device or number of threads: their times do not compare the trackers alone.")
    if len({repr(run.facts.get("realtime")) for run in ranked}) > 1:
        notes.append("Some of the runs are under the realtime limit and some are not.")
    return tuple(notes)
