"""Learning rates and freezing, step by step."""

from torch import nn

from siamtrack.models.siamese import SiameseRPN
from siamtrack.train.config import OptimizerConfig


def rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Return the learning rate of neck and head at ``step`` of ``steps``, 0-based.

    Exponential from lr / 5 to lr during the warm-up, then exponential from lr to lr_end: SiamRPN++'s schedule,
    without the steps between epochs.
    """
    warmup = min(config.warmup_steps, steps - 1)
    if step < warmup:
        return float(config.lr * 5 ** (step / warmup - 1))
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    return float(config.lr * (config.lr_end / config.lr) ** progress)


def set_frozen(model: SiameseRPN, step: int, steps: int, config: OptimizerConfig) -> bool:
    """Put ``model`` into training mode as it should be at ``step``; return whether the trunk is trained.

    Frozen parts need no gradient and their batch norm keeps its statistics.
    """
    trained = step >= config.backbone_from * steps and config.backbone_lr > 0
    model.train()
    model.backbone.requires_grad_(False).eval()
    if trained:
        for module in trained_stages(model, config):
            module.requires_grad_(True).train(config.backbone_batch_norm)
    return trained


def trained_stages(model: SiameseRPN, config: OptimizerConfig) -> list[nn.Module]:
    """Return the stages of the trunk that are trained once it is unfrozen."""
    return [stage for number, stage in enumerate(model.backbone.stages, 1) if number in config.backbone_stages]
