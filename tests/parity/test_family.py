"""Every preset of the family: parameter counts, recorded outputs, round trips, conversion, training."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from siamtrack.errors import UserError
from siamtrack.models import pysot, zoo
from siamtrack.models.backbones.resnet import ResNet
from siamtrack.models.siamese import SiameseRPN
from siamtrack.runtimes import checkpoints, torch_runtime
from siamtrack.tracker import Tracker
from siamtrack.tracking.config import tracking_config
from siamtrack.train.loop import Training
from tests.conftest import DATA, siamtrack
from tests.parity.made_up import tensor

# Parameters of PySOT's networks, in total and of the parts.
COUNTS = {
    "siamrpn_alexnet_dw": (6_251_102, {"backbone": 3_749_952, "rpn": 2_501_150}),
    "siamrpn_alexnet_dw_otb": (6_251_102, {"backbone": 3_749_952, "rpn": 2_501_150}),
    "siamrpnpp_mobilenetv2": (11_150_446, {"backbone": 3_485_204, "neck": 161_792, "rpn": 7_503_450}),
    "siamrpnpp_resnet50": (53_950_624, {"backbone": 45_528_128, "neck": 919_040, "rpn": 7_503_456}),
    "siamrpnpp_resnet50_otb": (53_950_618, {"backbone": 45_528_128, "neck": 919_040, "rpn": 7_503_450}),
    "siamrpnpp_resnet50_lt": (60_018_336, {"backbone": 45_528_128, "neck": 1_378_048, "rpn": 13_112_160}),
    "siammask_resnet50": (21_482_052, {"backbone": 13_786_176, "neck": 262_656, "rpn": 2_501_150, "mask": 4_932_070}),
}
RECORDED = Path(__file__).parent / "recorded.json"


def size(preset: zoo.Preset) -> int:
    return tracking_config(preset).search_size or preset.model.search_size


def made_up(name: str) -> SiameseRPN:
    """Return a preset's network with made-up weights; batch norm keeps mean 0 and variance 1."""
    with torch.device("meta"):
        model = SiameseRPN(zoo.load(name).model)
    model.to_empty(device="cpu")
    values = {}
    for key, value in model.state_dict().items():
        if "running_" in key or key.endswith("num_batches_tracked"):
            values[key] = torch.full_like(value, float(key.endswith("running_var")))
        else:
            values[key] = tensor(key, tuple(value.shape))
    model.load_state_dict(values)
    return model.eval()


def respond(model: SiameseRPN, name: str) -> dict[str, list[float]]:
    """Return a slice of the responses to random crops."""
    rng = np.random.default_rng(0)
    preset = zoo.load(name)
    z, x = (rng.integers(0, 255, (1, s, s, 3), np.uint8) for s in (preset.model.template_size, size(preset)))
    network = torch_runtime.TorchNetwork(model)
    prediction = network.search(x, network.template(z))
    middle = prediction.cls.shape[-1] // 2
    parts = {"cls": prediction.cls[0, :, middle, middle + 3], "loc": prediction.loc[0, :, middle - 2, middle]}
    if prediction.context:
        parts["mask"] = network.draw(prediction.context, np.array([[middle, 7]]))[0, 60, ::16]
    return {part: [float(f"{value:.6g}") for value in values] for part, values in parts.items()}


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_parameters_are_those_of_pysot(name):
    with torch.device("meta"):
        model = SiameseRPN(zoo.load(name).model)
    total, parts = COUNTS[name]
    assert sum(p.numel() for p in model.parameters()) == total
    for part, count in parts.items():
        assert sum(p.numel() for p in getattr(model, part).parameters()) == count


