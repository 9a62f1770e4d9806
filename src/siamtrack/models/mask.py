"""SiamMask's branch: a mask for a cell of the response, refined by the trunk's finer features.

Source: SiamMask (Wang et al., CVPR 2019), section 3.2 and appendix A.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from siamtrack.models.correlation import CorrelationBranch

COARSE = 63
"""Side of the mask that the branch gives by itself."""
SIDE = 127
"""Side of a refined mask; it covers as many pixels of the search region, about its cell."""

# Windows of the features that belong to a cell: stride in cells' positions, side.
_WINDOWS = ((4, 61), (2, 31), (1, 15))


def _two_convs(*channels: int) -> nn.Sequential:
    first, middle, last = channels
    return nn.Sequential(
        nn.Conv2d(first, middle, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(middle, last, 3, padding=1),
        nn.ReLU(inplace=True),
    )


class Refine(nn.Module):
    """Grows a 1x1 correlation vector to a 127x127 mask with help of the trunk's features about its cell.

    Args:
        width: channels of the correlation.
        channels: channels of the trunk's three feature maps, finest first.
    """

    def __init__(self, width: int, channels: Sequence[int]) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.v0 = _two_convs(fine, fine // 4, 4)
        self.v1 = _two_convs(middle, middle // 4, 16)
        self.v2 = _two_convs(coarse, coarse // 4, 32)
        self.h2, self.h1, self.h0 = _two_convs(32, 32, 32), _two_convs(16, 16, 16), _two_convs(4, 4, 4)
        self.deconv = nn.ConvTranspose2d(width, 32, 15, 15)
        self.post0, self.post1 = nn.Conv2d(32, 16, 3, padding=1), nn.Conv2d(16, 4, 3, padding=1)
        self.post2 = nn.Conv2d(4, 1, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)

    def forward(self, vectors: Tensor, windows: Sequence[Tensor]) -> Tensor:
        """Return mask logits.

        Shapes: vectors [K, C, 1, 1] correlation at K cells; windows [K, C_0, 61, 61], [K, C_1, 31, 31] and
        [K, C_2, 15, 15] of the features; result [K, 127, 127].
        """
        fine, middle, coarse = windows
        out = self.deconv(vectors)  # [K, 32, 15, 15]
        out = self.post0(functional.interpolate(self.h2(out) + self.v2(coarse), (31, 31)))
        out = self.post1(functional.interpolate(self.h1(out) + self.v1(middle), (61, 61)))
        out = self.post2(functional.interpolate(self.h0(out) + self.v0(fine), (SIDE, SIDE)))
        masks: Tensor = out[:, 0]
        return masks


class MaskBranch(nn.Module):
    """Correlates like the other branches; a cell's correlation decodes to a coarse mask, or refines to a fine one.

    Args:
        width: channels of the adjusted features.
        channels: channels of the trunk's three finer feature maps.
    """

    def __init__(self, width: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.correlation = CorrelationBranch(width, COARSE * COARSE)
        self.refine = Refine(width, channels)

    def coarse(self, correlation: Tensor, target: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Return the branch's own masks of single cells, scaled up, for training (SiamMask's first stage).

        Shapes: correlation [B, C, m, m]; target, row, column [K]; result [K, 127, 127] logits.
        """
        *hidden, last = self.correlation.decode
        vectors = nn.Sequential(*hidden)(correlation)[target, :, row, column][..., None, None]  # [K, C, 1, 1]
        masks = last(vectors).reshape(-1, 1, COARSE, COARSE)
        return functional.interpolate(masks, (SIDE, SIDE), mode="bilinear", align_corners=True)[:, 0]

    def draw(self, context: Sequence[Tensor], target: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Return refined masks of single cells.

        Shapes: context as :meth:`siamtrack.models.siamese.SiameseRPN.search` returns it; target, row, column [K]: which
        of the B search regions, and the cell in it; result [K, 127, 127] logits.
        """
        correlation, *features = context
        vectors = correlation[target, :, row, column][..., None, None]  # [K, C, 1, 1]
        windows = []
        for feature, (stride, side) in zip(features, _WINDOWS, strict=True):
            # The middle cell's window is the middle of the feature map; windows may reach over its border.
            padding = ((correlation.shape[-1] - 1) * stride + side - feature.shape[-1]) // 2
            windows.append(_cut(feature, target, row, column, stride, side, padding))
        masks: Tensor = self.refine(vectors, windows)
        return masks


def cut_targets(masks: Tensor, target: Tensor, row: Tensor, column: Tensor, cells: int, stride: int) -> Tensor:
    """Return what the masks of single cells should be: windows of the search regions' masks about the cells.

    Shapes: masks [B, S, S] 0..1; target, row, column [K], of ``cells`` a side; result [K, 127, 127], 0 or 1.
    """
    # The middle cell's window is the middle of the region; windows may reach over its border.
    margin = (cells // 2) * stride - (masks.shape[-1] - SIDE) // 2
    windows = _cut(masks[:, None], target, row, column, stride, SIDE, margin)
    return (windows[:, 0] > 0.5).float()


def _cut(feature: Tensor, target: Tensor, row: Tensor, column: Tensor, stride: int, side: int, padding: int) -> Tensor:
    """Return the windows of a zero-padded feature map that belong to cells. Shape: [K, C, side, side]."""
    padded = functional.pad(feature, (padding,) * 4)
    steps = torch.arange(side, device=feature.device)
    rows = (row * stride)[:, None] + steps  # [K, side]
    columns = (column * stride)[:, None] + steps
    windows = padded[target[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # [K, side, side, C]
    return windows.permute(0, 3, 1, 2)
