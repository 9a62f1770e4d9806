"""Losses of classification and regression (SiamRPN, section 4.2), as PySOT averages them."""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from siamtrack.config import Config


class LossConfig(Config):
    """Weights and kinds: the keys of a preset's ``train.loss`` section."""

    cls: float = Field(1.0, ge=0)
    """Weight of the classification loss."""
    loc: float = Field(1.2, ge=0)
    """Weight of the regression loss."""
    regression: Literal["l1", "smooth_l1"] = "l1"
    """Distance of the box offsets."""
    giou: float = Field(0.0, ge=0)
    """Weight of a generalised IoU loss of the boxes, added to the regression loss (Rezatofighi et al., 2019)."""
    mask: float = Field(0.0, ge=0)
    """Weight of the mask branch's loss."""
    quality: bool = False
    """Let a positive's target score be the overlap of its predicted box instead of 1, so that the score ranks
    boxes by how well they fit (VarifocalNet, Zhang et al., 2021, section 3.1)."""

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if not (self.cls or self.loc or self.giou or self.mask):
            raise ValueError("all weights of the loss are 0; give at least one")
        return self


def classification_loss(cls: Tensor, label: Tensor, target: Tensor) -> Tensor:
    """Return half the mean cross-entropy of the positives plus half that of the negatives of the batch.

    An empty half counts 0.

    Shapes: cls [B, 2 A, m, m] logits; label [B, N] 1, 0 or -1; target [B, N] score wanted of positives; N = A m m.
    """
    batch = cls.shape[0]
    background, foreground = cls.float().reshape(batch, 2, -1).unbind(1)  # [B, N]
    logit = foreground - background  # softmax over two classes is the sigmoid of their difference
    positive, negative = (label == 1).float(), (label == 0).float()
    loss = functional.binary_cross_entropy_with_logits(logit, target * positive, reduction="none")
    means = [(loss * part).sum() / part.sum().clamp(min=1) for part in (positive, negative)]
    return 0.5 * (means[0] + means[1])


def regression_loss(loc: Tensor, offset: Tensor, weight: Tensor, kind: str) -> Tensor:
    """Return the distance of the offsets, weighted and averaged over the batch.

    Shapes: loc [B, 4 A, m, m]; offset [B, 4, N]; weight [B, N].
    """
    predicted = loc.float().reshape(offset.shape)
    distance = functional.smooth_l1_loss if kind == "smooth_l1" else functional.l1_loss
    loss: Tensor = (distance(predicted, offset, reduction="none").sum(1) * weight).sum() / len(offset)
    return loss


def overlaps(boxes: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and generalised IoU. Shapes: boxes [B or 1, N, 4], target [B, 4] as cx, cy, w, h; results [B, N]."""
    target = target[:, None]
    low1, high1 = boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2
    low2, high2 = target[..., :2] - target[..., 2:] / 2, target[..., :2] + target[..., 2:] / 2
    shared = (torch.minimum(high1, high2) - torch.maximum(low1, low2)).clamp(min=0).prod(-1)
    union = boxes[..., 2:].prod(-1) + target[..., 2:].prod(-1) - shared
    hull = (torch.maximum(high1, high2) - torch.minimum(low1, low2)).prod(-1)
    iou = shared / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


def mask_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the mean logistic loss of masks' pixels, 0 where no mask counts (SiamMask, eq. 3).

    Shapes: logits [K, M, M]; target [K, M, M], 0 or 1; weight [K], 1 for a mask that counts, else 0.
    """
    loss = functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none").mean((1, 2))  # [K]
    return (loss * weight).sum() / weight.sum().clamp(min=1)