@pytest.mark.parametrize("name", [name for name in zoo.names() if name != "dasiamrpn_alexnet_big"])
def test_outputs_are_the_recorded_ones_and_files_hold_all_of_a_network(name, tmp_path):
    """Recorded with this file's ``main`` once the networks had shown PySOT's outputs; see test_pysot.py."""
    model = made_up(name)
    answers = respond(model, name)
    recorded = json.loads(RECORDED.read_text())[name]
    assert answers.keys() == recorded.keys()
    for part, values in recorded.items():
        scale = max(map(abs, values))
        assert answers[part] == pytest.approx(values, abs=1e-4 * scale), part
    torch_runtime.save(tmp_path / "a.safetensors", model, zoo.load(name))
    again, preset = torch_runtime.load(tmp_path / "a.safetensors")
    assert (preset.name, preset.model) == (name, zoo.load(name).model)
    values = again.state_dict()
    assert values.keys() == model.state_dict().keys()
    assert all(torch.equal(values[key], value) for key, value in model.state_dict().items())


def pysot_names(name: str) -> dict[str, torch.Tensor]:
    """Return a preset's state dict with PySOT's names: those of our entries, found by renaming candidates back."""
    levels = len(zoo.load(name).model.head.widths)
    parts = {"template": "conv_kernel", "search": "conv_search", "decode": "head"}
    renamed = {}
    for key, value in made_up(name).state_dict().items():
        if key.startswith("neck.levels."):
            level, rest = key[12:].split(".", 1)
            new = f"neck.downsample{int(level) + 2 if levels > 1 else ''}.downsample.{rest}"
        elif key.startswith(("rpn.cls.", "rpn.loc.")):
            branch, level, part, rest = key[4:].split(".", 3)
            prefix = f"rpn{int(level) + 2}." if levels > 1 else ""
            new = f"rpn_head.{prefix}{branch}.{parts[part]}.{rest}"
        elif key.startswith("mask.correlation."):
            part, rest = key[17:].split(".", 1)
            new = f"mask_head.{parts[part]}.{rest}"
        elif key.startswith(("rpn.cls_", "rpn.loc_")) and not key.endswith("_weight") and "adjust" not in key:
            branch, part = key[4:].split(".")[0].split("_")
            new = f"rpn_head.{part}_{branch}_conv.{key.rsplit('.', 1)[1]}"
        else:
            new = key.replace("mask.refine.", "refine_head.").replace("rpn.", "rpn_head.")
        renamed[new] = value
    return renamed


