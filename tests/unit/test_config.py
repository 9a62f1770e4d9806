import pytest

from siamtrack.config import override, read_yaml, validate
from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.models.config import ModelConfig
from siamtrack.models.siamese import check_network
from siamtrack.tracking.config import TrackingConfig, tracking_config
from siamtrack.train.config import TrainConfig

LITE = zoo.load("siamrpnpp_lite").model


@pytest.mark.parametrize("name", zoo.names())
def test_every_shipped_preset_is_valid(name):
    preset = zoo.load(name)
    assert preset.name == name
    tracking = tracking_config(preset)
    preset.section("train", TrainConfig)
    longterm = tracking.longterm.search_sizes if tracking.longterm else ()
    adaptive = (tracking.adaptive.search_size,) if tracking.adaptive else ()
    for size in (preset.model.search_size, tracking.search_size or 255, *longterm, *adaptive):
        assert preset.model.response_cells(size) % 2 == 1


def test_unknown_key_is_named_with_the_nearest():
    with pytest.raises(
        UserError, match=r"my.yaml: train: unknown key 'optimizer.warmup_step'; did you mean 'warmup_steps'"
    ):
        validate(TrainConfig, {"optimizer": {"warmup_step": 3}}, "my.yaml: train")


def test_wrong_value_is_named():
    with pytest.raises(UserError, match=r"x: lr: 'fast' should be a valid number"):
        validate(TrackingConfig, {"lr": "fast"}, "x")


def lite(**changes):
    return {**LITE.model_dump(), **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"search_size": 250}, r"search_size 250, template_size 127 and stride 8 do not fit"),
        ({"base_size": 7}, r"\+ 1 \+ base_size \(7\) must be a whole, odd number of cells"),
        ({"backbone": {"name": "efficientnet_lite0", "stages": []}}, "backbone.stages"),
        ({"backbone": {"name": "efficientnet_lite0", "stages": [3, 4]}}, "head.widths has 3 levels, backbone.stages 2"),
        (
            {"backbone": {"name": "efficientnet_lite0", "stages": [3, 4, 7]}},
            "stages 3, 4, 7: efficientnet_lite0 has 1 to 5",
        ),
        (
            {"backbone": {"name": "efficientnet_lite0", "stages": [1, 4, 5]}},
            "stage 1 of efficientnet_lite0 has stride 2",
        ),
        ({"backbone": {"name": "efficientnet_lite0", "stages": [3, 3, 4]}}, "rising"),
        ({"backbone": {"name": "timm", "stages": [1, 2, 3]}}, "key 'model' names timm's model"),
        ({"head": {"kind": "upchannel", "widths": [8, 8, 8]}}, "upchannel works on one level"),
        ({"anchors": {"ratios": []}}, "anchors.ratios"),
        ({"anchors": {"ratios": [0]}}, "anchors.ratios"),
        ({"template_cells": 2}, "template_cells"),
        ({"template_cells": 8}, "template_cells 8 must be odd"),
    ],
)
def test_networks_that_cannot_be_are_refused(changes, said):
    with pytest.raises(UserError, match=said):
        validate(ModelConfig, lite(**changes), "x")


def test_response_is_25_cells_for_the_standard_sizes():
    assert LITE.response_cells(255) == 25
    assert LITE.response_cells(831) == 97
    assert zoo.load("siamrpn_alexnet_dw").model.response_cells(287) == 21


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"targets": {"hard": 60}}, "positives 16 and hard 60 are more than total 64"),
        ({"loss": {"cls": 0, "loc": 0}}, "all weights of the loss are 0"),
        ({"seed": 99999999999999}, "seed"),
        ({"steps": 0}, "steps"),
    ],
)
def test_training_that_cannot_be_is_refused(changes, said):
    with pytest.raises(UserError, match=said):
        validate(TrainConfig, changes, "x")


