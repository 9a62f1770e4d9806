"""The processes of a run, one a device: alone, or as many as ``torchrun`` starts."""

import os
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from siamtrack.errors import UserError
from siamtrack.train.config import TrainConfig

_PATIENCE = timedelta(hours=1)  # how long processes wait for the first one, which validates and saves


def join_processes(device: str, config: TrainConfig, masks: bool) -> tuple[Accelerator, torch.device]:
    """Return what connects this process with the run's others, and the device that it computes on.

    Args:
        device: ``cpu``, ``cuda`` or, for a single process, ``cuda:N``.
        config: how to train.
        masks: whether the model has a mask branch.

    Raises:
        UserError: there are more processes than GPUs, or the batch cannot be shared out among the processes.
    """
    place = torch.device(device)
    together = "LOCAL_RANK" in os.environ  # as torchrun says
    if together and place.type == "cuda":
        here, gpus = processes_here(), torch.cuda.device_count()
        if ":" in device:
            raise UserError(f"--device {device} is for one process; with torchrun give --device cuda, a GPU a process")
        if here > gpus:
            raise UserError(
                f"torchrun started {here} processes on this machine, but torch sees {gpus} CUDA GPUs; "
                f"use --nproc-per-node {gpus} and, to share a batch out as before, --set train.accumulate=N"
            )
    if not torch.distributed.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)  # of an earlier run in this Python
    accelerator = Accelerator(
        cpu=place.type == "cpu",
        mixed_precision="bf16" if config.precision == "bf16" and place.type == "cuda" else "no",
        device_placement=False,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=_PATIENCE),
            DistributedDataParallelKwargs(
                broadcast_buffers=False,  # what is saved, and validated, are the statistics of the first process
                gradient_as_bucket_view=True,
                find_unused_parameters=not _all_parts_learn(config, masks),
            ),
        ],
    )
    if together:
        place = accelerator.device
    if place.type == "cuda":
        torch.cuda.set_device(place)
    parts = accelerator.num_processes * config.accumulate
    if config.batch % parts:
        raise UserError(
            f"train.batch {config.batch} cannot be shared out evenly: {accelerator.num_processes} processes x "
            f"train.accumulate {config.accumulate} are {parts} parts; use {-(-config.batch // parts) * parts}"
        )
    if config.sync_batch_norm and place.type == "cpu":
        raise UserError("train.sync_batch_norm works on CUDA GPUs only; train with --device cuda or without it")
    return accelerator, place


def processes_here() -> int:
    """Return how many of the run's processes this machine has, as torchrun says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def _all_parts_learn(config: TrainConfig, masks: bool) -> bool:
    """Return whether the loss reaches all weights that are trained, so that DDP need not look for others."""
    loss = config.loss
    boxes = loss.cls > 0 and (loss.loc > 0 or loss.giou > 0)
    return config.stage == "refine" or (boxes and (loss.mask > 0 or not masks))
