"""What all figures share: the sequences, the networks trained for them, and their scores."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from siamtrack.analysis.clips import Clip, OffCentreCore, success
from siamtrack.errors import UserError
from siamtrack.files import write_text
from siamtrack.models import zoo
from siamtrack.models.siamese import SiameseRPN
from siamtrack.runtimes import torch_runtime
from siamtrack.runtimes.torch_runtime import TorchNetwork
from siamtrack.tracking.config import tracking_config
from siamtrack.tracking.core import TrackerCore
from siamtrack.train.loop import Training

T = TypeVar("T")
Tracking = Literal["plain", "no-window", "off-centre"]
"""``plain``: with the preset's parameters. ``no-window``: without the cosine window, which is a preference for the
centre made by hand. ``off-centre``: without it, and with the search region moved in each frame."""

Watch = Callable[[int], bool]
"""Told how much is done; answers whether to go on."""


class Stopped(Exception):
    """The person pressed Ctrl-C; what was finished is kept."""


@contextmanager
def unwatched(title: str, total: int) -> Iterator[Watch]:
    """Yield a watch that shows nothing and never stops."""
    yield lambda done: True


@dataclass(frozen=True)
class Trained:
    """A network and the preset that it was made by."""

    name: str
    model: SiameseRPN
    preset: zoo.Preset


@dataclass
class Experiment:
    """The settings of a command, and what its figures have in common."""

    out: Path
    """Folder of figures, numbers and page; trained networks are kept in ``runs`` below it."""
    clips: list[Clip]
    data: Path | None = None
    """Folder of training data; not needed where every network is trained already."""
    preset: str = zoo.DEFAULT
    """What is trained: a name, or a preset's file."""
    model: str = zoo.DEFAULT
    """The trained model that is looked into: a name, or a .safetensors file."""
    settings: tuple[str, ...] = ()
    """``key=value`` over the preset's."""
    device: str = "cpu"
    steps: int = 300
    seeds: int = 1
    shifts: tuple[int, ...] = (0, 16, 32, 64)
    """Values of train.sampling.search.shift, in pixels of the search region."""
    train: bool = False
    """Whether `layers` trains a network for each choice of levels."""
    categories: dict[str, str] = field(default_factory=dict)
    """Category of each sequence; empty: by the words of its name."""
    watched: Callable[[str, int], AbstractContextManager[Watch]] = unwatched
    """Shows the progress of something with a title and a number of parts."""
    _scores: dict[tuple[str, Tracking], float] = field(default_factory=dict)

    def each(self, title: str, items: Sequence[T]) -> Iterator[T]:
        """Yield ``items`` and show how many are done.

        Raises:
            Stopped: the person stopped it.
        """
        with self.watched(title, len(items)) as watch:
            for done, item in enumerate(items, 1):
                yield item
                if not watch(done):
                    raise Stopped

    def train_model(self, name: str, *settings: str, seed: int = 0) -> Trained:
        """Return the network of the preset with ``settings``, trained; read from ``runs`` if it was trained before.

        Raises:
            UserError: there are no training data, or the run of this name has other settings.
            Stopped: the person stopped it; the run is kept and goes on next time.
        """
        folder = self.out / "runs" / f"{name}-seed-{seed}"
        mine = [
            f"train.optimizer.warmup_steps={self.steps // 10}",
            f"train.validation.every={self.steps}",
            "train.checkpoint_every=200",
            *self.settings,
            *settings,
            f"train.steps={self.steps}",
            f"train.seed={seed}",
        ]
        facts = {"preset": self.preset, "settings": mine}
        record, weights = folder / "analysis.json", folder / "last.safetensors"
        if record.is_file() and weights.is_file():
            _same(json.loads(record.read_text(encoding="utf-8")), facts, folder)
        else:
            self._train(zoo.load(self.preset, mine), folder)
            write_text(record, json.dumps(facts, indent=1) + "\n")
            for finished in ("checkpoint.pt", "best.safetensors"):  # the last weights are the ones compared
                (folder / finished).unlink(missing_ok=True)
        model, preset = torch_runtime.load(weights)
        return Trained(folder.name, model, preset)

    def _train(self, preset: zoo.Preset, folder: Path) -> None:
        if self.data is None:
            raise UserError(f"{folder} is not trained yet; give --data, the folder of training data")
        values = {**preset.values, "train": {**preset.values.get("train", {})}}
        values["train"]["data"] = {**values["train"].get("data", {}), "root": str(self.data)}
        training = Training(zoo.Preset(preset.name, values, preset.origin), folder, self.device)
        with self.watched(folder.name, self.steps) as watch:
            training.run(lambda step, numbers: watch(step))
        if training.step < self.steps:
            raise Stopped
        del training
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()  # the next run brings pictures of its own

    def chosen_model(self) -> Trained:
        """Return the trained model that is looked into.

        Raises:
            UserError: no such model, no weights, or a file of another kind.
        """
        path = Path(self.model)
        if path.suffix != ".safetensors":
            shipped = zoo.weights(zoo.load(self.model).name, ".safetensors")
            if shipped is None:
                raise UserError(f"the weights of {self.model} are not in the package; give a .safetensors file")
            path = shipped
        model, preset = torch_runtime.load(path)
        return Trained(self.model, model, preset)

    def network(self, trained: Trained) -> TorchNetwork:
        """Return the network of ``trained`` on the device."""
        return TorchNetwork(trained.model, self.device)

    def auc(self, trained: Trained, tracking: Tracking = "plain") -> float:
        """Return the mean success AUC of ``trained`` over the sequences; measured once for each name."""
        if (trained.name, tracking) not in self._scores:
            over = {} if tracking == "plain" else {"window_influence": 0.0}
            kind = OffCentreCore if tracking == "off-centre" else TrackerCore
            core = kind(self.network(trained), trained.preset.model, tracking_config(trained.preset, over))
            self._scores[trained.name, tracking] = success(core, self.clips)
        return self._scores[trained.name, tracking]


def _same(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    if before != now:
        raise UserError(
            f"{folder} was trained with other settings ({_shown(before, now)}; now: {_shown(now, before)}); "
            "use the same ones or another --out"
        )


def _shown(these: Mapping[str, Any], those: Mapping[str, Any]) -> str:
    """Return what is in ``these`` only."""
    if these["preset"] != those["preset"]:
        return f"preset {these['preset']}"
    return ", ".join(each for each in these["settings"] if each not in those["settings"]) or "the preset's own"
