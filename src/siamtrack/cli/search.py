"""``siamtrack search``: tune the parameters of tracking."""

import math
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Column, Table

from siamtrack.cli import options
from siamtrack.cli.interrupt import until_interrupted
from siamtrack.cli.progress import progress_bar
from siamtrack.config import override
from siamtrack.errors import UserError, nearest
from siamtrack.evaluate.protocols import PROTOCOLS
from siamtrack.models import zoo
from siamtrack.runtimes.load import load_network
from siamtrack.search.frames import decoded_size
from siamtrack.search.space import settings as settings_of
from siamtrack.search.workers import run_on_cluster, run_workers
from siamtrack.tracker import Tracker
from siamtrack.tracking.config import tracking_config
from siamtrack.version import __version__
from siamtrack.workers import cores

if TYPE_CHECKING:
    from siamtrack.search.outcome import Outcome
    from siamtrack.search.study import Plan
    from siamtrack.search.workers import Stop, Task

_GIB = 2**30
_CHANCE = 0.05  # p-value of the Wilcoxon test from which a gain may be chance
_LOCK_STEP = 16  # sequences in a batch on a GPU


def search(
    preset: Annotated[str, typer.Argument(help="Name of a model, a weight file, or a preset's .yaml file.")],
    dataset: Annotated[str, typer.Option("--dataset", help="Name of a data set, or a folder of sequences.")],
    root: Annotated[
        Path | None, typer.Option("--root", help="Folder that the data set of that name was unpacked to.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Where the weights are, for a preset that comes without.")
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option("--objective", help="Figure to raise: auc, eao, f ... (default: the protocol's first)."),
    ] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", help="(default: the data set's).")] = None,
    trials: Annotated[int, typer.Option("--trials", min=2, help="Trials in all, the first with its own values.")] = 100,
    sampler: Annotated[Literal["tpe", "cmaes"], typer.Option("--sampler", help="How values are chosen.")] = "tpe",
    workers: Annotated[int, typer.Option("--workers", min=1, max=1024, help="Processes that run trials.")] = 1,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Address of a Ray cluster on which the workers run.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the study (default: searches/NAME); it can be gone on with.")
    ] = None,
    holdout: Annotated[
        float, typer.Option("--holdout", help="Share of the videos that are not searched on, to test the result.")
    ] = 0.3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Decides the split and the trials.")] = 0,
    only: Annotated[
        list[str] | None, typer.Option("--sequence", help="Only this sequence; repeat for several.")
    ] = None,
    frames: Annotated[int | None, typer.Option("--frames", min=2, help="At most so many frames of a sequence.")] = None,
    memory: Annotated[
        float, typer.Option("--memory", min=0, help="GiB of decoded frames that the workers of a machine may keep.")
    ] = 4.0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value over the preset's, e.g. search.search_size=null; repeat."),
    ] = None,
    runtime: options.RuntimeName = "auto",
    device: options.Device = "cpu",
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, max=1024, help="Threads of a worker; its share of the cores if not given."),
    ] = None,
) -> None:
    """Search the parameters of tracking that raise a figure on a data set.

    Each trial tracks whole sequences with values out of the preset's search section. A share of the videos is held out,
    and the best values are compared with the preset's own on these, so that over-fitting shows. The same command on the
    same folder goes on with a study that was stopped, or adds trials; Ctrl-C keeps it.
    """
    missing = [name for name in ("optuna", "cmaes", "scipy", "matplotlib") if not find_spec(name)]
    if missing:
        raise UserError(f"the search needs {', '.join(missing)}; pip install 'siamtrack[search]'")
    from siamtrack.search import outcome, space, study

    # Absolute, because the workers of a cluster start in folders of their own.
    place = (root or Path(dataset)).absolute()
    data = options.read_data(dataset, root, tuple(only or ()), frames)
    chosen = protocol or data.protocol
    if chosen not in PROTOCOLS:
        raise UserError(f"unknown protocol {chosen!r}{nearest(chosen, PROTOCOLS)}; known are {', '.join(PROTOCOLS)}")
    loaded, weights = _preset(preset, model, settings or [])
    share = threads or max(cores() // (1 if cluster else workers), 1)
    tracker = Tracker(weights, device=device, runtime=runtime, threads=share)
    if tracker.preset.model != loaded.model:
        raise UserError(f"{weights} is another network than {preset} describes; give weights that fit")
    tracking = tracking_config(loaded)
    config = loaded.section("search", space.SearchConfig)
    parameters = space.parameters(config, tracking, loaded.model)
    if sampler == "cmaes" and len(parameters) < 2:
        raise UserError(f"--sampler cmaes needs 2 parameters or more, here is {parameters[0].key} alone; take tpe")
    searched, held = study.split(data, holdout, seed)
    plan = study.Plan(
        folder=(out or Path("searches") / loaded.name).absolute(),
        dataset=data,
        searched=searched,
        held=held,
        protocol=chosen,
        objective="",
        parameters=parameters,
        tracking=tracking,
        trackers=study.Trackers(weights, device, runtime, share),
        sampler=sampler,
        seed=seed,
        trials=trials,
        workers=workers,
        batch=1 if device == "cpu" else _LOCK_STEP,
        memory=int(memory * _GIB / workers),
    )
    plan = replace(plan, objective=study.check_objective(plan, objective, tracker.with_tracking))
    print(
        f"searching {', '.join(map(str, parameters))} of {loaded.name} for {plan.objective} ({chosen}) on "
        f"{len(searched)} sequences of {data.name}, {len(held)} held out"
    )
    needed = decoded_size(plan.sequences(searched)) * workers
    if needed > memory * _GIB:
        print(
            f"the decoded frames need {needed / _GIB:.1f} GiB in {workers} workers, more than --memory {memory:g}: "
            f"{1 - memory * _GIB / needed:.0%} of them are decoded again in each trial"
        )
    facts: dict[str, Any] = {
        "model": weights,
        "root": str(place),
        "frames": frames,
        "device": device,
        "version": __version__,
    }
    identity = {
        **facts,
        "preset": loaded.name,
        "sha256": zoo.sha256(Path(weights)) if Path(weights).is_file() else None,
        "runtime": runtime,
    }
    with study.alone(plan.folder):
        opened = study.prepare(plan, identity)
        began = len(study.finished(opened))
        with (
            progress_bar(plan.objective, trials, "trials") as bar,
            until_interrupted() as interrupted,
        ):

            def run(task: "Task", watch: "Stop") -> None:
                if cluster:
                    run_on_cluster(task, plan.folder, workers, watch, cluster, share, device != "cpu")
                else:
                    run_workers(task, plan.folder, workers, watch)

            def show() -> bool:
                so_far = study.finished(opened)
                best = f"{plan.objective} {study.best_trial(so_far).value:.4f}" if so_far else plan.objective
                bar.update(bar.task_ids[0], completed=len(so_far), description=best)
                return interrupted()

            if began < trials:
                run(partial(study.search, plan), show)
            if not interrupted():
                runs = outcome.write_held_runs(plan, study.finished(opened), {**facts, "threads": share})
                run(partial(outcome.track_held, plan, runs), interrupted)
            if interrupted():
                print(f"stopped after {len(study.finished(opened))} trials; the same command goes on from there")
                raise typer.Exit(130)
        done = study.finished(opened)
        found = outcome.conclude(plan, done)
        written = outcome.write_outcome(plan, done, found, loaded, weights)
    _print(plan, found, began)
    print("wrote " + ", ".join(map(str, written)))


def _preset(name: str, model: str | None, settings: list[str]) -> tuple[zoo.Preset, str]:
    """Return what is searched, and where its weights are."""
    is_preset = name.endswith((".yaml", ".yml")) or name in zoo.names()
    if is_preset and name not in zoo.names() and not model:
        raise UserError(f"{name} is a preset without weights; say where they are with --model")
    if not is_preset and model:
        raise UserError(f"{name} holds weights, and so does --model {model}; give a preset with --model")
    weights = model or name
    if Path(weights).is_file():
        weights = str(Path(weights).absolute())
    if is_preset:
        return zoo.load(name, settings), weights
    _, preset = load_network(weights)
    return zoo.Preset(preset.name, override(preset.values, settings), preset.origin), weights


def _print(plan: "Plan", found: "Outcome", began: int) -> None:
    """Print the gain, and what to do with it."""
    went_on = f" (went on from {began})" if began else ""
    print(f"{found.trials} trials{went_on}, {found.stopped} of them stopped early; the best is trial {found.trial}")
    columns = ("sequences", "own", "best", "gain", "better", "worse", "p")
    table = Table(*(Column(each, justify="right", no_wrap=True) for each in (plan.objective, *columns)), box=box.SIMPLE)
    for name, gain in (("searched on", found.searched), ("held out", found.held)):
        p = "" if math.isnan(gain.p) else f"{gain.p:.3f}"
        values = (gain.own, ".4f"), (gain.best, ".4f"), (gain.best - gain.own, "+.4f")
        numbers = ("" if math.isnan(value) else format(value, form) for value, form in values)
        table.add_row(name, str(gain.sequences), *numbers, str(gain.better), str(gain.worse), p)
    Console().print(table)
    if found.best == {parameter.key: parameter.own for parameter in plan.parameters}:
        print("no trial was better than the preset's own values")
        return
    gain = found.held
    if math.isnan(gain.best - gain.own):
        print(
            f"{plan.objective} is not a number on the {gain.sequences} sequences that were not searched on, so whether "
            "the gain carries over is not known; hold out more and longer ones"
        )
    elif gain.best <= gain.own:
        print("the gain does not carry over to sequences that were not searched on: the search over-fitted")
    elif not gain.p < _CHANCE:
        print("the gain on sequences that were not searched on may be chance; hold out more of them to know")
    print(" ".join(f"--set {setting}" for setting in settings_of(found.best)))