@pytest.mark.parametrize(
    "name", ["siamrpn_alexnet", "siamrpn_alexnet_dw", "siamrpnpp_mobilenetv2", "siammask_resnet50"]
)
def test_checkpoints_are_recognised_and_track(name, clip, tmp_path, monkeypatch):
    """A training checkpoint of PySOT, saved from several GPUs, with its NumPy scalars."""
    values = {f"module.{key}": value for key, value in pysot_names(name).items()}
    optimizer = {"param_groups": [{"lr": np.float64(0.005), "initial_lr": np.float32(0.1)}]}
    path = tmp_path / "checkpoint_e20.pth"
    torch.save({"epoch": 20, "state_dict": values, "optimizer": optimizer}, path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    results = list(Tracker(path).track(clip, (100, 90, 40, 40), end=3))
    assert len(results) == 3
    assert all(np.isfinite(result.box).all() for result in results)
    (cached,) = (tmp_path / "cache" / "siamtrack").iterdir()
    weights, preset = torch_runtime.read(cached)
    assert preset.name == name
    for key, value in made_up(name).state_dict().items():
        assert torch.equal(weights[key], value)
    if name == "siammask_resnet50":
        assert results[1].mask.shape == (240, 320)
        assert results[1].mask.dtype == bool
        assert results[1].polygon.shape == (4, 2)
        assert results[0].mask is None


def test_convert_names_the_model_and_its_twins(tmp_path):
    path = tmp_path / "model.pth"
    torch.save(pysot_names("siamrpn_alexnet_dw"), path)
    done = siamtrack("convert", path, folder=tmp_path)
    assert "is siamrpn_alexnet_dw; wrote" in done.stdout
    assert "siamrpn_alexnet_dw_otb (--preset NAME)" in done.stdout
    _, preset = torch_runtime.read(tmp_path / "model.safetensors")
    assert preset.name == "siamrpn_alexnet_dw"
    siamtrack("convert", path, "--preset", "siamrpn_alexnet_dw_otb", folder=tmp_path)
    _, preset = torch_runtime.read(tmp_path / "model.safetensors")
    assert preset.name == "siamrpn_alexnet_dw_otb"


def test_dasiamrpns_own_names_are_read(tmp_path):
    theirs = {"conv_cls1": "template_cls_conv", "conv_r1": "template_loc_conv", "conv_cls2": "search_cls_conv"}
    theirs |= {"conv_r2": "search_loc_conv", "regress_adjust": "loc_adjust"}
    legacy = {f"layer{value}": str(key) for key, value in pysot._LEGACY_ALEXNET.items()}
    renamed = {}
    for key, value in pysot_names("siamrpn_alexnet").items():
        for new, old in theirs.items():
            key = key.replace(f"rpn_head.{old}", new)
        for new, old in legacy.items():
            key = key.replace(f"backbone.{new}.", f"featureExtract.{old}.")
        renamed[key] = value
    converted = pysot.convert(renamed, tmp_path)
    assert converted.preset.name == "dasiamrpn_alexnet"
    assert "siamrpn_alexnet" in converted.alternatives


class Canary:
    """Pickled, this would create a file when it is loaded."""

    def __reduce__(self):
        return (open, ("canary", "w"))


@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"state_dict": {"a": torch.zeros(1)}, "x": value}])
def test_pickles_with_code_are_refused_and_not_run(tmp_path, monkeypatch, wrap):
    monkeypatch.chdir(tmp_path)
    torch.save(wrap(Canary()), "evil.pth")
    Path("plain.pth").write_bytes(pickle.dumps(wrap(Canary())))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(UserError, match="refused: it holds more than weights|not a usable PyTorch checkpoint"):
            pysot.read_checkpoint(Path(name))
    assert not Path("canary").exists()


