"""Batch norm folded into the convolution before it: the same network with fewer operations, for tracking only."""

from copy import deepcopy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from siamtrack.models.backbones.timm import TimmBackbone
from siamtrack.models.siamese import SiameseRPN


def fold_batch_norm(model: SiameseRPN) -> SiameseRPN:
    """Return a copy in eval mode that computes the same without batch norm and without scaling of pixels.

    A batch norm that follows a convolution becomes part of its weights (Jacob et al., CVPR 2018, section 3.2), and so
    does the trunk's ``mean`` and ``std``, which only trunks whose first convolution has no padding have. The order of
    the modules of a timm trunk is not known, so it is left as it is.
    """
    folded = deepcopy(model).eval()
    foreign = set(folded.backbone.modules()) if isinstance(folded.backbone, TimmBackbone) else set()
    for module in list(folded.modules()):
        if module in foreign:
            continue
        for (name, convolution), (following, norm) in pairwise(list(module.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(convolution, norm))
                setattr(module, following, nn.Identity())
    backbone = folded.config.backbone
    if (backbone.mean, backbone.std) != (0, 1) and not foreign:
        _fold_scaling(
            next(m for m in folded.backbone.modules() if isinstance(m, nn.Conv2d)), backbone.mean, backbone.std
        )
        plain = backbone.model_copy(update={"mean": 0.0, "std": 1.0})
        folded.config = folded.config.model_copy(update={"backbone": plain})
    return folded.requires_grad_(False)


@torch.no_grad()
def _fold_scaling(first: nn.Conv2d, mean: float, std: float) -> None:
    """Make ``first``, which has a bias and no padding, take pixels x where it took (x - mean) / std."""
    if first.bias is None or any(first.padding):
        raise ValueError("the trunk's first convolution has padding or no batch norm; its scaling cannot be folded")
    weight = first.weight.double() / std
    first.bias.copy_(first.bias - mean * weight.sum((1, 2, 3)))
    first.weight.copy_(weight)
