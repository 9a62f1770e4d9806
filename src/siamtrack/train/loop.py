"""The recipe: how a SiamRPN++ is trained, to be read from top to bottom (SiamRPN++, sections 3.1 and 4.1)."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from siamtrack.data.augment import Augmenter, Batch
from siamtrack.data.index import read_index
from siamtrack.data.pack import load_pack
from siamtrack.data.pairs import PairSampler
from siamtrack.data.targets import assign
from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.models.losses import LossConfig, classification_loss, overlaps, regression_loss
from siamtrack.models.siamese import SiameseRPN, build
from siamtrack.runtimes.torch_runtime import TorchNetwork, save
from siamtrack.tracking.anchors import anchor_grid
from siamtrack.tracking.decode import decode
from siamtrack.tracking.shortterm import ShortTerm, TrackingConfig
from siamtrack.train.checkpoint import load_checkpoint, save_checkpoint
from siamtrack.train.config import OptimizerConfig, TrainConfig
from siamtrack.train.log import TrainLog
from siamtrack.train.schedule import rate, set_frozen, trained_stages
from siamtrack.train.validation import held_clips, read_clips, validate


class Training:
    """One run in one folder.

    The folder receives ``checkpoint.pt``, ``last.safetensors``, ``best.safetensors`` (by validation), ``log.jsonl``
    and TensorBoard event files. If it holds a checkpoint, the run goes on from there, exactly.

    Args:
        preset: what to train; its ``train`` section says how.
        folder: created if need be.
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: data or preset cannot be used, or the folder holds a run of another preset.
    """

    def __init__(self, preset: zoo.Preset, folder: Path, device: str) -> None:
        self.preset, self.folder, self.device = preset, folder, torch.device(device)
        self.config = config = preset.section("train", TrainConfig)
        self.tracking = preset.section("tracking", TrackingConfig)
        if not config.data.root:
            raise UserError(f"{preset.origin}: train.data.root is not set; add --set train.data.root=FOLDER")
        torch.manual_seed(config.seed)
        self.model = build(preset.model)
        if config.pretrained:
            self.model.backbone.load_imagenet()
        self.model.to(self.device)

        index = read_index(Path(config.data.root))
        index, held = index.split(config.data.holdout)
        pack = load_pack(index, config.data.canvas, device)
        sizes = preset.model.template_size, preset.model.search_size
        self.index = index
        self.sampler = PairSampler(index, config.sampling, preset.model.template_size)
        self.augmenter = Augmenter(index, pack, *sizes)
        cells = preset.model.response_cells(preset.model.search_size)
        self.anchors = torch.from_numpy(anchor_grid(preset.model.anchors, cells)).float().to(self.device)
        self.clips = {"sequences": read_clips(config.validation)}
        if len(held):
            self.clips["held"] = held_clips(held, load_pack(held, config.data.canvas, "cpu"), config.seed)
        self.clips = {name: clips for name, clips in self.clips.items() if clips}

        self.optimizer = make_optimizer(self.model, config.optimizer)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.step, self.best = 0, -math.inf
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "checkpoint.pt").is_file():
            self._resume(load_checkpoint(folder / "checkpoint.pt"))

    def run(self, on_step: Callable[[int, dict[str, float]], None] = lambda step, numbers: None) -> dict[str, float]:
        """Train to the end and return the last validation's numbers.

        Args:
            on_step: called with the number of finished steps and the latest numbers.
        """
        config, log = self.config, TrainLog(self.folder, self.step)
        numbers: dict[str, float] = {}
        sums: dict[str, Tensor] = {}
        began, counted = perf_counter(), 0
        while self.step < config.steps:
            losses = self._train_step()
            self.step += 1
            counted += 1
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value
            if self.step % config.log_every == 0 or self.step == config.steps:
                means = {name: value.item() / counted for name, value in sums.items()}  # waits for the device
                means["lr"] = rate(self.step - 1, config.steps, config.optimizer)
                means["pairs_per_second"] = counted * config.batch / (perf_counter() - began)
                log.write(self.step, "train", means)
                numbers |= means
                sums, counted, began = {}, 0, perf_counter()
            if self.step % config.validation.every == 0 or self.step == config.steps:
                paused = perf_counter()
                numbers |= self._validate(log)
                began += perf_counter() - paused
            if self.step % config.checkpoint_every == 0 or self.step == config.steps:
                paused = perf_counter()
                self._save()
                began += perf_counter() - paused
            on_step(self.step, numbers)
        log.close()
        return numbers

    def _train_step(self) -> dict[str, Tensor]:
        """Draw a batch, descend once, and return the losses. All that is random depends on seed and step."""
        config = self.config
        pairs = self.sampler.draw(np.random.default_rng([config.seed, self.step]), config.batch)
        batch = self.augmenter.batch(pairs)
        generator = torch.Generator(self.device).manual_seed((config.seed << 32) + self.step)

        set_frozen(self.model, self.step, config.steps, config.optimizer)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            cls, loc = self.model(batch.template, batch.search)
        losses = self._losses(cls, loc, batch, generator)

        lr = rate(self.step, config.steps, config.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["share"]
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(losses["loss"])
        losses["gradient"] = nn.utils.clip_grad_norm_(self.model.parameters(), config.optimizer.clip)
        self.optimizer.step()
        self._update_average()
        return {name: value.detach() for name, value in losses.items()}

    @property
    def _bf16(self) -> bool:
        return self.config.precision == "bf16" and self.device.type == "cuda"

    def _losses(self, cls: Tensor, loc: Tensor, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the parts of the loss and their weighted sum as ``loss``."""
        weights: LossConfig = self.config.loss
        stride = self.preset.model.anchors.stride
        boxes, scores = decode(cls.float(), loc.float(), self.anchors)
        target = assign(
            batch.box, batch.negative, self.anchors, stride, scores.detach(), self.config.targets, generator
        )
        iou, giou = overlaps(boxes, batch.box)  # [B, N]
        wanted = iou.detach() if weights.quality else torch.ones_like(iou)
        losses = {
            "cls": classification_loss(cls, target.label, wanted),
            "loc": regression_loss(loc, target.offset, target.weight, weights.regression),
            "giou": ((1 - giou) * target.weight).sum() / len(giou),
            # Not a loss: the mean overlap of the positives' boxes.
            "iou": (iou.detach() * target.weight).sum() / (target.weight.sum(1) > 0).sum().clamp(min=1),
        }
        losses["loss"] = sum(
            getattr(weights, name) * losses[name] for name in ("cls", "loc", "giou") if getattr(weights, name)
        )
        return losses

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the averaged weights towards the trained ones; faster at the start, where they are still bad."""
        decay = min(self.config.average, (1 + self.step) / (10 + self.step)) if self.config.average else 0.0
        ours, theirs = self.average.state_dict().values(), self.model.state_dict().values()
        floating = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floating], [b for _, b in floating], 1 - decay)

    def _validate(self, log: TrainLog) -> dict[str, float]:
        """Track with the averaged weights, log how well that went, and keep the best."""
        core = ShortTerm(TorchNetwork(self.average, str(self.device)), self.preset.model, self.tracking)
        numbers = {
            f"{name}_{key}": value
            for name, clips in self.clips.items()
            for key, value in validate(core, clips).items()
        }
        if numbers:
            log.write(self.step, "validation", numbers)
        # Held-out tracks decide where there are any: the sequences are for development.
        standing = numbers.get("held_auc", numbers.get("sequences_auc", float(self.step)))
        if standing > self.best:
            self.best = standing
            save(self.folder / "best.safetensors", self.average, self.preset)
        return numbers

    def _save(self) -> None:
        save(self.folder / "last.safetensors", self.average, self.preset)
        values = {
            "step": self.step,
            "best": self.best,
            "preset": self._fingerprint(),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_checkpoint(self.folder / "checkpoint.pt", values)

    def _resume(self, values: dict[str, Any]) -> None:
        now, then = self._fingerprint(), values["preset"]
        different = sorted(key for key in now.keys() | then.keys() if now.get(key) != then.get(key))
        if different:
            detail = ", ".join(f"{key} was {then.get(key)} and is {now.get(key)}" for key in different)
            raise UserError(
                f"{self.folder} holds a run of another preset: {detail}; use the same one or another folder"
            )
        self.model.load_state_dict(values["model"])
        self.average.load_state_dict(values["average"])
        self.optimizer.load_state_dict(values["optimizer"])
        self.step, self.best = values["step"], values["best"]

    def _fingerprint(self) -> dict[str, str]:
        """Return the settings that may not change within a run, flat: key to value as text."""
        sections = {"model": self.preset.model, "tracking": self.tracking, "train": self.config}
        flat: dict[str, str] = {}

        def flatten(prefix: str, values: dict[str, Any]) -> None:
            for key, value in values.items():
                if isinstance(value, dict):
                    flatten(f"{prefix}{key}.", value)
                else:
                    flat[prefix + key] = str(value)

        for name, section in sections.items():
            flatten(f"{name}.", section.model_dump())
        # These may change: where files are, and how often the run is watched.
        movable = (
            "train.data.root",
            "train.validation.sequences",
            "train.log_every",
            "train.checkpoint_every",
        )
        return {key: value for key, value in flat.items() if key not in movable}


def make_optimizer(model: SiameseRPN, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the optimizer of all weights that are ever trained, the trunk's with their own share of the rate."""
    trunk = [p for stage in trained_stages(model, config) for p in stage.parameters()]
    rest = [p for name, p in model.named_parameters() if not name.startswith("backbone.")]
    groups = [{"params": trunk, "share": config.backbone_lr}, {"params": rest, "share": 1.0}]
    if config.name == "sgd":
        return torch.optim.SGD(groups, config.lr, config.momentum, weight_decay=config.weight_decay)
    return torch.optim.AdamW(groups, config.lr, weight_decay=config.weight_decay)
