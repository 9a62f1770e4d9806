"""The study: trials of parameters of tracking, each of which tracks whole sequences (Optuna; KDD 2019)."""

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from siamtrack import files
from siamtrack.errors import UserError, nearest
from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.follows import FollowsOne
from siamtrack.evaluate.lockstep import one_pass_in_step
from siamtrack.evaluate.protocols import PROTOCOLS
from siamtrack.evaluate.results import Run, SequenceResult
from siamtrack.evaluate.scores import lower_is_better
from siamtrack.evaluate.sequences import Sequence
from siamtrack.runtimes.load import Runtime
from siamtrack.search.frames import FrameMemory, RememberedSequence
from siamtrack.search.space import Parameter, with_values
from siamtrack.search.workers import Stop
from siamtrack.tracker import Tracker
from siamtrack.tracking.config import TrackingConfig

SamplerName = Literal["tpe", "cmaes"]
IN_STEP = ("one-pass", "got10k")
"""Protocols that need boxes only and never start again, so that all sequences can run in one batch."""
_LOOK = 10  # frames of a sequence that show which figures a protocol gives
_PRUNING = 0.1  # p-value of the Wilcoxon test below which a trial is stopped
_NAME = "search"


@dataclass(frozen=True)
class Trackers:
    """Makes trackers in a worker: the network is loaded once, and shared by all parameters of tracking."""

    model: str
    device: str = "cpu"
    runtime: Runtime = "auto"
    threads: int | None = None

    def __call__(self, worker: int) -> Callable[[TrackingConfig], FollowsOne]:
        """Return the function from parameters of tracking to a tracker. Workers take the machine's GPUs in turn."""
        device = self.device
        if device == "cuda" and worker:
            import torch

            device = f"cuda:{worker % torch.cuda.device_count()}"
        return Tracker(self.model, device=device, runtime=self.runtime, threads=self.threads).with_tracking


@dataclass(frozen=True)
class Plan:
    """What is searched, and how; everything a worker needs, and picklable."""

    folder: Path
    dataset: Dataset
    """All sequences."""
    searched: tuple[str, ...]
    """The sequences that trials run, in their order."""
    held: tuple[str, ...]
    """The sequences that no trial sees."""
    protocol: str
    objective: str
    """The figure to raise, one of the protocol's."""
    parameters: tuple[Parameter, ...]
    tracking: TrackingConfig
    """The preset's own parameters, which the first trial runs with."""
    trackers: Callable[[int], Callable[[TrackingConfig], FollowsOne]]
    """From the worker's number to the function that makes its trackers; picklable."""
    sampler: SamplerName = "tpe"
    seed: int = 0
    trials: int = 100
    workers: int = 1
    batch: int = 1
    """Sequences that run in one batch, frame by frame, where the protocol is one of :data:`IN_STEP`."""
    memory: int = 2**31
    """Bytes of decoded frames that a worker keeps."""

    def sequences(self, names: tuple[str, ...]) -> list[Sequence]:
        """Return sequences by name."""
        by_name = {sequence.name: sequence for sequence in self.dataset.sequences}
        return [by_name[name] for name in names]

    def tuned(self, trial: FrozenTrial) -> dict[str, float]:
        """Return a trial's values with 4 significant digits: those that it ran with."""
        return {each.key: rounded(trial.params[each.key]) for each in self.parameters}


def rounded(value: float) -> float:
    """Return a number with 4 significant digits, a whole number as it is."""
    return value if isinstance(value, int) else float(f"{value:.4g}")


