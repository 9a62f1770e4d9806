"""Cross-correlation of search features with the template's (SiamRPN, section 3.2; SiamRPN++, section 3.4)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from siamtrack.models import fast


def depthwise_correlation(search: Tensor, kernel: Tensor) -> Tensor:
    """Correlate each channel of ``search`` with the same channel of ``kernel``; no flip, no padding.

    Shapes: search [B, C, H, W], kernel [B, C, h, w]; result [B, C, H - h + 1, W - w + 1].
    """
    if fast.ready(search):
        return fast.correlate(search, kernel)
    batch, channels = kernel.shape[:2]
    response = functional.conv2d(
        search.reshape(1, batch * channels, *search.shape[2:]),
        kernel.reshape(batch * channels, 1, *kernel.shape[2:]),
        groups=batch * channels,
    )
    return response.reshape(batch, channels, *response.shape[2:])


def upchannel_correlation(search: Tensor, kernel: Tensor) -> Tensor:
    """Correlate all channels of ``search`` with each of K kernels; no flip, no padding.

    Shapes: search [B, C, H, W], kernel [B, K C, h, w]; result [B, K, H - h + 1, W - w + 1].
    """
    batch, channels = search.shape[:2]
    response = functional.conv2d(
        search.reshape(1, batch * channels, *search.shape[2:]),
        kernel.reshape(-1, channels, *kernel.shape[2:]),
        groups=batch,
    )
    return response.reshape(batch, -1, *response.shape[2:])


def valid_conv(width: int, separable: bool) -> nn.Sequential:
    """Return the 3x3 convolution without padding, batch norm and ReLU that comes before the correlation.

    Shapes: input [B, width, H, W], output [B, width, H - 2, W - 2].
    """
    if separable:
        convolutions = [
            nn.Conv2d(width, width, 3, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, width, 1, bias=False),
        ]
    else:
        convolutions = [nn.Conv2d(width, width, 3, bias=False)]
    return nn.Sequential(*convolutions, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


class CorrelationBranch(nn.Module):
    """One branch of one level: both sides convolved apart, correlated, and decoded by 1x1 convolutions.

    Args:
        width: channels of the features and of the correlation.
        outputs: channels of the response.
        separable: see :func:`valid_conv`.
    """

    def __init__(self, width: int, outputs: int, separable: bool = False) -> None:
        super().__init__()
        self.template = valid_conv(width, separable)
        self.search = valid_conv(width, separable)
        self.decode = nn.Sequential(
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, outputs, 1),
        )

    def correlate(self, search: Tensor, kernel: Tensor) -> Tensor:
        """Shapes: search [B, C, n, n] features, kernel [B, C, k, k] from ``template``; result [B, C, m, m]."""
        return depthwise_correlation(self.search(search), kernel)

    def forward(self, search: Tensor, kernel: Tensor) -> Tensor:
        """Shapes: search [B, C, n, n] features, kernel [B, C, k, k] from ``template``; result [B, outputs, m, m]."""
        response: Tensor = self.decode(self.correlate(search, kernel))
        return response


def fuse(responses: list[Tensor], weights: Tensor | None) -> Tensor:
    """Return the levels' mean, or their sum weighted by the softmax of ``weights`` (SiamRPN++, eq. 3).

    Shapes: responses L times [B, K, m, m], weights [L]; result [B, K, m, m].
    """
    stacked = torch.stack(responses)  # [L, B, K, m, m]
    if weights is None:
        return stacked.mean(0)
    return (stacked * weights.softmax(0)[:, None, None, None, None]).sum(0)
