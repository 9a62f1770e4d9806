"""Where other tools keep the results of a sequence."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from siamtrack.errors import UserError

EXPERIMENTS = ("baseline", "longterm", "unsupervised", "realtime", "multistart")
"""Folders between tracker and sequences in the VOT toolkit's and PySOT's results; the first that is there is read."""
FORMATS = {
    "pysot": "SEQUENCE.txt, EXPERIMENT/SEQUENCE/SEQUENCE_001.txt or SEQUENCE/SEQUENCE_001.txt",
    "got10k": "SEQUENCE/SEQUENCE_001.txt or SEQUENCE.txt",
    "vot": "EXPERIMENT/SEQUENCE/SEQUENCE_001.txt (or .bin)",
}
"""The tools by name, and what a tracker's folder holds."""


@dataclass(frozen=True)
class Layout:
    """The result files of a tracker."""

    folder: Path
    experiment: str | None
    """The folder between tracker and sequences; None where there is none."""
    files: dict[str, tuple[Path, ...]]
    """Sequence, as the files call it, to a file a repetition or start."""

    def find(self, name: str) -> tuple[Path, ...]:
        """Return the files of a sequence, empty if there are none.

        Where the exact name is missing, case does not count, nor which of ``-``, ``_`` and ``.`` separates: PySOT's
        results of OTB's Jogging-1 are often in ``jogging_1.txt``.

        Raises:
            UserError: several other names would do.
        """
        if name in self.files:
            return self.files[name]
        alike = [other for other in self.files if _plain(other) == _plain(name)]
        if len(alike) > 1:
            raise UserError(f"{self.folder} has results called {alike[0]} and {alike[1]} for sequence {name}; keep one")
        return self.files[alike[0]] if alike else ()


def find_layout(folder: Path, names: Iterable[str], form: str | None, experiment: str | None) -> Layout | None:
    """Return how results of sequences are laid out in a tracker's folder, None if there are none.

    Args:
        folder: the tracker's folder.
        names: the sequences' names.
        form: a key of :data:`FORMATS`; None for whichever fits.
        experiment: the one that is wanted; None for the first of :data:`EXPERIMENTS` that is there.
    """
    wanted = list(names)
    experiments = [experiment] if experiment else list(EXPERIMENTS)
    found = [Layout(folder / each, each, _nested(folder / each)) for each in experiments]
    if experiment is None and form != "vot":
        found += [Layout(folder, None, _flat(folder)), Layout(folder, None, _nested(folder))]
    if form == "got10k" and experiment is None:
        found = [layout for layout in found if layout.experiment is None]
    return next((layout for layout in found if any(map(layout.find, wanted))), None)


def _flat(folder: Path) -> dict[str, tuple[Path, ...]]:
    return {path.stem: (path,) for path in sorted(folder.glob("*.txt")) if not path.stem.endswith("_time")}


def _nested(folder: Path) -> dict[str, tuple[Path, ...]]:
    found = {}
    for inner in sorted(folder.iterdir()) if folder.is_dir() else []:
        if inner.is_dir():
            pattern = re.compile(re.escape(inner.name) + r"_(\d{3}|\d{8})\.(txt|bin)")
            paths = tuple(path for path in sorted(inner.iterdir()) if pattern.fullmatch(path.name))
            both = [path for path in paths if path.suffix == ".bin" and path.with_suffix(".txt") in paths]
            if both:
                raise UserError(f"there are both {both[0]} and {both[0].with_suffix('.txt').name}; keep one")
            if paths:
                found[inner.name] = paths
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_. ]+", "_", name).lower()
