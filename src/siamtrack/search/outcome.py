"""What a study found: the gain on sequences that were not searched on, the best preset, the importance plot."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import scipy.stats
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial

from siamtrack import files
from siamtrack.config import override
from siamtrack.errors import UserError
from siamtrack.evaluate.results import read_run, sequence_file, write_run, write_sequence
from siamtrack.models.zoo import Preset
from siamtrack.runtimes.load import load_module
from siamtrack.search.space import settings, with_values
from siamtrack.search.study import Plan, best_trial, own_trial, quiet, run_sequences, values_of
from siamtrack.search.workers import Stop


@dataclass(frozen=True)
class Gain:
    """The best parameters against the preset's own, over some sequences."""

    sequences: int
    own: float
    """The objective with the preset's own parameters; NaN if it is not a number on these sequences."""
    best: float
    """The objective with the best parameters."""
    better: int
    """Sequences whose value rose."""
    worse: int
    """Sequences whose value fell."""
    p: float
    """Two-sided p-value of the Wilcoxon signed-rank test, a difference a video; NaN if there is nothing to compare."""


@dataclass(frozen=True)
class Outcome:
    """What a study found."""

    best: dict[str, float]
    """The best trial's parameters, by :attr:`~siamtrack.search.space.Parameter.key`."""
    trial: int
    """The best trial's number; that of the preset's own parameters if none was better."""
    trials: int
    stopped: int
    """Trials that the Wilcoxon test stopped before their last sequence."""
    searched: Gain
    """On the sequences that were searched on: how well the best of many fits them, so always too good."""
    held: Gain
    """On those that were not."""
    importance: dict[str, float]
    """Share of each parameter, the largest first; empty if there are too few trials to tell."""


def write_held_runs(plan: Plan, trials: list[FrozenTrial], facts: Mapping[str, Any]) -> dict[Path, dict[str, float]]:
    """Create the run folders of the preset's own and the best parameters on the held-out sequences.

    Returns:
        The folders and what is tracked with in each.

    Raises:
        UserError: a folder cannot be written.
    """
    runs = {}
    for name, trial in (("own", own_trial(trials)), ("best", best_trial(trials))):
        folder = plan.folder / "runs" / f"trial-{trial.number}"
        values = plan.tuned(trial)
        more = {"only": list(plan.held), "settings": settings(values), "realtime": None}
        if folder not in runs:
            write_run(folder, name, plan.dataset.name, plan.protocol, {**facts, **more})
        runs[folder] = values
    return runs


def track_held(plan: Plan, runs: Mapping[Path, Mapping[str, float]], worker: int, stop: Stop) -> None:
    """Track a worker's share of what is not yet in the folders of :func:`write_held_runs`.

    Raises:
        UserError: a frame cannot be read, or a result not be written.
    """
    chunks = [plan.held[start : start + plan.batch] for start in range(0, len(plan.held), plan.batch)]
    tasks = [(folder, names) for names in chunks for folder in runs]
    make = plan.trackers(worker)
    for folder, names in tasks[worker :: plan.workers]:
        missing = [name for name in names if not sequence_file(folder, name).is_file()]
        if stop():
            return
        if missing:
            tracker = make(with_values(plan.tracking, runs[folder]))
            for name, result in run_sequences(plan, tracker, plan.sequences(tuple(missing))).items():
                write_sequence(folder, name, result)


def conclude(plan: Plan, trials: list[FrozenTrial]) -> Outcome:
    """Compare the best parameters with the preset's own; needs the runs of :func:`track_held`.

    Raises:
        UserError: a run's folder is damaged.
    """
    own, best = own_trial(trials), best_trial(trials)
    held = [
        values_of(plan, plan.held, read_run(plan.folder / "runs" / f"trial-{trial.number}").results)
        for trial in (own, best)
    ]
    searched = [
        (float(trial.value or 0), [trial.intermediate_values.get(i, math.nan) for i in range(len(plan.searched))])
        for trial in (own, best)
    ]
    return Outcome(
        best=plan.tuned(best),
        trial=best.number,
        trials=len(trials),
        stopped=sum("stopped_after" in trial.user_attrs for trial in trials),
        searched=_gain(plan, plan.searched, *searched),
        held=_gain(plan, plan.held, *held),
        importance=_importance(plan, trials),
    )


def _gain(plan: Plan, names: tuple[str, ...], own: tuple[float, list[float]], best: tuple[float, list[float]]) -> Gain:
    differences = np.array(best[1]) - np.array(own[1])
    videos: dict[Path, list[float]] = {}  # objects of one video are no independent observations
    for sequence, difference in zip(plan.sequences(names), differences.tolist(), strict=True):
        if math.isfinite(difference):
            videos.setdefault(sequence.paths[0].parent, []).append(difference)
    means = np.array([np.mean(each) for each in videos.values()])
    p = float(scipy.stats.wilcoxon(means, zero_method="zsplit").pvalue) if np.any(means) else math.nan
    return Gain(len(names), own[0], best[0], int((differences > 0).sum()), int((differences < 0).sum()), p)


