"""The family's networks assembled from their configuration: ``template``, ``search`` and, with masks, ``draw``."""

import torch
from torch import Tensor, nn

from siamtrack.errors import UserError
from siamtrack.models.backbones.alexnet import AlexNet
from siamtrack.models.backbones.efficientnet import EfficientNetLite0
from siamtrack.models.backbones.mobilenet import MobileNetV2
from siamtrack.models.backbones.resnet import ResNet
from siamtrack.models.backbones.timm import TimmBackbone
from siamtrack.models.config import BackboneConfig, ModelConfig
from siamtrack.models.mask import MaskBranch
from siamtrack.models.neck import Neck, center_cut
from siamtrack.models.prediction import Prediction
from siamtrack.models.rpn import DepthwiseRPN, UpChannelRPN

_FINER = {"efficientnet_lite0": (1, 2, 3)}
"""The trunk's stages that refine masks, of 4, 2 and 1 times the head's resolution; of a ResNet 0, 1 and 2."""
Backbone = AlexNet | EfficientNetLite0 | MobileNetV2 | ResNet | TimmBackbone


class SiameseRPN(nn.Module):
    """SiamRPN, DaSiamRPN, SiamRPN++ or SiamMask (Li et al., CVPR 2019, figure 3; Wang et al., CVPR 2019, figure 2).

    The module holds weights only. What belongs to a target, its correlation kernels, is returned by
    :meth:`template` and handed to :meth:`search`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        head, anchors = config.head, config.anchors.per_cell
        finer = _FINER.get(config.backbone.name, (0, 1, 2)) if config.mask else ()
        self.backbone = build_backbone(config.backbone, (*finer, *config.backbone.stages))
        channels = self.backbone.channels[len(finer) :]
        self.neck = Neck(channels, head.widths) if head.adjust else None
        self.rpn: DepthwiseRPN | UpChannelRPN
        if head.kind == "upchannel":
            self.rpn = UpChannelRPN(head.widths[0], anchors)
        else:
            self.rpn = DepthwiseRPN(head.widths, anchors, head.weighted, head.separable)
        self.mask = MaskBranch(head.widths[-1], self.backbone.channels[: len(finer)]) if config.mask else None

    def features(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the head's levels and the finer features of the mask branch (none without one).

        Shapes: image [B, 3, S, S], BGR 0..255; levels L times [B, C, n, n].
        """
        backbone = self.config.backbone
        if (backbone.mean, backbone.std) != (0, 1):
            image = (image - backbone.mean) / backbone.std
        outputs = self.backbone(image)
        finer, levels = outputs[: -len(backbone.stages)], outputs[-len(backbone.stages) :]
        return (self.neck(levels) if self.neck else levels), finer

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        """Return the target's correlation kernels: the head's, and last the mask branch's.

        Shapes: z [B, 3, template_size, template_size], BGR 0..255; result: arrays [B, ...]; see
        :meth:`siamtrack.models.rpn.DepthwiseRPN.template`.
        """
        levels, _ = self.features(z)
        if self.neck:
            levels = center_cut(levels, self.config.template_cells)
        kernels = self.rpn.template(levels)
        return (*kernels, self.mask.correlation.template(levels[-1])) if self.mask else kernels

    def search(self, x: Tensor, kernels: tuple[Tensor, ...]) -> Prediction:
        """Return the response to search regions.

        Shapes: x [B, 3, S, S], BGR 0..255; kernels as from :meth:`template`; result: cls [B, 2 A, m, m], loc
        [B, 4 A, m, m]; context with masks: the correlation [B, C, m, m] and three feature maps, else empty.
        """
        levels, finer = self.features(x)
        if not self.mask:
            cls, loc = self.rpn(levels, kernels)
            return Prediction(cls, loc)
        cls, loc = self.rpn(levels, kernels[:-1])
        return Prediction(cls, loc, (self.mask.correlation.correlate(levels[-1], kernels[-1]), *finer))

    def forward(self, z: Tensor, x: Tensor) -> Prediction:
        """Template and search in one, for training. Shapes as in :meth:`template` and :meth:`search`."""
        return self.search(x, self.template(z))


def build_backbone(config: BackboneConfig, stages: tuple[int, ...]) -> Backbone:
    """Return the trunk with the features of ``stages``, in this order."""
    match config.name:
        case "alexnet":
            return AlexNet(config.width)
        case "efficientnet_lite0":
            return EfficientNetLite0(stages)
        case "mobilenetv2":
            return MobileNetV2(config.width, stages)
        case "timm":
            return TimmBackbone(config.model, stages)
        case "resnet18" | "resnet34" | "resnet50":
            return ResNet(int(config.name.removeprefix("resnet")), stages)


def check_network(config: ModelConfig, origin: str) -> SiameseRPN:
    """Return the network on torch's meta device (shapes without numbers), if its parts fit each other.

    Raises:
        UserError: they do not; ``origin`` says where the configuration comes from.
    """
    size = config.search_size
    try:
        with torch.device("meta"), torch.no_grad():
            model = SiameseRPN(config).eval()
            response = model(
                torch.zeros(1, 3, config.template_size, config.template_size), torch.zeros(1, 3, size, size)
            )
    except (RuntimeError, ValueError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{origin}: model: its parts do not fit each other ({str(error).splitlines()[0]})") from None
    cells, wanted = response.cls.shape[-1], config.response_cells(size)
    if cells != wanted:
        raise UserError(
            f"{origin}: model: the response to a search region of {size} pixels has {cells} cells a side, but "
            f"search_size, template_size and base_size promise {wanted}: base_size {config.base_size} does not fit "
            f"this trunk; the difference says by how much"
        )
    return model


def count_gmac(model: SiameseRPN, search_size: int) -> tuple[float, float]:
    """Return the billions of multiply-accumulate operations of a template and of a search crop of ``search_size``.

    Counted by torch's flop counter, which counts convolutions and matrix products, two operations each. A mask is
    not counted: it is drawn for one cell only.
    """
    from torch.utils.flop_counter import FlopCounterMode

    device = next(model.parameters()).device
    z, x = (torch.zeros(1, 3, size, size, device=device) for size in (model.config.template_size, search_size))
    counts = []
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            kernels = model.template(z)
        counts.append(counter.get_total_flops() / 2e9)
        with FlopCounterMode(display=False) as counter:
            model.search(x, kernels)
        counts.append(counter.get_total_flops() / 2e9)
    return counts[0], counts[1]
