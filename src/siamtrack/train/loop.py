"""The recipe: how a network of the family is trained, to be read from top to bottom.

Sources: SiamRPN++, sections 3.1 and 4.1; SiamMask, section 4.1; DaSiamRPN, section 3.2 (negative pairs).
"""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from siamtrack.data.augment import Batch
from siamtrack.data.index import read_index
from siamtrack.data.loader import PairLoader
from siamtrack.data.targets import Targets, assign
from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.models.losses import classification_loss, mask_loss, overlaps, regression_loss
from siamtrack.models.mask import MaskBranch, cut_targets
from siamtrack.models.prediction import Prediction
from siamtrack.models.siamese import SiameseRPN, check_network
from siamtrack.runtimes.torch_runtime import TorchNetwork, load_weights, save
from siamtrack.tracking.anchors import anchor_grid
from siamtrack.tracking.config import tracking_config
from siamtrack.tracking.core import TrackerCore
from siamtrack.tracking.decode import decode
from siamtrack.train.checkpoint import load_checkpoint, save_checkpoint
from siamtrack.train.config import TrainConfig
from siamtrack.train.log import TrainLog
from siamtrack.train.pretrained import load_backbone
from siamtrack.train.schedule import head_parts, rate, set_frozen, trained_stages
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
        self.tracking = tracking_config(preset)
        if not config.data.root:
            raise UserError(f"{preset.origin}: train.data.root is not set; add --set train.data.root=FOLDER")
        if config.stage == "refine" and not (preset.model.mask and config.start):
            raise UserError(
                "train.stage refine needs a model with masks and train.start, the weights of the first stage"
            )
        check_network(preset.model, preset.origin)
        torch.manual_seed(config.seed)
        self.model = SiameseRPN(preset.model)
        if config.start:
            load_weights(self.model, Path(config.start))
        elif config.pretrained:
            load_backbone(self.model.backbone, config.pretrained)
        self.model.to(self.device)

        index, held = read_index(Path(config.data.root)).split(config.data.holdout)
        if not len(index):
            raise UserError("train.data.holdout leaves nothing to train on")
        if config.stage == "refine" and (not config.loss.mask or not any(index.mask)):
            lacking = "train.loss.mask above 0" if not config.loss.mask else "training data with masks"
            raise UserError(f"train.stage refine learns from masks alone and needs {lacking}")
        self.index = index
        sizes = preset.model.template_size, preset.model.search_size
        self.loader = PairLoader(
            index,
            config.sampling,
            *sizes,
            batch=config.batch,
            seed=config.seed,
            device=self.device,
            with_masks=preset.model.mask,
            canvas=config.data.canvas,
            cache=config.data.cache,
            folder=Path(config.data.cache_folder) if config.data.cache_folder else None,
            workers=config.data.workers,
        )
        self.cells = preset.model.response_cells(sizes[1])
        self.anchors = torch.from_numpy(anchor_grid(preset.model.anchors, self.cells)).float().to(self.device)
        self.clips = {"sequences": read_clips(config.validation)}
        if len(held):
            self.clips["held"] = held_clips(held, config.data.canvas, config.seed)
        self.clips = {name: clips for name, clips in self.clips.items() if clips}

        self.optimizer = make_optimizer(self.model, config)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.step, self.best = 0, -math.inf
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "checkpoint.pt").is_file():
            self._resume(load_checkpoint(folder / "checkpoint.pt"))

    def run(self, on_step: Callable[[int, dict[str, float]], bool] = lambda step, numbers: True) -> dict[str, float]:
        """Train to the end and return the latest numbers.

        Args:
            on_step: called with the number of finished steps and the latest numbers; when it returns False, the run
                is saved and ends.

        Raises:
            UserError: the loss is not finite any more; the last checkpoint stays.
        """
        config, log = self.config, TrainLog(self.folder, self.step)
        numbers: dict[str, float] = {}
        sums: dict[str, Tensor] = {}
        began, counted, going = perf_counter(), 0, True
        while self.step < config.steps and going:
            losses = self._train_step()
            self.step += 1
            counted += 1
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value
            last = self.step == config.steps
            if self.step % config.log_every == 0 or last:
                means = {name: value.item() / counted for name, value in sums.items()}  # waits for the device
                if not math.isfinite(means["loss"]):
                    raise UserError(
                        f"training diverged before step {self.step}: the loss is {means['loss']}; "
                        "try a lower train.optimizer.lr (the last checkpoint was kept)"
                    )
                means["lr"] = rate(self.step - 1, config.steps, config.optimizer)
                means["pairs_per_second"] = counted * config.batch / (perf_counter() - began)
                log.write(self.step, "train", means)
                numbers |= means
                sums, counted, began = {}, 0, perf_counter()
            paused = perf_counter()
            if self.step % config.validation.every == 0 or last:
                numbers |= self._validate(log)
            going = on_step(self.step, numbers)
            if self.step % config.checkpoint_every == 0 or last or not going:
                self._save()
            began += perf_counter() - paused
        log.close()
        return numbers

    def _train_step(self) -> dict[str, Tensor]:
        """Draw a batch, descend once, and return the losses. All that is random depends on seed and step."""
        config = self.config
        batch = self.loader.batch(self.step)
        generator = torch.Generator(self.device).manual_seed((config.seed << 32) + self.step)

        set_frozen(self.model, self.step, config)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            prediction = self.model(batch.template, batch.search)
            losses = self._losses(prediction, batch, generator)

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

    def _losses(self, prediction: Prediction, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the parts of the loss, and as ``loss`` their weighted sum."""
        weights, stride = self.config.loss, self.preset.model.anchors.stride
        cls, loc = prediction.cls.float(), prediction.loc.float()
        boxes, scores = decode(cls, loc, self.anchors)
        target = assign(
            batch.box, batch.negative, self.anchors, stride, scores.detach(), self.config.targets, generator
        )
        iou, giou = overlaps(boxes, batch.box)  # [B, N]
        wanted = iou.detach() if weights.quality else torch.ones_like(iou)
        losses = {
            "cls": classification_loss(cls, target.label, wanted),
            "loc": regression_loss(loc, target.offset, target.weight, weights.regression),
            "giou": ((1 - giou) * target.weight).sum() / len(giou),
        }
        if self.model.mask:
            losses["mask"] = self._mask_loss(self.model.mask, prediction, batch, target, generator)
        counted = {"mask"} if self.config.stage == "refine" else losses.keys()
        parts = [getattr(weights, name) * losses[name] for name in counted if getattr(weights, name)]
        losses["loss"] = torch.stack(parts).sum()
        # Not a loss: the mean overlap of the positives' boxes.
        losses["iou"] = (iou.detach() * target.weight).sum() / (target.weight.sum(1) > 0).sum().clamp(min=1)
        return losses

    def _mask_loss(
        self, branch: MaskBranch, prediction: Prediction, batch: Batch, target: Targets, generator: torch.Generator
    ) -> Tensor:
        """Return the loss of masks at cells with a positive anchor, of objects that have a mask."""
        config, model = self.config, self.preset.model
        positive = (target.label == 1).view(len(batch.box), -1, self.cells, self.cells).any(1)  # [B, m, m]
        places = (positive & batch.has_mask[:, None, None]).nonzero()  # [K, 3]
        most = config.masks_per_pair * config.batch
        order = torch.randperm(len(places), generator=generator, device=self.device)[:most]
        owner, row, column = places[order].T
        if config.stage == "refine":
            logits = branch.draw(prediction.context, owner, row, column)
        else:
            logits = branch.coarse(prediction.context[0], owner, row, column)
        return mask_loss(logits, cut_targets(batch.mask, owner, row, column, self.cells, model.anchors.stride))

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the averaged weights towards the trained ones; faster at the start, where they are still bad."""
        decay = min(self.config.average, (1 + self.step) / (10 + self.step)) if self.config.average else 0.0
        ours, theirs = self.average.state_dict().values(), self.model.state_dict().values()
        floating = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floating], [b for _, b in floating], 1 - decay)

    def _validate(self, log: TrainLog) -> dict[str, float]:
        """Track with the averaged weights, log how well that went, and keep the best."""
        core = TrackerCore(TorchNetwork(self.average, str(self.device)), self.preset.model, self.tracking)
        numbers = {
            f"{name}_{key}": value for name, clips in self.clips.items() for key, value in validate(core, clips).items()
        }
        if numbers:
            log.write(self.step, "validation", numbers)
        # Held-out tracks decide where there are any: the sequences are for development.
        standing = numbers.get("held_auc", numbers.get("sequences_auc"))
        if standing is None or standing > self.best:
            self.best = self.best if standing is None else standing
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
        # These may change: where files are, and how the run is watched.
        movable = ("train.data.root", "train.data.cache", "train.data.workers", "train.start", "train.pretrained",
                   "train.validation.", "train.log_every", "train.checkpoint_every")  # fmt: skip
        return {key: value for key, value in flat.items() if not key.startswith(movable)}


def make_optimizer(model: SiameseRPN, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer of all weights that are ever trained, the trunk's with their own share of the rate."""
    settings = config.optimizer
    trunk = [p for stage in trained_stages(model, settings) for p in stage.parameters()]
    rest = [p for part in head_parts(model) for p in part.parameters()]
    groups = [{"params": trunk, "share": settings.backbone_lr}, {"params": rest, "share": 1.0}]
    if settings.name == "sgd":
        return torch.optim.SGD(groups, settings.lr, settings.momentum, weight_decay=settings.weight_decay)
    return torch.optim.AdamW(groups, settings.lr, weight_decay=settings.weight_decay)