def test_override_reads_yaml_and_leaves_the_original():
    values = {"train": {"steps": 5, "data": {"root": "a"}}}
    changed = override(values, ["train.steps=7", "train.data.root=b", "train.loss.quality=true", "name=x"])
    assert changed == {"train": {"steps": 7, "data": {"root": "b"}, "loss": {"quality": True}}, "name": "x"}
    assert values == {"train": {"steps": 5, "data": {"root": "a"}}}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("steps", "expected key=value"),
        ("=3", "expected key=value"),
        ("name.x=3", "'name' is a value"),
        ("a=[", "not a YAML"),
    ],
)
def test_override_says_what_is_wrong(setting, said):
    with pytest.raises(UserError, match=said):
        override({"name": "x"}, [setting])


@pytest.mark.parametrize(
    ("text", "said"), [("- 1", "holds list"), ("a: [", "not a YAML file"), (None, "there is no file")]
)
def test_read_yaml_says_what_is_wrong(tmp_path, text, said):
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_yaml(path)


def test_unknown_model_suggests_the_nearest():
    with pytest.raises(UserError, match="no model 'siamrpn_lite'; did you mean 'siamrpnpp_lite'"):
        zoo.load("siamrpn_lite")


def test_unknown_section_suggests_the_nearest():
    with pytest.raises(UserError, match="unknown key 'trian'; did you mean 'train'"):
        zoo.load("siamrpnpp_lite", ["trian.steps=3"])
    with pytest.raises(UserError, match="unknown key 3"):
        zoo._preset({3: 1}, "x")


def test_a_preset_survives_its_weight_file():
    preset = zoo.load("siamrpnpp_lite")
    again = zoo.from_json(preset.to_json(), "file")
    assert again.model == preset.model
    assert tracking_config(again) == tracking_config(preset)
    assert "train" not in again.values
    with pytest.raises(UserError, match="not readable"):
        zoo.from_json("{", "file")


def test_overrides_of_tracking_are_merged_section_by_section():
    preset = zoo.load("siamrpnpp_resnet50_lt")
    config = tracking_config(preset, {"longterm": {"high": 0.95}, "lr": 0.3})
    assert (config.longterm.low, config.longterm.high, config.lr) == (0.8, 0.95, 0.3)
    assert tracking_config(preset, {"longterm": None}).longterm is None
    assert tracking_config(zoo.load("siamrpnpp_lite"), {"distractors": {}}).distractors.strength == 0.5


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"search_size": 250}, "tracking: search_size: search_size 250, template_size 127 and stride 8 do not fit"),
        ({"search_size": 263}, "whole, odd"),
        ({"search_size": 64}, "do not fit"),
        ({"longterm": {"search_sizes": [255, 300]}}, r"longterm.search_sizes\[1\]: search_size 300"),
        ({"adaptive": {"search_size": 300}}, "adaptive.search_size: search_size 300"),
        ({"adaptive": {"serch_size": 287}}, "unknown key 'adaptive.serch_size'; did you mean 'search_size'"),
        ({"longterm": {"low": 0.9, "high": 0.2}}, "low 0.9 is above high 0.2"),
    ],
)
def test_tracking_that_does_not_fit_the_network_is_refused(over, said):
    with pytest.raises(UserError, match=said):
        tracking_config(zoo.load("siamrpnpp_lite"), over)


@pytest.mark.parametrize(
    ("preset", "settings", "said"),
    [
        ("siamrpn_alexnet", ["model.mask=true"], "mask needs a ResNet"),
        ("siamrpnpp_resnet50", ["model.backbone.width=2.0"], "resnet50 has no width"),
        ("siamrpnpp_mobilenetv2", ["model.backbone.width=0.001"], "leaves no channels"),
        ("siamrpnpp_lite", ["model.head.adjust=false"], "adjust: false is for alexnet"),
        ("siamrpn_alexnet_dw", ["model.head.widths=[128]"], "its parts do not fit"),
        ("siamrpn_alexnet_dw", ["model.base_size=8"], "has 17 cells a side, but .* promise 25"),
        ("siamrpnpp_lite", ["model.template_size=63"], "has 25 cells a side, but .* promise 33"),
        ("siamrpnpp_lite", ["model.template_size=31"], "do not fit|promise"),
    ],
)
def test_networks_whose_parts_do_not_fit_are_refused(preset, settings, said):
    with pytest.raises(UserError, match=said):
        check_network(zoo.load(preset, settings).model, preset)


def test_every_shipped_network_fits():
    for name in zoo.names():
        check_network(zoo.load(name).model, name)