def split(dataset: Dataset, share: float, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the sequences to search on, shuffled, and of those that are held out.

    Sequences whose first frames are in one folder are of one video, and stay together.

    Args:
        dataset: what to split.
        share: of the videos that are held out, above 0 and below 1; at least one video is, and at least one is not.
        seed: decides which.

    Raises:
        UserError: the share is out of bounds, or there is but one video.
    """
    if not 0 < share < 1:
        raise UserError(f"--holdout {share:g}: expected a share above 0 and below 1")
    videos: dict[Path, list[str]] = {}
    for sequence in dataset.sequences:
        videos.setdefault(sequence.paths[0].parent, []).append(sequence.name)
    if len(videos) < 2:
        raise UserError(
            f"{len(dataset.sequences)} sequences of {len(videos)} video cannot be split into some to search on and "
            "some to hold out; give at least 2 videos, better 20"
        )
    rng = np.random.default_rng(seed)
    shuffled = [list(videos.values())[index] for index in rng.permutation(len(videos))]
    count = min(max(round(share * len(videos)), 1), len(videos) - 1)
    held = [name for names in shuffled[:count] for name in names]
    searched = [name for names in shuffled[count:] for name in names]
    return tuple(np.array(searched)[rng.permutation(len(searched))].tolist()), tuple(held)


def check_objective(plan: Plan, name: str | None, make: Callable[[TrackingConfig], FollowsOne]) -> str:
    """Return the figure called ``name``, or the protocol's first, after a look at a few frames.

    Raises:
        UserError: the protocol gives no such figure, or it is one to lower.
    """
    shortest = min(plan.dataset.sequences, key=len).first(_LOOK)
    results = run_sequences(plan, make(plan.tracking), [shortest])
    figures = [name for name in _mean(plan, [shortest], results) if not lower_is_better(name, plan.protocol)]
    if not figures:
        raise UserError(f"{plan.protocol} gives no figure on {plan.dataset.name}: no frame counts, so nothing can rise")
    if name is None:
        return figures[0]
    if name not in figures:
        raise UserError(
            f"unknown objective {name!r}{nearest(name, figures)}; {plan.protocol} gives {', '.join(figures)} to raise"
        )
    return name


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Create a study's folder, and hold it so that no other search works in it.

    Raises:
        UserError: another search works in it, or it cannot be created.
    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise UserError(f"cannot create {folder}: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(f"another search works in {folder}; wait for it, or choose another folder") from None
    finally:
        os.close(handle)


def prepare(plan: Plan, facts: Mapping[str, Any]) -> optuna.Study:
    """Return the study, created or as an earlier search left it.

    Trials that were under way when an earlier search was killed are given up. To be called by the one process that
    holds the folder (:func:`alone`), before any worker starts.

    Args:
        plan: the study.
        facts: what else must be the same when it goes on: model, data set's folder, and the like.

    Raises:
        UserError: the folder holds another study.
    """
    values = {
        **facts,
        "dataset": plan.dataset.name,
        "protocol": plan.protocol,
        "objective": plan.objective,
        "sampler": plan.sampler,
        "seed": plan.seed,
        "parameters": [str(parameter) for parameter in plan.parameters],
        "tracking": plan.tracking.model_dump(mode="json"),
        "searched": list(plan.searched),
        "held": list(plan.held),
    }
    path = plan.folder / "study.json"
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            before = {}
        different = sorted(key for key in before.keys() | values.keys() if before.get(key) != values.get(key))
        if different:
            key = different[0]
            raise UserError(
                f"{plan.folder} holds another study: {key} was {before.get(key)!r} and is {values.get(key)!r}; "
                "give the same settings to go on with it, or choose another folder"
            )
    else:
        files.write_text(path, json.dumps(values, indent=1) + "\n")
    study = _open(plan, create=True)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    kept = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.WAITING))
    if not any("own" in trial.user_attrs for trial in kept):
        own = {parameter.key: parameter.own for parameter in plan.parameters}
        study.enqueue_trial(own, user_attrs={"own": True})
    return study


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that have a value, in their order; those that were stopped early say so in ``user_attrs``."""
    trials: list[FrozenTrial] = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return trials


def own_trial(trials: list[FrozenTrial]) -> FrozenTrial:
    """Return the trial with the preset's own parameters."""
    return next(trial for trial in trials if "own" in trial.user_attrs)


def best_trial(trials: list[FrozenTrial]) -> FrozenTrial:
    """Return the trial with the highest value among those that ran to the end; the first of equals."""
    return max(
        (trial for trial in trials if "stopped_after" not in trial.user_attrs),
        key=lambda trial: float(trial.value or 0),
    )


def search(plan: Plan, worker: int, stop: Stop) -> None:
    """Run trials until the study has enough, with any number of workers beside.

    A worker alone gives the same study whether it was interrupted or not: each trial's sampler is seeded by the number
    of trials before it.

    Raises:
        UserError: a frame cannot be read, or the objective is not a number with the preset's own parameters.
    """
    study = _open(plan)
    make = plan.trackers(worker)
    memory = FrameMemory(plan.memory)
    sequences = [RememberedSequence.of(each, memory) for each in plan.sequences(plan.searched)]
    while not stop():
        before = _under_way(study, math.inf)
        if before >= plan.trials:
            return
        with quiet():
            study.sampler = _sampler(plan, [plan.seed, before, worker])
            trial = study.ask()
        ended = False
        try:
            # Others may have taken the last trials since the look above; the order in the journal decides.
            if _under_way(study, trial.number) < plan.trials:
                ended = _run_trial(plan, study, trial, make, sequences, stop)
        finally:
            if not ended:
                study.tell(trial, state=TrialState.FAIL)


def _run_trial(
    plan: Plan,
    study: optuna.Study,
    trial: optuna.Trial,
    make: Callable[[TrackingConfig], FollowsOne],
    sequences: list[RememberedSequence],
    stop: Stop,
) -> bool:
    """Track with the values that ``trial`` suggests; return False if it was told to stop."""
    values = {parameter.key: rounded(_suggest(trial, parameter)) for parameter in plan.parameters}
    tracker = make(with_values(plan.tracking, values))
    results: dict[str, SequenceResult] = {}
    alone: dict[int, float] = {}  # the objective of each sequence alone
    for start in range(0, len(sequences), plan.batch):
        if start:
            if stop():
                return False
            estimate = _hopeless(study, trial, alone)
            if estimate is not None:
                trial.set_user_attr("stopped_after", start)
                study.tell(trial, estimate)
                return True
        chunk = sequences[start : start + plan.batch]
        results |= run_sequences(plan, tracker, chunk)
        for number, sequence in enumerate(chunk, start):
            value = _mean(plan, [sequence], {sequence.name: results[sequence.name]})[plan.objective]
            if math.isfinite(value):
                alone[number] = value
                trial.report(value, number)
    value = _mean(plan, sequences, results)[plan.objective]
    if not math.isfinite(value):
        raise UserError(
            f"{plan.objective} of {plan.protocol} is not a number on the {len(sequences)} sequences that are searched "
            "on; choose another objective, or more and longer sequences"
        )
    study.tell(trial, value)
    return True


def _hopeless(study: optuna.Study, trial: optuna.Trial, alone: Mapping[int, float]) -> float | None:
    """Return what a trial would be worth at its end if the Wilcoxon test says that it is worse than the best.

    That is the best value less the mean loss on the sequences that both have run: below the best, so that a trial that
    was stopped never becomes it.
    """
    with quiet():
        if not trial.should_prune():
            return None
    best = study.best_trial
    shared = alone.keys() & best.intermediate_values.keys()
    loss = float(np.mean([best.intermediate_values[number] - alone[number] for number in shared]))
    return study.best_value - loss if loss > 0 else None


def run_sequences(plan: Plan, tracker: FollowsOne, sequences: list[Any]) -> dict[str, SequenceResult]:
    """Return what a tracker does on sequences, in one batch if the plan says so.

    Raises:
        UserError: a frame cannot be read.
    """
    if plan.batch > 1 and plan.protocol in IN_STEP and isinstance(tracker, Tracker):
        results: dict[str, SequenceResult] = {}
        for place, outcome in one_pass_in_step(tracker.core, sequences, lambda: None):
            if isinstance(outcome, UserError):
                raise outcome
            results[sequences[place].name] = outcome
        return results
    run = PROTOCOLS[plan.protocol].run
    return {sequence.name: run(tracker, sequence, lambda: None, None) for sequence in sequences}


def _mean(plan: Plan, sequences: list[Any], results: Mapping[str, SequenceResult]) -> Mapping[str, float]:
    """Return the protocol's figures over some sequences."""
    dataset = replace(plan.dataset, sequences=tuple(sequences))
    return PROTOCOLS[plan.protocol].score(dataset, Run(_NAME, dataset.name, plan.protocol, results, {})).mean


def values_of(plan: Plan, names: tuple[str, ...], results: Mapping[str, SequenceResult]) -> tuple[float, list[float]]:
    """Return the objective over sequences, and of each alone."""
    sequences = plan.sequences(names)
    each = [_mean(plan, [one], {one.name: results[one.name]})[plan.objective] for one in sequences]
    return _mean(plan, sequences, results)[plan.objective], each


def _suggest(trial: optuna.Trial, parameter: Parameter) -> float:
    if parameter.step:
        return trial.suggest_int(parameter.key, int(parameter.low), int(parameter.high), step=parameter.step)
    return trial.suggest_float(parameter.key, parameter.low, parameter.high, log=parameter.log)


def _under_way(study: optuna.Study, number: float) -> int:
    """Return how many trials with a lower number than ``number`` run or are finished."""
    states = (TrialState.RUNNING, TrialState.COMPLETE)
    return sum(trial.number < number for trial in study.get_trials(deepcopy=False, states=states))


def _sampler(plan: Plan, entropy: list[int]) -> optuna.samplers.BaseSampler:
    seed = int(np.random.default_rng(entropy).integers(2**31))
    if plan.sampler == "cmaes":
        own = {parameter.key: parameter.own for parameter in plan.parameters}
        return optuna.samplers.CmaEsSampler(x0=own, seed=seed, warn_independent_sampling=False)
    return optuna.samplers.TPESampler(multivariate=True, constant_liar=plan.workers > 1, seed=seed)


def _open(plan: Plan, create: bool = False) -> optuna.Study:
    """Return the study in the plan's folder."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = plan.folder / "journal.log"
    with quiet():
        pruner = optuna.pruners.WilcoxonPruner(p_threshold=_PRUNING)
        try:
            storage = JournalStorage(JournalFileBackend(str(path)))
            if create and not storage.get_all_studies():
                return optuna.create_study(study_name=_NAME, storage=storage, direction="maximize", pruner=pruner)
            return optuna.load_study(study_name=_NAME, storage=storage, pruner=pruner)
        except (ValueError, KeyError) as error:
            raise UserError(f"{path} is damaged ({error}); delete the folder and search again") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's notes that a part of it may still change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
