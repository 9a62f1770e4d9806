"""A network rearranged for tracking on one device: folded, channels-last, branches that share an input joined."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from siamtrack.errors import UserError
from siamtrack.models.backbones.alexnet import AlexNet
from siamtrack.models.backbones.efficientnet import Block, EfficientNetLite0
from siamtrack.models.backbones.mobilenet import MobileNetV2
from siamtrack.models.backbones.resnet import ResNet
from siamtrack.models.correlation import CorrelationBranch
from siamtrack.models.fold import fold_batch_norm
from siamtrack.models.neck import center_cut
from siamtrack.models.rpn import DepthwiseRPN, UpChannelRPN
from siamtrack.models.siamese import SiameseRPN
from siamtrack.runtimes import device_ops as ops


class DeviceNetwork:
    """A network whose two functions work on tensors of one device and never wait for the host.

    Every number of channels is filled up with zeros to a multiple of 8.

    Args:
        model: is copied; batch norm is folded.
        device: where the copy lives.
        dtype: float32, or float16 for a GPU.

    Raises:
        UserError: a part is not known: the trunk is a model of timm, or there are other convolutions than the presets'.
    """

    def __init__(self, model: SiameseRPN, device: torch.device, dtype: torch.dtype) -> None:
        folded = fold_batch_norm(model).to(device)
        self.config, self.dtype = model.config, dtype
        self.device = next(folded.parameters()).device  # with its number, where "cuda" is the current one
        self.precision = "fp16" if dtype == torch.float16 else "fp32"
        self._cuts_template = folded.neck is not None
        self._trunk = _trunk(folded.backbone, dtype)
        self._neck = [_chain(level, dtype)[0] for level in folded.neck.levels] if folded.neck else None
        self._head: _DepthwiseHead | _UpChannelHead
        if isinstance(folded.rpn, DepthwiseRPN):
            self._head = _DepthwiseHead(folded.rpn, folded.mask.correlation if folded.mask else None, dtype)
        else:
            self._head = _UpChannelHead(folded.rpn, dtype)
        self._mask = folded.mask.to(dtype) if folded.mask else None
        if self._mask:
            self._mask.refine.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        """Return the targets' kernels, each with leading axis B. Shape: z [B, 8, T, T] channels-last."""
        levels, _ = self._features(z)
        if self._cuts_template:
            levels = [each.contiguous(memory_format=torch.channels_last) for each in center_cut(
                levels, self.config.template_cells)]  # fmt: skip
        return self._head.template(levels)

    def search(self, x: Tensor, kernels: tuple[Tensor, ...], rows: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the response to search regions, and what :meth:`draw` needs.

        Shapes: x [B, 8, S, S] channels-last; kernels of all targets, [R, ...] each; rows [B]: whose search regions they
        are; result [B, m m, 6 A or more] float32: of each cell 2 A class logits, then 4 A offsets.
        """
        levels, finer = self._features(x)
        response, correlation = self._head.search(levels, kernels, rows)
        return response, (correlation, *finer) if self._mask else ()

    def draw(self, context: tuple[Tensor, ...], cell: Tensor) -> Tensor:
        """Return mask logits of one cell of each target.

        Shapes: context as from :meth:`search`; cell [B, 2] int64 as row, column; result [B, 127, 127].
        """
        assert self._mask is not None
        target = torch.arange(len(cell), device=cell.device)
        return self._mask.draw(context, target, cell[:, 0], cell[:, 1])

    def _features(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        outputs = self._trunk(image)
        stages = len(self.config.backbone.stages)
        finer, levels = outputs[:-stages], outputs[-stages:]
        if self._neck:
            levels = [level(feature) for level, feature in zip(self._neck, levels, strict=True)]
        return levels, finer


class _Convolution:
    """A convolution with bias, activation and channels in eights."""

    def __init__(self, convolution: nn.Conv2d, activation: int, dtype: torch.dtype) -> None:
        weight, bias = convolution.weight, convolution.bias
        self.activation = activation
        self.kernel, self.stride = convolution.kernel_size[0], convolution.stride[0]
        self.padding, self.dilation = int(convolution.padding[0]), convolution.dilation[0]
        outputs = len(weight)
        whole = _filled(weight.new_zeros(outputs) if bias is None else bias, 0)
        self.bias: Tensor | None = whole
        self.depthwise = convolution.groups > 1
        if self.depthwise:
            if not convolution.groups == convolution.in_channels == outputs:
                raise UserError(
                    f"the GPU's graph does not know a convolution in {convolution.groups} groups; take --runtime torch"
                )
            self.weight = _filled(
                weight.reshape(outputs, -1).T, 1
            ).contiguous()  # [k k, C] float32: few, but they matter
            return
        self.bias = whole.to(dtype)
        weight = _filled(_filled(weight, 0), 1).to(dtype)
        self.single = (self.kernel, self.stride, self.padding) == (1, 1, 0)
        if self.single:
            self.weight = weight[None, :, :, 0, 0].contiguous()  # [1, N, K]
        else:
            self.weight = weight.contiguous(memory_format=torch.channels_last)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if self.depthwise and self.bias is not None:
            return ops.depthwise(
                x, self.weight, self.bias, self.kernel, self.stride, self.padding, self.dilation, self.activation
            )
        if self.single and self.bias is not None:
            return ops.pointwise(x, self.weight, self.bias, residual=residual, activation=self.activation)
        return ops.convolution(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, 1, residual, self.activation
        )


class _Residual:
    """Convolutions in a row; the last adds the block's input, as it is or through a shortcut, if there is a sum."""

    def __init__(self, convolutions: list[_Convolution], sums: bool, shortcut: _Convolution | None = None) -> None:
        *self.first, self.last = convolutions
        self.sums, self.shortcut = sums, shortcut

    def __call__(self, x: Tensor) -> Tensor:
        y = x
        for convolution in self.first:
            y = convolution(y)
        return self.last(y, (self.shortcut(x) if self.shortcut else x) if self.sums else None)


class _Trunk:
    """Steps in a row, some of which are tapped."""

    def __init__(self, stages: list[Sequence[nn.Module | _Convolution | _Residual]], taps: Sequence[int]) -> None:
        self.stages, self.taps = stages, taps

    def __call__(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for stage in self.stages:
            for step in stage:
                x = step(x)
            outputs.append(x)
        return [outputs[tap] for tap in self.taps]


def _trunk(backbone: nn.Module, dtype: torch.dtype) -> _Trunk:
    """Return the trunk with its stages' outputs."""
    match backbone:
        case AlexNet():
            return _Trunk([_chain(stage, dtype) for stage in backbone.stages().values()], [-1])
        case EfficientNetLite0():
            blocks = [[_inverted(block, dtype) for block in stage.children()] for stage in backbone.blocks]
            return _Trunk([_chain(backbone.stem, dtype), *blocks], backbone.taps)
        case MobileNetV2():
            stem, *stages = backbone.stages().values()
            narrow = [[_bottleneck(block, dtype) for block in stage.children()] for stage in stages]
            return _Trunk([_chain(stem, dtype), *narrow], backbone.taps)
        case ResNet():
            _, *stages = backbone.stages().values()
            layers = [[_block(block, dtype) for block in stage.children()] for stage in stages]
            first = [_Convolution(backbone.conv1, ops.RELU, dtype)]
            return _Trunk([first, [backbone.maxpool, *layers[0]], *layers[1:]], backbone.taps)
    raise UserError("models on a trunk of timm have no GPU graph; run them with --runtime torch")


def _chain(modules: nn.Module, dtype: torch.dtype) -> list[nn.Module | _Convolution]:
    """Return the convolutions of a sequence, each with the activation that follows, and its pooling.

    An activation may follow the pooling instead: the largest of rectified values is the rectified largest.
    """
    steps: list[nn.Module | _Convolution] = []
    layers = [layer for layer in modules.children() if not isinstance(layer, nn.Identity)]
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            following = next((each for each in layers[index + 1 :] if not isinstance(each, nn.MaxPool2d)), None)
            activation = {nn.ReLU: ops.RELU, nn.ReLU6: ops.RELU6}.get(type(following), ops.NONE)  # type: ignore[arg-type]
            steps.append(_Convolution(layer, activation, dtype))
        elif isinstance(layer, nn.MaxPool2d):
            steps.append(layer)
    return steps


def _inverted(block: nn.Module, dtype: torch.dtype) -> _Residual:
    """Return a block of EfficientNet-Lite."""
    assert isinstance(block, Block)
    parts = [part for part in (block.expand, block.depthwise, block.project) if not isinstance(part, nn.Identity)]
    return _Residual([_convolution(part, dtype) for part in parts], block.residual)


def _bottleneck(block: nn.Module, dtype: torch.dtype) -> _Residual:
    """Return a block of MobileNetV2."""
    return _Residual([step for step in _chain(block.conv, dtype) if isinstance(step, _Convolution)], block.residual)  # type: ignore[arg-type]


def _block(block: nn.Module, dtype: torch.dtype) -> _Residual:
    """Return a block of a ResNet. A dense shortcut's bias moves to the last convolution, which adds it for nothing."""
    layers = [layer for name, layer in block.named_children() if name.startswith("conv")]
    convolutions = [_Convolution(layer, ops.RELU, dtype) for layer in layers if isinstance(layer, nn.Conv2d)]
    shortcut = None
    if block.downsample is not None:
        shortcut = _convolution(block.downsample, dtype)  # type: ignore[arg-type]
        last = convolutions[-1]
        if last.bias is not None and shortcut.bias is not None and not shortcut.single:
            last.bias, shortcut.bias = last.bias + shortcut.bias, None
    return _Residual(convolutions, True, shortcut)


def _layer(sequence: nn.Sequential, place: int) -> nn.Conv2d:
    """Return a sequence's convolution at ``place``."""
    layer = sequence[place]
    assert isinstance(layer, nn.Conv2d)
    return layer


def _convolution(sequence: nn.Module, dtype: torch.dtype) -> _Convolution:
    """Return the one convolution of a sequence."""
    (step,) = _chain(sequence, dtype)
    assert isinstance(step, _Convolution)
    return step


class _Level(NamedTuple):
    """A level of the depth-wise head: the branches' convolutions of each side, and the first 1x1 after correlation."""

    template: list[list[_Convolution]]
    search: list[list[_Convolution]]
    weight: Tensor
    """[2, C, C] of classification and regression."""
    bias: Tensor
    """[2 C]"""


class _DepthwiseHead:
    """Branches of classification, regression and, at the last level, of masks, joined at each level.

    The last 1x1 convolutions of all levels and their weighted sum are one product of matrices.
    """

    def __init__(self, rpn: DepthwiseRPN, mask: CorrelationBranch | None, dtype: torch.dtype) -> None:
        count = len(rpn.cls)
        shares = [
            [1 / count] * count if weights is None else weights.softmax(0).tolist()
            for weights in (rpn.cls_weight, rpn.loc_weight)
        ]
        self.levels: list[_Level] = []
        finals, biases = [], []
        for number in range(count):
            masks = mask if number == count - 1 else None
            joined = (rpn.cls[number], rpn.loc[number], masks)
            branches = [branch for branch in joined if isinstance(branch, CorrelationBranch)]
            first, last = ([_layer(branch.decode, place) for branch in branches[:2]] for place in (0, 3))
            self.levels.append(
                _Level(
                    _joined([branch.template for branch in branches], dtype),
                    _joined([branch.search for branch in branches], dtype),
                    torch.stack([_filled(_filled(each.weight[:, :, 0, 0], 0), 1) for each in first]).to(dtype),
                    torch.cat([_filled(_biases([each]), 0) for each in first]).to(dtype),
                )
            )
            weights = [
                _filled(each.weight[:, :, 0, 0], 1) * share[number] for each, share in zip(last, shares, strict=True)
            ]
            finals.append(torch.block_diag(*weights))  # type: ignore[no-untyped-call]
            biases.append(
                torch.cat([_biases([each]) * share[number] for each, share in zip(last, shares, strict=True)])
            )
        self.final = _filled(torch.cat(finals, 1), 0)[None].to(dtype).contiguous()  # [1, 6 A, sum of widths]
        self.bias = _filled(torch.stack(biases).sum(0), 0)  # stays float32, as what it is added to
        self.widths = [len(level.bias) for level in self.levels]
        self.masks = _layer(mask.decode, 0).in_channels if mask else 0

    def template(self, levels: list[Tensor]) -> tuple[Tensor, ...]:
        """Return a level's kernels as [B, k k, C]."""
        kernels = []
        for level, feature in zip(self.levels, levels, strict=True):
            kernel = _walk(level.template, feature)
            kernels.append(kernel.permute(0, 2, 3, 1).flatten(1, 2).contiguous())
        return tuple(kernels)

    def search(self, levels: list[Tensor], kernels: tuple[Tensor, ...], rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the response, and the masks' correlation (empty without)."""
        decoded, mask, start = None, None, 0
        for level, feature, kernel, width in zip(self.levels, levels, kernels, self.widths, strict=True):
            correlation = ops.correlate(_walk(level.search, feature), kernel, rows)
            if decoded is None:
                batch, _, *size = correlation.shape
                shape = (batch, *size, sum(self.widths))
                decoded = torch.empty(shape, dtype=feature.dtype, device=feature.device).permute(0, 3, 1, 2)
            ops.pointwise(correlation, level.weight, level.bias, decoded[:, start : start + width], activation=ops.RELU)
            start += width
            mask = correlation[:, width : width + self.masks]
        assert decoded is not None
        assert mask is not None
        response = ops.pointwise(decoded, self.final, self.bias, dtype=torch.float32)
        return response.permute(0, 2, 3, 1).flatten(1, 2), mask


class _UpChannelHead:
    """Up-channel correlation as a product of matrices: windows of the search features with each kernel."""

    def __init__(self, rpn: UpChannelRPN, dtype: torch.dtype) -> None:
        self.outputs = [rpn.cls_template.out_channels // rpn.cls_template.in_channels, rpn.loc_adjust.in_channels]
        self.width = rpn.cls_template.in_channels
        if self.width % 8:
            raise UserError(
                f"the features have {self.width} channels; the GPU's graph needs a multiple of 8: take --runtime torch"
            )
        self.kernels = [_Convolution(layer, ops.NONE, dtype) for layer in (rpn.cls_template, rpn.loc_template)]
        joined = nn.Conv2d(self.width, 2 * self.width, 3)
        joined.weight = nn.Parameter(torch.cat([rpn.cls_search.weight, rpn.loc_search.weight]), False)
        joined.bias = nn.Parameter(_biases([rpn.cls_search, rpn.loc_search]), False)
        self.searches = _Convolution(joined, ops.NONE, dtype)
        self.adjust = rpn.loc_adjust.weight[:, :, 0, 0].to(dtype)
        self.bias = torch.cat([torch.zeros(self.outputs[0], device=self.adjust.device), _biases([rpn.loc_adjust])])

    def template(self, levels: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the kernels as [B, K, k k C]. What adjusts the offsets is linear, and so part of their kernels."""
        kernels = []
        for layer, outputs in zip(self.kernels, self.outputs, strict=True):
            kernel = layer(levels[0]).permute(0, 2, 3, 1)  # [B, k, k, K C]
            batch, size, _, _ = kernel.shape
            kernels.append(kernel.reshape(batch, size * size, outputs, self.width).transpose(1, 2).flatten(2))
        return kernels[0].contiguous(), torch.matmul(self.adjust, kernels[1])

    def search(self, levels: list[Tensor], kernels: tuple[Tensor, ...], rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the response, and nothing for masks."""
        features = self.searches(levels[0]).permute(0, 2, 3, 1).contiguous()  # [B, n, n, 2 C]
        size = round((kernels[0].shape[2] / self.width) ** 0.5)
        batch, cells = len(features), features.shape[1] - size + 1
        responses = []
        for part, kernel in zip(features.chunk(2, 3), kernels, strict=True):
            windows = part.unfold(1, size, 1).unfold(2, size, 1).permute(0, 1, 2, 4, 5, 3)  # [B, m, m, k, k, C]
            windows = windows.reshape(batch, cells * cells, -1)
            responses.append(torch.bmm(windows, kernel[rows].transpose(1, 2)))
        return torch.cat(responses, 2).float() + self.bias, features[:0]


def _joined(paths: Sequence[nn.Module], dtype: torch.dtype) -> list[list[_Convolution]]:
    """Return convolutions with the same input as one where they are dense, else one path for each."""
    chains = [[layer for layer in path.children() if isinstance(layer, nn.Conv2d)] for path in paths]
    if len(chains[0]) > 1:
        return [[_Convolution(layer, ops.RELU if layer is chain[-1] else ops.NONE, dtype) for layer in chain]
                for chain in chains]  # fmt: skip
    layers = [chain[0] for chain in chains]
    weights = [_filled(_filled(layer.weight, 0), 1) for layer in layers]
    joined = nn.Conv2d(weights[0].shape[1], sum(len(weight) for weight in weights), 3)
    joined.weight = nn.Parameter(torch.cat(weights), False)
    joined.bias = nn.Parameter(torch.cat([_filled(_biases([layer]), 0) for layer in layers]), False)
    return [[_Convolution(joined, ops.RELU, dtype)]]


def _walk(paths: list[list[_Convolution]], x: Tensor) -> Tensor:
    outputs = []
    for path in paths:
        y = x
        for convolution in path:
            y = convolution(y)
        outputs.append(y)
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1).contiguous(memory_format=torch.channels_last)


def _biases(layers: list[nn.Conv2d]) -> Tensor:
    return torch.cat([layer.bias for layer in layers if layer.bias is not None])


def _filled(values: Tensor, axis: int) -> Tensor:
    """Return ``values`` with zeros up to a multiple of 8 along ``axis``."""
    shape = list(values.shape)
    shape[axis] = -shape[axis] % 8
    return torch.cat([values, values.new_zeros(shape)], axis) if shape[axis] else values
