"""Folding of batch norm: the same answers."""

import pytest
import torch
from torch import nn

from siamtrack.models import zoo
from siamtrack.models.fold import fold_batch_norm
from siamtrack.models.siamese import SiameseRPN


def sizes(model: SiameseRPN) -> tuple[int, int]:
    """Return sides of template and search region that are as small as the trunk allows."""
    return (79, 95) if model.config.head.adjust else (127, 143)


def made_up(name: str) -> SiameseRPN:
    """Return a preset's network with random weights whose batch norms have seen a picture, in double precision."""
    torch.manual_seed(0)
    config = zoo.load(name).model
    head = config.head.model_copy(update={"widths": (16,) * len(config.head.widths)})
    model = SiameseRPN(config.model_copy(update={"head": head}) if config.head.adjust else config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    template, search = sizes(model)
    with torch.no_grad():
        model.train().search(pictures(search, 2).float(), model.template(pictures(template, 2).float()))
    return model.eval().double()


def pictures(size: int, count: int = 1) -> torch.Tensor:
    coarse = torch.rand(count, 3, 9, 9, dtype=torch.float64) * 255
    return nn.functional.interpolate(coarse, (size, size), mode="bilinear").round()


NETWORKS = {(m.backbone.name, m.head.kind, m.mask): name for name in zoo.names() for m in [zoo.load(name).model]}
"""One preset of each kind of network; the others differ in numbers of channels and in parameters of tracking."""


@pytest.mark.parametrize("name", NETWORKS.values())
@torch.no_grad()
def test_a_folded_network_gives_the_same_answers(name):
    model = made_up(name)
    folded = fold_batch_norm(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    template, search = sizes(model)
    z, x = pictures(template), pictures(search)
    ours, theirs = folded.search(x, folded.template(z)), model.search(x, model.template(z))
    for got, expected in zip((*ours[:2], *ours.context), (*theirs[:2], *theirs.context), strict=True):
        assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())  # the original is as it was