def _importance(plan: Plan, trials: list[FrozenTrial]) -> dict[str, float]:
    """Return each parameter's share by PED-ANOVA (Watanabe et al., IJCAI 2023).

    It asks which parameters set the best trials apart from all: at least 5 of them, or a tenth.
    """
    if len(trials) < 4:
        return {}
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    with quiet():
        evaluator = PedAnovaImportanceEvaluator(target_quantile=min(max(0.1, 5 / len(trials)), 0.5))
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: float(share) for key, share in shares.items()}


def write_outcome(plan: Plan, trials: list[FrozenTrial], outcome: Outcome, preset: Preset, model: str) -> list[Path]:
    """Write result.json, best.yaml (the preset), importance.png and, where there is PyTorch, best.safetensors.

    Args:
        plan: the study.
        trials: those that are finished.
        outcome: what it found.
        preset: what was searched.
        model: name or file of the weights.

    Raises:
        UserError: a file cannot be written.
    """
    folder = plan.folder
    result, best, plot = folder / "result.json", folder / "best.yaml", folder / "importance.png"
    values = asdict(outcome)
    for side in ("searched", "held"):
        values[side] = {key: None if math.isnan(value) else value for key, value in values[side].items()}
    files.write_text(result, json.dumps({"objective": plan.objective, **values}, indent=1) + "\n")
    tuned = Preset(preset.name, override(preset.values, settings(outcome.best)), str(best))
    note = "".join(
        f"# {plan.objective} on {gain.sequences} sequences {what}: {gain.best:.4f}, with its own {gain.own:.4f}\n"
        for what, gain in (("searched on", outcome.searched), ("held out", outcome.held))
    )
    text = yaml.safe_dump(dict(tuned.values), sort_keys=False, allow_unicode=True)
    files.write_text(best, f"# Found by siamtrack search in {outcome.trials} trials.\n{note}{text}")
    plot_importance(plan, trials, outcome, plot)
    written = [best, plot, result]
    if find_spec("torch") and find_spec("safetensors"):
        weights = _write_weights(folder / "best.safetensors", model, tuned)
        written += [weights] if weights else []
    return written


def _write_weights(path: Path, model: str, preset: Preset) -> Path | None:
    """Write the model's weights with another preset; None if there are only ONNX graphs of it."""
    from siamtrack.runtimes.torch_runtime import save

    try:
        network, _ = load_module(model)
    except UserError:
        return None
    save(path, network, preset)
    return path


def plot_importance(plan: Plan, trials: list[FrozenTrial], outcome: Outcome, path: Path) -> None:
    """Draw the parameters' importance, and beside it the objective over each parameter, as a PNG file.

    Raises:
        UserError: the file cannot be written.
    """
    keys = list(outcome.importance) or [parameter.key for parameter in plan.parameters]
    columns = len(keys) + 1
    figure = Figure(figsize=(3.2 * columns, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns)
    bars = axes[0]
    if outcome.importance:
        shares = [outcome.importance[key] for key in keys]
        bars.barh(keys[::-1], shares[::-1], color="tab:blue")
        for place, share in enumerate(shares[::-1]):
            bars.annotate(f"{share:.2f}", (share, place), (3, 0), textcoords="offset points", va="center")
        bars.set_xlim(0, max([1e-9, *shares]) * 1.2)
    else:
        bars.text(0.5, 0.5, "too few trials to tell", ha="center", va="center", transform=bars.transAxes)
        bars.set_yticks([])
    bars.set_title(f"importance (PED-ANOVA, {outcome.trials} trials)", fontsize=9)
    whole = [trial for trial in trials if "stopped_after" not in trial.user_attrs]
    early = [trial for trial in trials if "stopped_after" in trial.user_attrs]
    own, best = own_trial(trials), best_trial(trials)
    parameters = {parameter.key: parameter for parameter in plan.parameters}
    for number, (key, axis) in enumerate(zip(keys, axes[1:], strict=True)):
        for group, style, label in (
            (whole, {"color": "tab:blue"}, "all sequences"),
            (early, {"facecolors": "none", "edgecolors": "tab:gray"}, "stopped early (estimate)"),
            ([own], {"color": "black", "marker": "s"}, "the preset's own"),
            ([best], {"color": "tab:red", "marker": "*", "s": 90}, "best"),
        ):
            points = [trial.params[key] for trial in group], [trial.value for trial in group]
            axis.scatter(*points, label=label, **{"s": 20, **style})
        axis.set_xlabel(key)
        if parameters[key].log:
            axis.set_xscale("log")
        if number == 0:
            axis.set_ylabel(f"{plan.objective}, sequences searched on")
            figure.legend(loc="outside lower right", ncols=4, fontsize=8)
        else:
            axis.sharey(axes[1])
            axis.tick_params(labelleft=False)
    with files.atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)
