"""``siamtrack benchmark``: how long a frame takes, in parts, with many targets, against the roof and OpenCV."""

import json
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, get_args

import cv2
import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from siamtrack.benchmark.measure import Row, usable
from siamtrack.benchmark.run import Plan, Report, gpu, processor, run
from siamtrack.benchmark.scene import SIZE, make_scene, read_scene, typical
from siamtrack.cli.options import Device, Threads
from siamtrack.cli.progress import progress_bar
from siamtrack.errors import UserError, nearest
from siamtrack.evaluate import opencv
from siamtrack.files import atomic, write_text
from siamtrack.models import zoo
from siamtrack.runtimes.load import Runtime, check_runtime

_MOST = 4096  # targets
_HEADS = [
    "model", "runtime", "targets", "median", "95 %", "upload", "crop", "network", "boxes", "rest", "targets/s", "ratio",
    "further", "GMAC", "of peak", "MiB",
]  # fmt: skip


def benchmark(
    models: Annotated[
        list[str] | None, typer.Argument(help=f"Names of models or files; {zoo.DEFAULT} if none is given.")
    ] = None,
    runtime: Annotated[
        list[str] | None, typer.Option("--runtime", help=f"{', '.join(get_args(Runtime))}; repeat to compare.")
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
    targets: Annotated[str, typer.Option("--targets", help="Numbers of targets, as 1,2,4,8.")] = "1",
    against: Annotated[
        list[str] | None,
        typer.Option("--against", help=f"opencv (all that it has), or {', '.join(opencv.NAMES)}; repeat."),
    ] = None,
    video: Annotated[
        Path | None, typer.Option("--video", help="A video to follow things in; 1280x720 made up if not given.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=1000, help="Turns that each row has.")] = 5,
    updates: Annotated[int, typer.Option("--updates", min=1, max=10_000, help="Updates timed in a turn.")] = 10,
    pipelined: Annotated[
        bool, typer.Option("--pipelined", help="Time a GPU's graph with answers that come a frame late as well.")
    ] = False,
    memory: Annotated[bool, typer.Option(help="Measure memory, each model in a process of its own.")] = True,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for benchmark.json, benchmark.svg and benchmark.png.")
    ] = None,
) -> None:
    """Time models and runtimes in turn, on the same frames; every row has its ratio to the first.

    Models whose weights are not in the package run with random ones.
    """
    plan = Plan(
        models=models or [zoo.DEFAULT],
        runtimes=[check_runtime(name) for name in runtime or ["auto"]],
        device=device,
        threads=threads,
        targets=_counts(targets),
        others=_others(against or []),
        rounds=rounds,
        updates=updates,
        memory=memory,
        pipelined=pipelined,
    )
    if out:
        _prepare(out)
    before = cv2.getNumThreads()
    if threads:
        cv2.setNumThreads(threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            length = updates * 2 + 2
            scene = read_scene(video, length) if video else make_scene(place, length, SIZE)
            if len(scene.frames) < 2:
                raise UserError(f"{video} has {len(scene.frames)} frame; give a video of two or more")
            with progress_bar("timing", None, "turns") as display:
                task = display.task_ids[0]
                report = run(plan, scene, place, lambda total: display.update(task, total=total, advance=1))
    finally:
        cv2.setNumThreads(before)
    _show(report)
    if out:
        write_text(out / "benchmark.json", json.dumps(report.to_json(), indent=1) + "\n")
        _plot(report.rows, out)


def _show(report: Report) -> None:
    console = Console(highlight=False, width=None if Console().is_terminal else 160)
    height, width = report.scene.frames[0].shape[:2]
    threads = f", {report.threads} thread{'s' * (report.threads > 1)}"
    console.print(
        escape(f"{processor()}{threads}; {gpu(report.plan.device) or 'no GPU'}; {report.scene.name} {width}x{height}")
    )
    console.print(f"decoding of the video: {typical(report.decode):.2f} ms a frame")
    for precision, peaks in report.peak.items():
        peak = ", ".join(f"{value:.0f} GMAC/s ({kind})" for kind, value in peaks.items())
        console.print(escape(f"peak of {report.plan.device} in {precision}: {peak or 'not known without torch'}"))
    rows = []
    for row in report.rows:
        label = row.label
        start = [escape(label.model), label.runtime, str(label.targets)]
        if row.problem:
            console.print(f"{label.model}: {row.problem}")
            rows.append(start + [""] * (len(_HEADS) - len(start)))
            continue
        parts = [f"{1000 * value:.2f}" if value else "" for value in row.parts] if row.parts else [""] * 5
        gmac, share, further = report.gmac_of(label), report.roof_share(row), report.further(row)
        memory = report.memory_of(label)
        rows.append([
            *start,
            f"{1000 * row.median:.2f}",
            f"{1000 * row.slowest:.2f}",
            *parts,
            f"{row.targets_a_second:.1f}",
            f"{row.faster_than(report.reference):.2f}",
            "" if further is None else f"{further:.1%}",
            f"{gmac:.2f}" if gmac else "",
            f"{share:.0%}" if share else "",
            " + ".join(f"{value:.0f}" for value in memory if value is not None) if memory else "",
        ])  # fmt: skip
    filled = [place for place in range(len(_HEADS)) if place < 5 or any(row[place] for row in rows)]
    table = Table(
        *(Column(_HEADS[place], justify="left" if place < 2 else "right") for place in filled), box=box.SIMPLE
    )
    for cells in rows:
        table.add_row(*(cells[place] for place in filled))
    console.print(table)
    first = report.reference.label
    console.print(
        f"Times are milliseconds an update of all targets. Ratio: how many times faster for each target than "
        f"{escape(first.model)} with {first.runtime} and {first.targets} target{'s' * (first.targets > 1)}, "
        f"median of the rounds."
    )
    if report.made_up:
        console.print(f"Random weights: {', '.join(dict.fromkeys(report.made_up))}.")


def _plot(rows: list[Row], out: Path) -> None:
    if not find_spec("matplotlib"):
        print("no picture: that needs matplotlib; pip install 'siamtrack[report]'")
        return
    from siamtrack.benchmark.plot import draw

    for kind in ("svg", "png"):
        with atomic(out / f"benchmark.{kind}") as temporary:
            temporary.write_bytes(draw(usable(rows), kind))


def _counts(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= _MOST for part in parts):
        raise UserError(f"--targets {text}: expected numbers from 1 to {_MOST} with commas between them, such as 1,2,4")
    return tuple(sorted({int(part) for part in parts}))


def _others(names: list[str]) -> tuple[str, ...]:
    chosen = []
    for name in names:
        if name == "opencv":
            chosen += [each for each, kind in opencv.NAMES.items() if hasattr(cv2, kind)]
        elif name in opencv.NAMES:
            chosen.append(name)
        else:
            known = ["opencv", *opencv.NAMES]
            raise UserError(f"--against {name}{nearest(name, known)}; expected one of {', '.join(known)}")
    return tuple(dict.fromkeys(chosen))


def _prepare(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give the name of a folder")
    out.mkdir(parents=True, exist_ok=True)
