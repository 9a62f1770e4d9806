"""Region proposal heads: kernels from the template's features, a response from the search region's."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from siamtrack.models.correlation import CorrelationBranch, fuse, upchannel_correlation


class DepthwiseRPN(nn.Module):
    """Depth-wise correlation for each of L levels, fused (SiamRPN++, sections 3.3 and 3.4).

    Args:
        widths: channels of each level.
        anchors: A, the anchors of a cell.
        weighted: fuse by learned weights instead of the mean.
        separable: see :func:`~siamtrack.models.correlation.valid_conv`.
    """

    def __init__(self, widths: Sequence[int], anchors: int, weighted: bool, separable: bool) -> None:
        super().__init__()
        self.cls = nn.ModuleList(CorrelationBranch(width, 2 * anchors, separable) for width in widths)
        self.loc = nn.ModuleList(CorrelationBranch(width, 4 * anchors, separable) for width in widths)
        self.cls_weight = nn.Parameter(torch.ones(len(widths))) if weighted else None
        self.loc_weight = nn.Parameter(torch.ones(len(widths))) if weighted else None

    def template(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the kernels: one of each level for classification, then for regression.

        Shapes: features L times [B, C, t, t]; result 2 L times [B, C, t - 2, t - 2].
        """
        branches = [*self.cls, *self.loc]
        return tuple(branch.template(f) for branch, f in zip(branches, features + features, strict=True))

    def forward(self, features: list[Tensor], kernels: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return class logits and box offsets.

        Shapes: features L times [B, C, n, n]; kernels as from :meth:`template`; result [B, 2 A, m, m] and
        [B, 4 A, m, m].
        """
        levels = len(features)
        cls = [branch(f, k) for branch, f, k in zip(self.cls, features, kernels[:levels], strict=True)]
        loc = [branch(f, k) for branch, f, k in zip(self.loc, features, kernels[levels:], strict=True)]
        return fuse(cls, self.cls_weight), fuse(loc, self.loc_weight)


class UpChannelRPN(nn.Module):
    """Up-channel correlation of one level (SiamRPN, section 3.2).

    Args:
        width: C, channels of the features.
        anchors: A, the anchors of a cell.
    """

    def __init__(self, width: int, anchors: int) -> None:
        super().__init__()
        self.cls_template = nn.Conv2d(width, 2 * anchors * width, 3)
        self.loc_template = nn.Conv2d(width, 4 * anchors * width, 3)
        self.cls_search = nn.Conv2d(width, width, 3)
        self.loc_search = nn.Conv2d(width, width, 3)
        self.loc_adjust = nn.Conv2d(4 * anchors, 4 * anchors, 1)

    def template(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the kernels of classification and regression.

        Shapes: features one [B, C, t, t]; result [B, 2 A C, t - 2, t - 2] and [B, 4 A C, t - 2, t - 2].
        """
        return self.cls_template(features[0]), self.loc_template(features[0])

    def forward(self, features: list[Tensor], kernels: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return class logits and box offsets.

        Shapes: features one [B, C, n, n]; kernels as from :meth:`template`; result [B, 2 A, m, m] and [B, 4 A, m, m].
        """
        cls = upchannel_correlation(self.cls_search(features[0]), kernels[0])
        loc = upchannel_correlation(self.loc_search(features[0]), kernels[1])
        return cls, self.loc_adjust(loc)
