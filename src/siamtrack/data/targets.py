"""Anchor targets: which anchors the network should call foreground, and where it should move them."""

from typing import NamedTuple, Self

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from siamtrack.config import Config
from siamtrack.models.losses import overlaps


class TargetConfig(Config):
    """Assignment of anchors: the keys of a preset's ``train.targets`` section (SiamRPN, section 4.2)."""

    high: float = Field(0.6, gt=0, lt=1)
    """Anchors that overlap the target by more are positive."""
    low: float = Field(0.3, gt=0, lt=1)
    """Anchors that overlap it by less are negative; those in between are ignored."""
    positives: PositiveInt = 16
    """At most so many positives of a pair count, chosen at random; as many negatives of a negative pair."""
    total: PositiveInt = 64
    """Positives and negatives of a positive pair together."""
    hard: NonNegativeInt = 0
    """So many of the negatives of a positive pair are those that the network now thinks most like the target."""

    @model_validator(mode="after")
    def _counts_fit(self) -> Self:
        if self.positives + self.hard > self.total:
            raise ValueError(f"positives {self.positives} and hard {self.hard} are more than total {self.total}")
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class Targets(NamedTuple):
    """Targets of N anchors in B pairs."""

    label: Tensor
    """[B, N] 1 positive, 0 negative, -1 ignored."""
    offset: Tensor
    """[B, 4, N] dx, dy, dw, dh from the anchor to the target."""
    weight: Tensor
    """[B, N] share of a positive in its pair's regression loss: 1 / positives, else 0."""


def assign(
    box: Tensor,
    negative: Tensor,
    anchors: Tensor,
    stride: float,
    scores: Tensor,
    config: TargetConfig,
    generator: torch.Generator,
) -> Targets:
    """Assign anchors to targets.

    In a negative pair up to ``positives`` anchors near the object, which is another one, are negative and the
    rest is ignored (DaSiamRPN's semantic distractors, as PySOT samples them).

    Shapes: box [B, 4] and anchors [N, 4] as cx, cy, w, h in pixels of the search region about its centre;
    negative [B] bool; stride: pixels between cells; scores [B, N] of the network, for ``hard``.
    """
    overlap, _ = overlaps(anchors[None], box)
    positive_pair = ~negative[:, None]

    def lottery() -> Tensor:
        return torch.rand(scores.shape, device=scores.device, generator=generator)

    chosen = _choose((overlap > config.high) & positive_pair, lottery(), config.positives)
    outside = (overlap < config.low) & positive_pair
    background = _choose(outside, scores, config.hard)
    background |= _choose(outside & ~background, lottery(), config.total - config.positives - config.hard)
    reach = 3.5 * stride  # the 7 x 7 cells about the object
    near = ((anchors[:, :2] - box[:, None, :2]).abs() <= reach).all(-1)  # [B, N]
    background |= _choose(near & negative[:, None], lottery(), config.positives)
    label = torch.where(chosen, 1, torch.where(background, 0, -1))

    cx, cy, w, h = box[..., None].unbind(1)  # [B, 1] each
    ax, ay, aw, ah = anchors.T
    offset = torch.stack([(cx - ax) / aw, (cy - ay) / ah, (w / aw).log(), (h / ah).log()], 1)
    weight = chosen / chosen.sum(1, keepdim=True).clamp(min=1)
    return Targets(label, offset, weight)


def _choose(candidates: Tensor, rank: Tensor, count: int) -> Tensor:
    """Keep at most ``count`` of each row's candidates, those with the highest rank. Shapes: [B, N], rank >= 0."""
    best = torch.where(candidates, rank, -1.0).topk(min(count, rank.shape[1]), dim=1).indices
    return torch.zeros_like(candidates).scatter_(1, best, True) & candidates
