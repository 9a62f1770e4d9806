"""The recipe: how a network of the family is trained, to be read from top to bottom.

Sources: SiamRPN++, sections 3.1 and 4.1; SiamMask, section 4.1; DaSiamRPN, section 3.2 (negative pairs).
"""

import copy
import math
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from siamtrack.data.augment import Batch
from siamtrack.data.index import read_index
from siamtrack.data.loader import PairLoader
from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.models.siamese import SiameseRPN, check_network
from siamtrack.runtimes.torch_runtime import TorchNetwork, load_weights, save
from siamtrack.tracking.config import tracking_config
from siamtrack.tracking.core import TrackerCore
from siamtrack.train.checkpoint import load_checkpoint, save_checkpoint
from siamtrack.train.config import TrainConfig
from siamtrack.train.guard import Guard, statistics
from siamtrack.train.log import TrainLog
from siamtrack.train.memory import too_large
from siamtrack.train.objective import Objective
from siamtrack.train.pretrained import load_backbone
from siamtrack.train.processes import join_processes, processes_here
from siamtrack.train.replay import Replay
from siamtrack.train.schedule import head_parts, rate, set_frozen, trained_stages, trunk_is_trained
from siamtrack.train.summary import write_summary
from siamtrack.train.validation import Clip, held_clips, read_clips, validate


