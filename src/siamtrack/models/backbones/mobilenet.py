"""MobileNetV2 with stride 8 (Sandler et al., CVPR 2018, table 2), dilated as PySOT does it."""

from collections.abc import Sequence

from torch import Tensor, nn

from siamtrack.models import fast

# Stage: expansion, channels, blocks, stride, dilation. Stages 4 and 6 had stride 2 before they were dilated.
_STAGES = (
    (1, 16, 1, 1, 1),
    (6, 24, 2, 2, 1),
    (6, 32, 3, 2, 1),
    (6, 64, 4, 1, 2),
    (6, 96, 3, 1, 2),
    (6, 160, 3, 1, 4),
    (6, 320, 1, 1, 4),
)


class InvertedResidual(nn.Module):
    """1x1 expansion (even by 1), 3x3 depth-wise, 1x1 projection."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, dilation: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        padding = dilation if dilation > 1 else 2 - stride
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, hidden, 3, stride, padding, dilation, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: x [B, C, H, W]; result [B, outputs, H', W']."""
        middle = fast.pair(self.conv, 3)
        if fast.residual_ready(x, *middle):
            y = fast.inverted_residual(x, fast.pair(self.conv), middle, fast.pair(self.conv, 6))
        else:
            y = self.conv(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """A dilated MobileNetV2.

    Args:
        width: multiplies the channels; products are rounded down, not to multiples of 8.
        stages: which features are returned: 0 for the first convolution, 1 to 7 for the stages.
    """

    def __init__(self, width: float, stages: Sequence[int]) -> None:
        super().__init__()
        self.taps = tuple(stages)
        inputs = int(32 * width)
        channels = [inputs]
        self.layer0 = nn.Sequential(
            nn.Conv2d(3, inputs, 3, 2, bias=False), nn.BatchNorm2d(inputs), nn.ReLU6(inplace=True)
        )
        last = 1  # dilation of the stage before
        for number, (expansion, outputs, count, stride, dilation) in enumerate(_STAGES[: max(stages)], 1):
            outputs = int(outputs * width)
            blocks = []
            for index in range(count):
                entering = dilation if dilation == last else max(dilation // 2, 1)
                first = index == 0
                blocks.append(
                    InvertedResidual(
                        inputs, outputs, stride if first else 1, expansion, entering if first else dilation
                    )
                )
                inputs = outputs
            last = dilation
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            channels.append(inputs)
        self.channels = tuple(channels[stage] for stage in self.taps)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def stages(self) -> dict[int, nn.Module]:
        """Return the stages by number; 0 is the first convolution."""
        return {number: getattr(self, f"layer{number}") for number in range(max(self.taps) + 1)}

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of the chosen stages.

        Shapes: x [B, 3, S, S] with S = 8 n + 7; result: [B, channels, n, n] for stages 3 to 7.
        """
        outputs = {}
        for number, stage in self.stages().items():
            x = outputs[number] = stage(x)
        return [outputs[number] for number in self.taps]