def test_checkpoints_that_are_not_of_the_family_are_refused(tmp_path):
    def refused(values, said):
        torch.save(values, tmp_path / "a.pth")
        with pytest.raises(UserError, match=said):
            checkpoints.convert_checkpoint(tmp_path / "a.pth", tmp_path / "a.safetensors")
        assert not (tmp_path / "a.safetensors").exists()

    good = pysot_names("siamrpn_alexnet_dw")
    refused({"backbone.fc.weight": torch.zeros(3)}, "no checkpoint of a known network; the closest is .*is missing")
    refused({k: v for k, v in good.items() if "loc.head.3" not in k}, r"rpn.loc.0.decode.3.weight is missing")
    refused(good | {"rpn_head.cls.head.3.bias": torch.zeros(4)}, r"decode.3.bias has shape \(4,\) instead of \(10,\)")
    refused(good | {"extra.weight": torch.zeros(4)}, "extra.weight is not part of it")
    refused({"ban_head.cls.weight": torch.zeros(4)}, "SiamBAN or NanoTrack network")
    refused([1, 2], "holds no state dict")
    torch.save(good, tmp_path / "b.pth")
    with pytest.raises(UserError, match="closest is siamrpnpp_resnet50"):
        checkpoints.convert_checkpoint(tmp_path / "b.pth", tmp_path / "b.safetensors", "siamrpnpp_resnet50")


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_checkpoints_are_named_so(tmp_path, zipped):
    values = {f"layer{number}.weight": torch.randn(3, 4) for number in range(20)}
    whole, cut = tmp_path / "whole.pth", tmp_path / "cut.pth"
    torch.save(values, whole, _use_new_zipfile_serialization=zipped)
    data, rng = whole.read_bytes(), np.random.default_rng(0)
    cases = [data[:length] for length in range(0, len(data) - 1, max(1, len(data) // 150))]
    for _ in range(100):
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 255
        cases.append(bytes(flipped))
    cases += [b"<!DOCTYPE html><html></html>", b'{"a": 1}', pickle.dumps({"a": 1})]
    refused = 0
    for case in cases:
        cut.write_bytes(case)
        try:
            pysot.read_checkpoint(cut)
        except UserError:
            refused += 1
    assert refused > 0.5 * len(cases)  # a flipped bit of a number goes unnoticed; all else is one sentence
    with pytest.raises(UserError, match="not a usable PyTorch checkpoint|holds no state dict"):
        pysot.read_checkpoint(cut)


def test_weights_that_are_not_finite_or_twice_there_are_refused(tmp_path):
    values = pysot_names("siamrpn_alexnet_dw")
    values["rpn_head.cls.head.3.bias"] = torch.full((10,), torch.nan)
    with pytest.raises(UserError, match=r"not finite, the first in rpn_head.cls.head.3.bias"):
        pysot.convert(values, tmp_path)
    twice = {"backbone.a.weight": torch.zeros(1), "module.backbone.a.weight": torch.zeros(1)}
    with pytest.raises(UserError, match="two entries for the same weight"):
        pysot.convert(twice, tmp_path)


def test_the_cache_may_be_damaged_or_read_only(tmp_path, monkeypatch):
    path = tmp_path / "model.pth"
    torch.save(pysot_names("siamrpn_alexnet_dw"), path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model, _ = checkpoints.load_checkpoint(path)
    (cached,) = (tmp_path / "cache" / "siamtrack").iterdir()
    cached.write_bytes(b"damaged")
    again, _ = checkpoints.load_checkpoint(path)
    assert cached.stat().st_size > 1000  # it was made again
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    third, preset = checkpoints.load_checkpoint(path)
    assert preset.name == "siamrpn_alexnet_dw"
    for each in (again, third):
        assert torch.equal(each.rpn.cls[0].decode[3].bias, model.rpn.cls[0].decode[3].bias)


NANOTRACK = DATA / "weights" / "nanotrackv3.pth"


@pytest.mark.skipif(not NANOTRACK.is_file(), reason=f"needs NanoTrack's published checkpoint in {NANOTRACK}")
def test_a_genuine_published_checkpoint_is_read_and_named():
    tensors = pysot.read_checkpoint(NANOTRACK)
    assert len(tensors) > 100
    with pytest.raises(UserError, match="SiamBAN or NanoTrack network"):
        pysot.convert(tensors, NANOTRACK)


def test_torchvisions_shortcuts_compute_the_same_at_the_centre_tap():
    """A 1x1 shortcut of stride 2 sees pixel 2 i; the 3x3 one sees 2 i + 1 at its centre, as its branch does."""
    trunk = ResNet(50, (2, 3, 4))
    published = {name: torch.randn(value.shape) for name, value in trunk.state_dict().items()}
    for stage, (inputs, outputs) in {1: (64, 256), 2: (256, 512), 3: (512, 1024), 4: (1024, 2048)}.items():
        published[f"layer{stage}.0.downsample.0.weight"] = torch.randn(outputs, inputs, 1, 1)
    published["fc.weight"] = torch.zeros(1000, 2048)
    trunk.load_torchvision(published)
    x = torch.randn(1, 256, 9, 9)
    convolution = trunk.layer2[0].downsample[0]
    expected = torch.nn.functional.conv2d(x[:, :, 1:-1:2, 1:-1:2], published["layer2.0.downsample.0.weight"])
    torch.testing.assert_close(convolution(x), expected, rtol=1e-4, atol=1e-3)
    pixels = torch.rand(1, 3, 31, 31) * 255  # BGR
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    normalised = torch.nn.functional.conv2d((pixels.flip(1) / 255 - mean) / std, published["conv1.weight"], stride=2)
    norm = {part: published[f"bn1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")}
    norm["running_var"] = norm["running_var"].abs() + 1
    trunk.bn1.running_var.copy_(norm["running_var"])
    expected = torch.nn.functional.batch_norm(normalised, *norm.values())
    torch.testing.assert_close(trunk.eval().bn1(trunk.conv1(pixels)), expected, rtol=1e-3, atol=1e-3)
    del published["bn1.weight"]
    with pytest.raises(ValueError, match="lack 'bn1.weight'"):
        trunk.load_torchvision(published)


def test_resnet_18_and_34_fit_the_geometry():
    for depth, channels in ((18, (128, 256, 512)), (34, (128, 256, 512))):
        trunk = ResNet(depth, (2, 3, 4)).eval()
        with torch.no_grad():
            shapes = [tuple(f.shape[1:]) for f in trunk(torch.rand(1, 3, 127, 127))]
        assert shapes == [(count, 15, 15) for count in channels]


def test_masks_are_asked_of_mask_models_only(clip):
    network = torch_runtime.TorchNetwork(made_up("siamrpn_alexnet_dw"))
    with pytest.raises(UserError, match="for masks take a SiamMask model"):
        network.draw((), np.zeros((1, 2), int))


def test_any_model_of_timm_can_be_a_trunk():
    pytest.importorskip("timm")
    values = {"backbone": {"name": "timm", "model": "resnet18", "stages": [2, 3, 4]}, "head": {"widths": [8, 8, 8]}}
    model = SiameseRPN(zoo.ModelConfig.model_validate(values)).eval()
    with torch.no_grad():
        prediction = model(torch.rand(1, 3, 127, 127), torch.rand(1, 3, 255, 255))
    assert prediction.cls.shape == (1, 10, 25, 25)


def smoke(name: str, training_folder: Path, folder: Path, *settings: str, device: str = "cpu", steps: int = 50):
    """Train a preset on tiny data and return the losses of each tenth."""
    preset = zoo.load(name, [
        f"train.data.root={training_folder}", "train.data.canvas=192", f"train.steps={steps}", "train.batch=2",
        "train.log_every=5", "train.optimizer.warmup_steps=5", "train.pretrained=''", *settings,
    ])  # fmt: skip
    Training(preset, folder, device).run()
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["kind"] == "train"]


@pytest.mark.parametrize("name", ["siamrpn_alexnet", "siamrpn_alexnet_dw"])
def test_fifty_steps_lower_the_loss_of_narrow_presets(name, training_folder, tmp_path):
    narrow = ("model.backbone.width=0.25", "model.head.widths=[64]", "train.optimizer.lr=0.01")
    losses = smoke(name, training_folder, tmp_path, *narrow)
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


SMALL_MASK = (
    "model.backbone={name: efficientnet_lite0, stages: [3]}", "model.head.widths=[32]", "train.sampling.tracks=0",
    "train.sampling.negative=0", 
    "train.optimizer={name: adamw, lr: 0.003, lr_end: 0.001, warmup_steps: 5, backbone_stages: [2, 3]}",
)  # fmt: skip


def test_both_stages_of_siammask_lower_their_losses(training_folder, tmp_path):
    losses = smoke("siammask_resnet50", training_folder, tmp_path / "one", *SMALL_MASK)
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    start = tmp_path / "one" / "last.safetensors"
    second = (*SMALL_MASK, "train.stage=refine", f"train.start={start}")
    refined = smoke("siammask_resnet50", training_folder, tmp_path / "two", *second)
    assert sum(refined[-3:]) < 0.8 * sum(refined[:3])
    before, _ = torch_runtime.read(start)
    after, _ = torch_runtime.read(tmp_path / "two" / "last.safetensors")
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"mask"}


if __name__ == "__main__":  # records the outputs
    names = [name for name in zoo.names() if name != "dasiamrpn_alexnet_big"]
    RECORDED.write_text(json.dumps({name: respond(made_up(name), name) for name in names}, indent=1) + "\n")
