"""A whole benchmark: models, runtimes and numbers of targets timed in turn, beside OpenCV, the roof and memory."""

import platform
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from siamtrack.benchmark.contenders import Contender, Label, OpenCV, Ours
from siamtrack.benchmark.measure import Row, time_in_turn, usable
from siamtrack.benchmark.memory import Memory, peak_memory
from siamtrack.benchmark.roof import packed_gmac, peak_gmac, search_gmac
from siamtrack.benchmark.scene import Scene, typical
from siamtrack.benchmark.weights import open_tracker
from siamtrack.errors import UserError
from siamtrack.runtimes.load import GRAPHS, Runtime
from siamtrack.version import __version__
from siamtrack.workers import cores


@dataclass(frozen=True)
class Plan:
    """What is timed, and how."""

    models: list[str]
    """Names or files."""
    runtimes: list[Runtime]
    device: str = "cpu"
    threads: int | None = None
    targets: tuple[int, ...] = (1,)
    """Numbers of targets."""
    others: tuple[str, ...] = ()
    """OpenCV's trackers, of :data:`siamtrack.evaluate.opencv.NAMES`."""
    rounds: int = 5
    updates: int = 10
    """Timed in each round."""
    memory: bool = True
    pipelined: bool = False
    """Time a GPU's graph with answers that come a frame late as well."""


class Report:
    """What was measured, and of what."""

    def __init__(self, plan: Plan, scene: Scene) -> None:
        self.plan, self.scene = plan, scene
        self.rows: list[Row] = []
        self.decode: list[float] = []
        """Seconds a frame."""
        self.threads = plan.threads or cores()
        self.peak: dict[str, dict[str, float]] = {}
        """GMAC a second, by precision and what reached it."""
        self.gmac: dict[tuple[str, str], float | None] = {}
        """By model and runtime."""
        self.memory: dict[tuple[str, str], dict[int, Memory]] = {}
        """By model and runtime, and number of targets."""
        self.made_up: list[str] = []
        """Models with random weights."""

    @property
    def reference(self) -> Row:
        """The row that all are compared with: the first."""
        return usable(self.rows)[0]

    def roof_share(self, row: Row) -> float | None:
        """Return which share of the peak the network's part reaches; None where that is not known."""
        gmac, parts, peak = self.gmac_of(row.label), row.parts, self.peak.get(row.label.precision)
        seconds = parts.network if parts else row.median
        return gmac * row.label.targets / seconds / max(peak.values()) if gmac and peak else None

    def further(self, row: Row) -> float | None:
        """Return which share of one target's time each further one adds; None where one alone was not timed."""
        for single in usable(self.rows):
            if row.label.targets > 1 and single.label == replace(row.label, targets=1):
                return row.further(single)
        return None

    def gmac_of(self, label: Label) -> float | None:
        """Return the billions of operations of a search crop; None if that is not known."""
        return self.gmac.get((label.model, label.runtime))

    def memory_of(self, label: Label) -> Memory | None:
        """Return the memory that was needed; None if it was not measured."""
        return self.memory.get((label.model, label.runtime), {}).get(label.targets)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values; times in milliseconds, memory in MiB."""
        return {
            "siamtrack": __version__,
            "machine": {"processor": processor(), "gpu": gpu(self.plan.device), "python": platform.python_version()},
            "device": self.plan.device,
            "threads": self.threads,
            "scene": {"name": self.scene.name, "size": self.scene.frames[0].shape[1::-1]},
            "decode_ms": typical(self.decode),
            "peak_gmac_per_second": self.peak,
            "reference": asdict(self.reference.label),
            "rows": [self._row(row) for row in self.rows],
        }

    def _row(self, row: Row) -> dict[str, Any]:
        values: dict[str, Any] = {**asdict(row.label), "random_weights": row.label.model in self.made_up}
        if row.problem:
            return {**values, "problem": row.problem}
        memory = self.memory_of(row.label)
        return values | {
            "median_ms": 1000 * row.median,
            "p95_ms": 1000 * row.slowest,
            "parts_ms": {name: 1000 * value for name, value in row.parts._asdict().items()} if row.parts else None,
            "targets_per_second": row.targets_a_second,
            "ratio_to_reference": row.faster_than(self.reference),
            "further_target_share": self.further(row),
            "gmac": self.gmac_of(row.label),
            "share_of_peak": self.roof_share(row),
            "memory_mib": memory._asdict() if memory else None,
        }


def run(plan: Plan, scene: Scene, folder: Path, on_turn: Callable[[int], None] = lambda _: None) -> Report:
    """Time everything in the plan.

    Args:
        plan: what.
        scene: the frames.
        folder: for the files of made-up weights.
        on_turn: called after each turn with the number of all turns.

    Raises:
        UserError: a model cannot be loaded, or nothing fits into memory.
    """
    report = Report(plan, scene)
    contenders: list[Contender] = []
    asked: dict[tuple[str, str], tuple[str, Runtime]] = {}
    for name in plan.models:
        for runtime in plan.runtimes:
            tracker, made_up = open_tracker(name, runtime, plan.device, plan.threads, folder)
            if (name, tracker.runtime) in asked:  # as auto, and by its name
                continue
            asked[name, tracker.runtime] = (name, runtime)
            report.made_up += [name] if made_up else []
            late = plan.pipelined and tracker.runtime in GRAPHS
            ours = [
                Ours(tracker, name, plan.device, count, _wait(plan.device), pipelined=pipelined)
                for pipelined in ((False, True) if late else (False,))
                for count in plan.targets
            ]
            packed = (tracker.runtime, plan.device) == ("torch", "cpu")
            core = cast(Any, tracker.core)
            gmac = packed_gmac(core.network.model, tracker.preset) if packed else search_gmac(tracker.preset)
            report.gmac |= {(name, each.label.runtime): gmac for each in ours}
            contenders += ours
    contenders += [OpenCV(name, count) for name in plan.others for count in plan.targets]
    precisions = {contender.label.precision for contender in contenders if isinstance(contender, Ours)}
    report.peak = {each: peak_gmac(plan.device, each, plan.threads) for each in sorted(precisions)}
    turns = (plan.rounds + 1) * len(contenders)
    report.rows = time_in_turn(contenders, scene, plan.rounds, plan.updates, lambda: on_turn(turns))
    if not usable(report.rows):
        raise UserError(f"nothing could be timed: {report.rows[0].problem}; give fewer targets")
    report.decode = [scene.decode() for _ in range(plan.rounds)]
    for precision, peak in report.peak.items():
        for kind, again in peak_gmac(plan.device, precision, plan.threads).items():
            peak[kind] = max(peak[kind], again)
    if plan.memory:
        height, width = scene.frames[0].shape[:2]
        for key, (name, runtime) in asked.items():
            size = (width, height)
            report.memory[key] = peak_memory(name, runtime, plan.device, plan.threads, folder, size, plan.targets)
    return report


def _wait(device: str) -> Any:
    """Return what waits until a GPU has done its work; None for a CPU, which does it at once."""
    if device == "cpu" or not find_spec("torch"):
        return None
    import torch

    return lambda: torch.cuda.synchronize(device)


def processor() -> str:
    """Return the processor's name."""
    information = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", information.read_text()) if information.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def gpu(device: str) -> str | None:
    """Return the name of the GPU; None for a CPU."""
    if device == "cpu" or not find_spec("torch"):
        return None
    import torch

    name: str = torch.cuda.get_device_name(device)
    return name
