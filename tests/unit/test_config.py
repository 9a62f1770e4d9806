import pytest

from siamtrack.config import override, read_yaml, validate
from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.models.config import ModelConfig
from siamtrack.tracking.shortterm import TrackingConfig
from siamtrack.train.config import TrainConfig


@pytest.mark.parametrize("name", zoo.names())
def test_every_shipped_preset_is_valid(name):
    preset = zoo.load(name)
    assert preset.name == name
    assert isinstance(preset.model, ModelConfig)
    preset.section("tracking", TrackingConfig)
    preset.section("train", TrainConfig)


def test_unknown_key_is_named_with_the_nearest():
    with pytest.raises(
        UserError, match=r"my.yaml: train: unknown key 'optimizer.warmup_step'; did you mean 'warmup_steps'"
    ):
        validate(TrainConfig, {"optimizer": {"warmup_step": 3}}, "my.yaml: train")


def test_wrong_value_is_named():
    with pytest.raises(UserError, match=r"x: lr: Input should be a valid number"):
        validate(TrackingConfig, {"lr": "fast"}, "x")


def test_sizes_that_do_not_fit_the_stride_say_the_rule():
    with pytest.raises(UserError, match=r"search_size 250 does not fit stride 8: \(size - 7\) / stride must be"):
        validate(ModelConfig, {"search_size": 250}, "x")


def test_response_is_25_cells_for_the_standard_sizes():
    assert ModelConfig().response_cells(255) == 25
    assert ModelConfig().response_cells(831) == 97


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


def test_a_preset_survives_its_weight_file():
    preset = zoo.load("siamrpnpp_lite")
    again = zoo.from_json(preset.to_json(), "file")
    assert again.model == preset.model
    assert again.section("tracking", TrackingConfig) == preset.section("tracking", TrackingConfig)
    assert "train" not in again.values
    with pytest.raises(UserError, match="not readable"):
        zoo.from_json("{", "file")
