"""Learning rates and freezing, step by step."""

from torch import nn

from siamtrack.errors import UserError
from siamtrack.models.siamese import SiameseRPN
from siamtrack.train.config import OptimizerConfig, TrainConfig


def rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Return the learning rate of neck and head at ``step`` of ``steps``, 0-based.

    Exponential up to lr during the warm-up, then exponential from lr to lr_end: SiamRPN++'s schedule, without the
    steps between epochs.
    """
    warmup = min(config.warmup_steps, steps - 1)
    if step < warmup:
        return float(config.lr * config.warmup_from ** (1 - step / warmup))
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    return float(config.lr * (config.lr_end / config.lr) ** progress)


def set_frozen(model: SiameseRPN, step: int, config: TrainConfig) -> None:
    """Put ``model`` into training mode as it should be at ``step``.

    Frozen parts need no gradient and their batch norm keeps its statistics.
    """
    model.requires_grad_(False).eval()
    if config.stage == "refine":
        if model.mask:
            model.mask.requires_grad_(True).train()
            model.mask.correlation.decode.requires_grad_(False).eval()  # the coarse masks, which no loss asks for
        return
    for part in head_parts(model):
        part.requires_grad_(True).train()
    if model.mask:
        model.mask.refine.requires_grad_(False)  # the second stage's
    if trunk_is_trained(step, config):
        for stage in trained_stages(model, config.optimizer):
            stage.requires_grad_(True).train(config.optimizer.backbone_batch_norm)


def trunk_is_trained(step: int, config: TrainConfig) -> bool:
    """Return whether the trunk is trained at ``step``; once it is, it is to the end."""
    settings = config.optimizer
    return config.stage == "all" and settings.backbone_lr > 0 and step >= settings.backbone_from * config.steps


def head_parts(model: SiameseRPN) -> list[nn.Module]:
    """Return everything but the trunk."""
    return [part for name, part in model.named_children() if name != "backbone"]


def trained_stages(model: SiameseRPN, config: OptimizerConfig) -> list[nn.Module]:
    """Return the stages of the trunk that are trained once it is unfrozen.

    Raises:
        UserError: the trunk has no stage of such a number.
    """
    stages = model.backbone.stages()
    unknown = set(config.backbone_stages) - stages.keys()
    if unknown:
        known = ", ".join(map(str, stages))
        raise UserError(f"train.optimizer.backbone_stages: the trunk has no stage {min(unknown)}; it has {known}")
    return [stages[number] for number in config.backbone_stages]
