"""Adjustment of the trunk's levels to the head's width, and the cut of the template (SiamRPN++, section 3.2)."""

from collections.abc import Sequence

from torch import Tensor, nn


class Neck(nn.Module):
    """A 1x1 convolution with batch norm for each level.

    Args:
        channels: channels of each level of the trunk.
        widths: channels of each level afterwards.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Conv2d(count, width, 1, bias=False), nn.BatchNorm2d(width))
            for count, width in zip(channels, widths, strict=True)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Shapes: features L times [B, C_l, n, n]; result L times [B, width, n, n]."""
        return [level(feature) for level, feature in zip(self.levels, features, strict=True)]


def center_cut(features: list[Tensor], cells: int) -> list[Tensor]:
    """Return the central ``cells`` x ``cells`` of each feature map: the rest saw the padding.

    Shapes: features L times [B, C, n, n]; result L times [B, C, cells, cells].
    """
    start = (features[0].shape[-1] - cells) // 2
    return [feature[..., start : start + cells, start : start + cells] for feature in features]
