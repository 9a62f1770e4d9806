"""SiamRPN++ assembled from its configuration: two pure functions, ``template`` and ``search``."""

import torch
from torch import Tensor, nn

from siamtrack.models.backbones.efficientnet import EfficientNetLite0
from siamtrack.models.config import ModelConfig
from siamtrack.models.correlation import CorrelationBranch, fuse
from siamtrack.models.neck import Neck, center_cut


class SiameseRPN(nn.Module):
    """SiamRPN++ (Li et al., CVPR 2019, figure 3): layer-wise aggregated, depth-wise correlated proposals.

    The module holds weights only. What belongs to a target, its correlation kernels, is returned by
    :meth:`template` and handed to :meth:`search`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        backbone, head = config.backbone, config.head
        self.backbone = EfficientNetLite0(backbone.stages, backbone.mean, backbone.std)
        levels = len(self.backbone.channels)
        self.neck = Neck(self.backbone.channels, head.width)
        anchors = config.anchors.per_cell
        self.cls = nn.ModuleList(CorrelationBranch(head.width, 2 * anchors, head.separable) for _ in range(levels))
        self.loc = nn.ModuleList(CorrelationBranch(head.width, 4 * anchors, head.separable) for _ in range(levels))
        self.cls_weights = nn.Parameter(torch.ones(levels))
        self.loc_weights = nn.Parameter(torch.ones(levels))

    def template(self, z: Tensor) -> tuple[Tensor, ...]:
        """Return the target's correlation kernels: one of each level for classification, then for regression.

        Shapes: z [B, 3, template_size, template_size], BGR 0..255; result 2 L times [B, C, k, k] with
        k = template_cells - 2.
        """
        features = center_cut(self.neck(self.backbone(z)), self.config.template_cells)
        branches = [*self.cls, *self.loc]
        return tuple(branch.template(f) for branch, f in zip(branches, features + features, strict=True))

    def search(self, x: Tensor, kernels: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the logits of background and foreground and the box offsets of every anchor.

        Shapes: x [B, 3, S, S], BGR 0..255; kernels as from :meth:`template`; result: cls [B, 2 A, m, m]
        (A background channels, then A foreground) and loc [B, 4 A, m, m] (A each of dx, dy, dw, dh).
        """
        features = self.neck(self.backbone(x))
        levels = len(features)
        cls = [branch(f, k) for branch, f, k in zip(self.cls, features, kernels[:levels], strict=True)]
        loc = [branch(f, k) for branch, f, k in zip(self.loc, features, kernels[levels:], strict=True)]
        return fuse(cls, self.cls_weights), fuse(loc, self.loc_weights)

    def forward(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Template and search in one, for training. Shapes as in :meth:`template` and :meth:`search`."""
        return self.search(x, self.template(z))


def build(config: ModelConfig) -> SiameseRPN:
    """Return the network that ``config`` describes, with weights drawn at random."""
    return SiameseRPN(config)


def count_gmac(model: SiameseRPN) -> tuple[float, float]:
    """Return the billions of multiply-accumulate operations of a template and of a search crop.

    Counted by torch's flop counter, which counts convolutions and matrix products, two operations each.
    """
    from torch.utils.flop_counter import FlopCounterMode

    device = next(model.parameters()).device
    sizes = model.config.template_size, model.config.search_size
    z, x = (torch.zeros(1, 3, size, size, device=device) for size in sizes)
    counts = []
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            kernels = model.template(z)
        counts.append(counter.get_total_flops() / 2e9)
        with FlopCounterMode(display=False) as counter:
            model.search(x, kernels)
        counts.append(counter.get_total_flops() / 2e9)
    return counts[0], counts[1]