class Training:
    """One run in one folder, alone or as one of several processes.

    The folder receives ``checkpoint.pt``, ``last.safetensors``, ``best.safetensors`` (by validation), ``log.jsonl``,
    TensorBoard event files and, at the end, ``summary.html``; the first process writes them. If it holds a
    checkpoint, the run goes on from there, exactly.

    Args:
        preset: what to train; its ``train`` section says how.
        folder: created if need be.
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: data or preset cannot be used, the folder holds a run of another preset, or there are too few GPUs.
    """

    def __init__(self, preset: zoo.Preset, folder: Path, device: str) -> None:
        self.preset, self.folder = preset, folder
        self.config = config = preset.section("train", TrainConfig)
        self.tracking = tracking_config(preset)
        if not config.data.root:
            raise UserError(f"{preset.origin}: train.data.root is not set; add --set train.data.root=FOLDER")
        if config.stage == "refine" and not (preset.model.mask and config.start):
            raise UserError(
                "train.stage refine needs a model with masks and train.start, the weights of the first stage"
            )
        check_network(preset.model, preset.origin)
        self.accelerator, self.device = join_processes(device, config, preset.model.mask)
        self.main = self.accelerator.is_main_process
        # A step's batch is drawn in parts, one after the other in a process and side by side in several.
        self.parts = self.accelerator.num_processes * config.accumulate

        torch.manual_seed(config.seed)
        self.model = SiameseRPN(preset.model)
        if config.start:
            load_weights(self.model, Path(config.start), spare_mask=config.stage == "refine")
        elif config.pretrained:
            load_backbone(self.model.backbone, config.pretrained)
        if config.sync_batch_norm:
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)  # type: ignore[no-untyped-call]
        self.model.to(self.device)
        if config.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        if config.compile:
            self.model.compile()
        self.optimizer = make_optimizer(self.model, config)
        self.guard = Guard(self.device)
        self.generator = torch.Generator(self.device)

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
            batch=config.batch // self.parts,
            seed=config.seed,
            device=self.device,
            with_masks=preset.model.mask,
            canvas=config.data.canvas,
            cache=config.data.cache,
            folder=Path(config.data.cache_folder) if config.data.cache_folder else None,
            rank=self.accelerator.process_index,
            ranks=self.accelerator.num_processes,
            accumulate=config.accumulate,
            processes=processes_here(),
            workers=config.data.workers,
        )
        self.clips: dict[str, list[Clip]] = {}
        if self.main:  # the first process validates
            clips = {"sequences": read_clips(config.validation)}
            if len(held):
                clips["held"] = held_clips(held, config.data.canvas, config.seed)
            self.clips = {name: chosen for name, chosen in clips.items() if chosen}

        self.step, self.best = 0, -math.inf
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "checkpoint.pt").is_file():
            self._resume(load_checkpoint(folder / "checkpoint.pt"))
        self._begin_stage()

    def run(self, on_step: Callable[[int, dict[str, float]], bool] = lambda step, numbers: True) -> dict[str, float]:
        """Train to the end and return the latest numbers.

        Args:
            on_step: called with the number of finished steps and the latest numbers; when it returns False, the run
                is saved and ends. Several processes come to agree on that at the next line of the log.

        Raises:
            UserError: ``train.guard`` steps in a row were not finite, the batch does not fit into memory, or a file
                cannot be written; the last checkpoint stays.
        """
        config = self.config
        log = TrainLog(self.folder, self.step) if self.main else None
        numbers: dict[str, float] = {}
        sums = torch.zeros((), device=self.device)
        began, counted, wanted, going = perf_counter(), 0, True, True
        while self.step < config.steps and going:
            losses = self._train_step_in_memory()
            self.step += 1
            counted += 1
            sums = sums + torch.where(self.guard.bad > 0, 0, torch.stack(list(losses.values())))
            last = self.step == config.steps
            if self.step % config.log_every == 0 or last:
                means, all_wanted = self._means([*losses], sums, counted, wanted)  # waits for the device
                means["lr"] = rate(self.step - 1, config.steps, config.optimizer)
                means["pairs_per_second"] = counted * config.batch / (perf_counter() - began)
                if log:
                    log.write(self.step, "train", means)
                numbers |= means
                sums, counted, going, began = torch.zeros_like(sums), 0, all_wanted, perf_counter()
            paused = perf_counter()
            if self.step % config.validation.every == 0 or last:
                numbers |= self._validate(log)
            wanted &= on_step(self.step, numbers)
            if self.accelerator.num_processes == 1:
                going = wanted
            if last or not going:
                self._save()
            elif self.step % config.checkpoint_every == 0 and not self.guard.streak.item():
                self._save()  # not while it may be diverging
            began += perf_counter() - paused
        self.loader.close()
        if log:
            log.close()
            write_summary(self.folder, self.preset, str(self.device), self.parts)
        return numbers

    def _begin_stage(self) -> None:
        """Prepare for what is trained from this step on: the head, or from ``backbone_from`` on the trunk too."""
        self.trunk_is_trained = trunk_is_trained(self.step, self.config)
        set_frozen(self.model, self.step, self.config)
        with warnings.catch_warnings():  # DDP's option that takes its place is younger than torch 2.6
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")
            self.objective = self.accelerator.prepare_model(Objective(self.model, self.preset.model, self.config))
        self.descend = Replay(self._descend, self.model, self.generator) if self._replayed else self._descend
        self.guard.watch(self.model)
        averages = dict(self.average.named_parameters()) | dict(self.average.named_buffers())
        names = {value: name for name, value in (*self.model.named_parameters(), *self.model.named_buffers())}
        self.trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.averaged = [*self.trained, *statistics(self.model)]
        self.averages = [averages[names[value]] for value in self.averaged]

    def _train_step(self) -> dict[str, Tensor]:
        """Draw a batch, descend once, and return the losses and the norm of the gradient, of this process.

        Nothing here waits for the device.
        """
        config = self.config
        if trunk_is_trained(self.step, config) != self.trunk_is_trained:
            self.accelerator.free_memory()  # with the DDP that does not know of the trunk
            self._begin_stage()
        lr = rate(self.step, config.steps, config.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["share"]
        if not self._replayed:
            self.optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        for number in range(config.accumulate):
            batch = self._draw(number)
            last = number == config.accumulate - 1
            with nullcontext() if last else self.accelerator.no_sync(self.objective):
                losses = self.descend(batch)
            total = total + torch.stack(list(losses.values())).detach()
        norm = nn.utils.clip_grad_norm_(self.trained, config.optimizer.clip)
        self.optimizer.found_inf = self.guard.judge(norm)  # type: ignore[attr-defined]
        self.optimizer.step()
        self._update_average()
        return dict(zip([*losses, "gradient"], [*(total / config.accumulate), norm], strict=True))

    def _descend(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the losses of ``batch`` and add their gradient to the weights'."""
        losses = self.objective(batch, self.generator)
        # A loss that is not finite makes its gradient so, and averaging carries that to all processes.
        share = torch.where(losses["loss"].isfinite(), 1 / self.config.accumulate, math.nan)
        self.accelerator.backward(losses["loss"], gradient=share)
        return {name: value.detach() for name, value in losses.items()}

    @property
    def _replayed(self) -> bool:
        """Whether a step's kernels are recorded once and replayed: on a GPU, with the whole batch at once."""
        return self.device.type == "cuda" and self.parts == 1 and not self.config.compile

    def _draw(self, number: int) -> Batch:
        """Return part ``number`` of this process's share of the batch, and seed what draws its anchors.

        All that is random depends on the seed, the step and which part of the whole batch it is: 2 processes draw what
        one does that accumulates 2 parts.
        """
        part = number * self.accelerator.num_processes + self.accelerator.process_index
        origin = np.random.SeedSequence([self.config.seed, self.step, part, 1])
        self.generator.manual_seed(int(origin.generate_state(1, np.uint64)[0] >> 1))
        return self.loader.batch(self.step * self.config.accumulate + number)

    def _train_step_in_memory(self) -> dict[str, Tensor]:
        """Return what :meth:`_train_step` does.

        Raises:
            UserError: memory is too small for the batch; it says what would fit.
        """
        try:
            return self._train_step()
        except torch.OutOfMemoryError:
            self.optimizer.zero_grad()
        config = self.config
        raise UserError(
            too_large(config.batch // self.parts, config.batch, config.accumulate, self.device, self._try_pairs)
        )

    def _try_pairs(self, count: int) -> None:
        """Compute the gradient of ``count`` pairs, in this process alone, for nothing but its need of memory."""
        whole = self.loader.batch(0)
        batch = Batch(*(getattr(whole, field.name)[:count] for field in fields(whole)))
        objective = self.accelerator.unwrap_model(self.objective)
        torch.autograd.grad(objective(batch, self.generator)["loss"], self.trained, allow_unused=True)

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the averaged weights towards the trained ones; faster at the start, where they are still bad."""
        decay = min(self.config.average, (1 + self.step) / (10 + self.step)) if self.config.average else 0.0
        torch._foreach_lerp_(self.averages, self.averaged, 1 - decay)

    def _means(self, names: list[str], sums: Tensor, counted: int, wanted: bool) -> tuple[dict[str, float], bool]:
        """Return the means over processes and the last ``counted`` steps, and whether all processes want to go on.

        Shape: sums as ``names``, over the steps that were not skipped.

        Raises:
            UserError: too many steps in a row were not finite.
        """
        ours = torch.stack([*sums, self.guard.skipped, self.guard.longest, sums.new_tensor(wanted)])
        *values, skipped, longest, wanting = self.accelerator.reduce(ours, "mean").tolist()
        self.guard.restart_count()
        if longest >= self.config.guard:
            raise UserError(
                f"training diverged: up to step {self.step}, {longest:.0f} steps in a row had a loss or gradient that "
                f"is not finite; try a lower train.optimizer.lr (what was saved before was kept)"
            )
        taken = counted - skipped
        means = {name: value / taken for name, value in zip(names, values, strict=True)} if taken else {}
        return {**means, "skipped": skipped}, wanting == 1

    def _validate(self, log: TrainLog | None) -> dict[str, float]:
        """Track with the averaged weights, log how well that went, and keep the best; the other processes wait."""
        numbers = self._track(log) if log else {}
        self.accelerator.wait_for_everyone()
        return numbers

    def _track(self, log: TrainLog) -> dict[str, float]:
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
        if not self.main:
            return
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
        # These may change: where files are, how the run is watched, and how it computes the same.
        movable = ("train.data.root", "train.data.cache", "train.data.workers", "train.start", "train.pretrained",
                   "train.validation.", "train.log_every", "train.checkpoint_every", "train.guard", "train.compile",
                   "train.channels_last", "train.accumulate")  # fmt: skip
        kept = {key: value for key, value in flat.items() if not key.startswith(movable)}
        return {**kept, "processes x train.accumulate": str(self.parts)}


def make_optimizer(model: SiameseRPN, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer of all weights that are ever trained, the trunk's with their own share of the rate.

    It is one kernel a step, which leaves everything as it is where ``found_inf`` is 1.
    """
    settings = config.optimizer
    trunk = [p for stage in trained_stages(model, settings) for p in stage.parameters()]
    rest = [p for part in head_parts(model) for p in part.parameters()]
    groups = [{"params": trunk, "share": settings.backbone_lr}, {"params": rest, "share": 1.0}]
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, settings.lr, weight_decay=settings.weight_decay, fused=True)
    sgd = torch.optim.SGD(groups, settings.lr, settings.momentum, weight_decay=settings.weight_decay, fused=True)
    if settings.momentum:  # torch would leave them without a value where the first step is skipped
        for weight in (*trunk, *rest):
            sgd.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    return sgd
