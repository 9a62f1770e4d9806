"""ResNet with stride 8: the trunk of SiamRPN++ and SiamMask (SiamRPN++, section 3.2).

Stages 3 and 4 keep stage 2's resolution and dilate their kernels; strided layers have no padding, so that every cell is
centred on a pixel. Names are torchvision's; shortcuts of stages 2 to 4 are 3x3 instead of 1x1, as in PySOT.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from siamtrack.models.fast import conv_norm

IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
"""Of R, G and B between 0 and 1, as torchvision normalises them."""


def _conv3(inputs: int, outputs: int, stride: int, dilation: int) -> nn.Conv2d:
    """Return a 3x3 convolution whose padding keeps the size, or none if it strides."""
    padding = dilation if dilation > 1 else 2 - stride
    return nn.Conv2d(inputs, outputs, 3, stride, padding, dilation, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (ResNet-18 and 34)."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int, dilation: int, shortcut: nn.Sequential | None) -> None:
        super().__init__()
        first = dilation // 2 if shortcut is not None and dilation > 1 else dilation
        self.conv1 = _conv3(inputs, planes, stride, first)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: x [B, inputs, H, W]; result [B, planes times the expansion, H', W']."""
        y = self.relu(conv_norm(x, self.conv1, self.bn1))
        y = conv_norm(y, self.conv2, self.bn2)
        return self.relu(y + (x if self.downsample is None else conv_norm(x, *self.downsample)))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions (ResNet-50)."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int, dilation: int, shortcut: nn.Sequential | None) -> None:
        super().__init__()
        middle = dilation // 2 if shortcut is not None and dilation > 1 else dilation
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv3(planes, planes, stride, middle)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: x [B, inputs, H, W]; result [B, planes times the expansion, H', W']."""
        y = self.relu(conv_norm(x, self.conv1, self.bn1))
        y = self.relu(conv_norm(y, self.conv2, self.bn2))
        y = conv_norm(y, self.conv3, self.bn3)
        return self.relu(y + (x if self.downsample is None else conv_norm(x, *self.downsample)))  # type: ignore[no-any-return]


_DEPTHS: dict[int, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """A dilated ResNet.

    Args:
        depth: 18, 34 or 50.
        stages: which features are returned: 0 for the first convolution, 1 to 4 for the stages; those after the last
            are not built.
    """

    def __init__(self, depth: int, stages: Sequence[int]) -> None:
        super().__init__()
        block, counts = _DEPTHS[depth]
        self.taps = tuple(stages)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        channels, inputs = [64], 64
        plans = ((64, 1, 1), (128, 2, 1), (256, 1, 2), (512, 1, 4))  # planes, stride, dilation
        for number, (planes, stride, dilation) in enumerate(plans[: max(stages)], 1):
            outputs = planes * block.expansion
            blocks = []
            for index in range(counts[number - 1]):
                shortcut = None
                if index == 0 and (stride != 1 or inputs != outputs):
                    shortcut = _shortcut(inputs, outputs, stride, dilation)
                blocks.append(block(inputs, planes, stride if index == 0 else 1, dilation, shortcut))
                inputs = outputs
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            channels.append(outputs)
        self.channels = tuple(channels[stage] for stage in self.taps)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self) -> dict[int, nn.Module]:
        """Return the stages by number; 0 is the first convolution with its batch norm."""
        last = max(self.taps)
        stem = nn.ModuleList([self.conv1, self.bn1])
        return {0: stem} | {number: getattr(self, f"layer{number}") for number in range(1, last + 1)}

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of the chosen stages.

        Shapes: x [B, 3, S, S] with S = 8 n + 7; result: stage 0 [B, 64, 4 n + 1, ...] (61 for 127), stage 1
        [B, 256, 2 n + 1, ...] (31), stages 2 to 4 [B, 512 .. 2048, n, n] (15); a quarter of the channels for 18 and 34.
        """
        outputs = {}
        x = outputs[0] = self.relu(conv_norm(x, self.conv1, self.bn1))
        x = self.maxpool(x)
        for number in range(1, max(self.taps) + 1):
            x = outputs[number] = getattr(self, f"layer{number}")(x)
        return [outputs[number] for number in self.taps]

    def load_torchvision(self, published: Mapping[str, Tensor]) -> None:
        """Load ImageNet weights in torchvision's layout (RGB, scaled to mean 0 and deviation 1).

        The first convolution is turned to BGR and its batch norm shifted, so that pixels of 0..255 give what normalised
        ones gave; a 1x1 shortcut becomes the central tap of a 3x3 one, which computes the same (with stride 2 as well:
        both see pixel 2 i + 1).

        Raises:
            ValueError: an entry is missing or has another shape.
        """
        weights = {}
        for name, wanted in self.state_dict().items():
            if name not in published:
                raise ValueError(f"the ImageNet weights lack {name!r}")
            value = published[name]
            if name == "conv1.weight":
                value = (value / (255 * IMAGENET_STD)).flip(1)  # RGB to BGR
            if name == "bn1.running_mean":
                value = value + (published["conv1.weight"] * IMAGENET_MEAN / IMAGENET_STD).sum((1, 2, 3))
            if value.shape != wanted.shape and ".downsample.0." in name and value.shape[2:] == (1, 1):
                embedded = torch.zeros_like(wanted)
                embedded[..., 1:2, 1:2] = value
                value = embedded
            if value.shape != wanted.shape:
                raise ValueError(
                    f"the ImageNet weights have {name!r} of {tuple(value.shape)}, not {tuple(wanted.shape)}"
                )
            weights[name] = value
        self.load_state_dict(weights)


def _shortcut(inputs: int, outputs: int, stride: int, dilation: int) -> nn.Sequential:
    """Return the projection of a stage's first block: 1x1 in stage 1, 3x3 where it strides or dilates."""
    if stride == 1 and dilation == 1:
        convolution = nn.Conv2d(inputs, outputs, 1, bias=False)
    else:
        halved = dilation // 2 if dilation > 1 else 1
        padding = halved if dilation > 1 else 0
        convolution = nn.Conv2d(inputs, outputs, 3, stride, padding, halved, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))
