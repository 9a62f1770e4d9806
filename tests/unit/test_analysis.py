"""The paper's figures: what is measured shows what it should, on networks made by hand and on tiny ones."""

import json

import numpy as np
import pytest
import torch
import yaml
from tests.conftest import wandering_square
from typer.testing import CliRunner

from siamtrack.analysis import centre_bias, channels, correlation, layers, page, shift
from siamtrack.analysis.clips import OFFSET, Clip, OffCentreCore, read_clips, search_patches, success, template_patch
from siamtrack.analysis.experiment import Experiment, Stopped
from siamtrack.cli.main import app
from siamtrack.errors import UserError
from siamtrack.evaluate.datasets import read_dataset
from siamtrack.models import zoo
from siamtrack.models.prediction import Prediction
from siamtrack.models.siamese import SiameseRPN
from siamtrack.runtimes import torch_runtime
from siamtrack.tracking.config import TrackingConfig
from siamtrack.tracking.core import TrackerCore

SMALL = ("model.backbone.stages=[3]", "model.head.widths=[16]")
TINY = (*SMALL, "train.pretrained=''", "train.data.canvas=192", "train.batch=2", "train.optimizer.backbone_stages=[3]")
LITE = zoo.load("siamrpnpp_lite").model
CELLS = LITE.response_cells(LITE.search_size)


@pytest.fixture(scope="module")
def clips(sequences):
    return read_clips(read_dataset("folder", sequences).sequences)


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    """A .safetensors file with two levels."""
    torch.manual_seed(0)
    preset = zoo.load("siamrpnpp_lite", ["model.backbone.stages=[3, 4]", "model.head.widths=[16, 16]"])
    model = SiameseRPN(preset.model)
    model.rpn.cls_weight.data[:] = torch.tensor([0.0, np.log(3.0)])
    path = tmp_path_factory.mktemp("model") / "two.safetensors"
    torch_runtime.save(path, model, preset)
    return path


class Finder:
    """A network made by hand: foreground where the white square is, weighed by a preference for the centre."""

    def __init__(self, preference: np.ndarray) -> None:
        self.preference = preference

    def template(self, patches):
        return (np.zeros((len(patches), 1)),)

    def search(self, patches, features):
        assert len(features[0]) == len(patches)
        white = np.stack([self._peak(patch[..., 0] > 127) for patch in patches]) * self.preference
        white = np.clip(white, 1e-9, 1 - 1e-6)
        logits = np.log(white / (1 - white))
        anchors = LITE.anchors.per_cell
        cls = np.zeros((len(patches), 2 * anchors, CELLS, CELLS))
        cls[:, anchors:] = -30
        cls[:, anchors + 2] = logits  # one anchor has it
        return Prediction(cls, np.zeros((len(patches), 4 * anchors, CELLS, CELLS)))

    @staticmethod
    def _peak(white):
        """A bell of a cell's width about the middle of what is white; nothing where nothing is."""
        if not white.any():
            return np.zeros((CELLS, CELLS))
        row, column = ((each.mean() + 0.5 - LITE.search_size / 2) / 8 + CELLS // 2 for each in np.nonzero(white))
        y, x = np.mgrid[:CELLS, :CELLS]
        return np.exp(-((y - row) ** 2 + (x - column) ** 2) / 2)


def white_square(count=40):
    """Clips of a white square on black, in different places."""
    made = []
    for number in range(3):
        image = np.zeros((300, 300, 3), np.uint8)
        x, y = 100 + 20 * number, 120
        image[y : y + 24, x : x + 24] = 255
        made.append(Clip(f"square-{number}", [image] * count, np.tile([x, y, 24.0, 24.0], (count, 1))))
    return made


def test_a_network_without_preference_has_the_share_of_the_targets_and_a_biased_one_more():
    row = np.arange(CELLS) - CELLS // 2
    preferences = {"none": np.ones((CELLS, CELLS)), "centre": np.exp(-(row[:, None] ** 2 + row**2) / 18.0)}
    clips = white_square()
    found = {name: centre_bias.respond(Finder(each), LITE, clips) for name, each in preferences.items()}
    targets = found["none"].targets
    assert len(targets) == 96  # 32 frames of each
    assert np.abs(targets).max() <= OFFSET
    np.testing.assert_array_equal(targets, found["centre"].targets)
    there = (np.abs(targets).max(1) < centre_bias.CENTRAL / 2 * 8).mean()
    share = {name: centre_bias.central_share(each.maps.mean(0)) for name, each in found.items()}
    assert share["none"] == pytest.approx(there, abs=0.03)
    assert share["centre"] > 2 * share["none"]
    # Without preference the peak is on the target wherever it is.
    assert centre_bias.found_by_distance(found["none"], 8) == [1, 1, 1, 1]


def test_only_the_middle_is_found_by_a_network_that_looks_nowhere_else():
    middle = np.zeros((CELLS, CELLS))
    middle[CELLS // 2, CELLS // 2] = 1
    found = centre_bias.found_by_distance(centre_bias.respond(Finder(middle), LITE, white_square()), 8)
    assert found[0] == 1
    assert found[2:] == [0, 0]


def test_share_of_the_centre_follows_its_definition():
    heat = np.zeros((25, 25))
    heat[10:15, 10:15] = 1
    heat[0, :25] = 1
    assert centre_bias.central_share(heat) == 0.5
    assert centre_bias.central_share(np.ones((25, 25))) == pytest.approx(25 / 625)


def test_search_regions_have_the_target_where_it_is_wanted():
    clip = white_square()[0]
    targets = np.array([[0.0, 0.0], [40.0, -24.0]])
    patches = search_patches(clip, LITE, np.array([1, 2]), targets)
    for patch, target in zip(patches, targets, strict=True):
        row, column = np.nonzero(patch[..., 0] > 127)
        assert [column.mean() + 0.5, row.mean() + 0.5] == pytest.approx(target + LITE.search_size / 2, abs=0.6)
    assert template_patch(clip, LITE).shape == (1, 127, 127, 3)


def test_off_centre_moves_every_search_region_and_gives_the_same_answers_again():
    clips = white_square(6)
    config = TrackingConfig(window_influence=0)
    seen = []

    class Noting(Finder):
        def search(self, patches, features):
            row, column = np.nonzero(patches[0, ..., 0] > 127)
            seen.append((column.mean() - 127, row.mean() - 127))
            return super().search(patches, features)

    flat = np.ones((CELLS, CELLS))
    plain = success(TrackerCore(Finder(flat), LITE, config), clips)
    core = OffCentreCore(Noting(flat), LITE, config)
    moved = success(core, clips)
    first = np.array(seen)
    assert np.ptp(first[:, 0]) > 20  # the target is somewhere else in each region
    seen.clear()
    assert success(core, clips) == moved
    np.testing.assert_array_equal(seen, first)
    # A network without preference loses little; one that looks into the middle only loses the target.
    assert moved > 0.7 * plain
    middle = np.zeros((CELLS, CELLS))
    middle[11:14, 11:14] = 1
    assert success(OffCentreCore(Finder(middle), LITE, config), clips) < 0.6 * moved


def test_levels_without_weight_do_not_count():
    torch.manual_seed(1)
    model = SiameseRPN(zoo.load("siamrpnpp_lite", ["model.head.widths=[8, 8, 8]"]).model).eval()
    model.rpn.cls_weight.data[:] = torch.tensor([1.0, 2.0, 3.0])
    z, x = torch.rand(1, 3, 127, 127) * 255, torch.rand(1, 3, 255, 255) * 255
    with torch.no_grad():
        features, kernels = model.features(x)[0], model.template(z)
        cls, loc, _ = layers.only_levels(model, (1,)).search(x, kernels)
        torch.testing.assert_close(cls, model.rpn.cls[1](features[1], kernels[1]))
        torch.testing.assert_close(loc, model.rpn.loc[1](features[1], kernels[4]))
        pair, _, _ = layers.only_levels(model, (0, 2)).search(x, kernels)
        shares = torch.tensor([1.0, 3.0]).softmax(0)
        each = [model.rpn.cls[level](features[level], kernels[level]) for level in (0, 2)]
        torch.testing.assert_close(pair, shares[0] * each[0] + shares[1] * each[1])
    assert model.rpn.cls_weight.tolist() == [1, 2, 3]
    assert layers.learned_weights(model)["regression"] == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("DAVIS-car-shadow", "car"),
        ("UAV123_10fps-person11", "person"),
        ("VOT2014-bolt", "person"),
        ("SegTrack2-frog", "animal"),
        ("carpet", "other"),
    ],
)
def test_categories_are_read_from_names(name, category):
    assert channels.category_of(name) == category


def test_channels_that_tell_categories_apart_are_found():
    rng = np.random.default_rng(0)
    names = ["car"] * 6 + ["person"] * 6
    informative = rng.normal(10, 0.1, (12, 8))
    informative[:6, 2] += 5
    informative[6:, 5] += 5
    values = channels.standardise(informative)
    assert np.abs(values.mean(0)).max() < 1e-9
    assert values[:6, 2].min() > 0.9
    noise = channels.standardise(rng.normal(10, 0.1, (12, 8)))
    assert channels.explained(values, names) > channels.explained(noise, names) + 0.1
    assert channels.leave_one_out(values, names) == (1.0, 0.5)
    assert channels.leave_one_out(values, [*"abcdefghijkl"]) == (None, None)


def test_all_figures_by_command(sequences, training_folder, small_model, tmp_path, monkeypatch):
    monkeypatch.setattr(correlation, "_REPEATS", 2)
    names = ["boxes", "polygons"]
    categories = tmp_path / "categories.yaml"
    categories.write_text(yaml.safe_dump(dict(zip(names, ("car", "person"), strict=True))))
    out = tmp_path / "out"
    words = ["analyze", *page.FIGURES, "--dataset", str(sequences), "--data", str(training_folder), "--out", str(out)]
    words += ["--steps", "2", "--shifts", "64,0", "--frames", "3", "--categories", str(categories)]
    words += ["--model", str(small_model), *(word for each in TINY for word in ("--set", each))]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {
        "runs",
        "index.html",
        *(f"{name}.{suffix}" for name in page.FIGURES for suffix in ("svg", "png", "json")),
    }
    read = {name: json.loads((out / f"{name}.json").read_text())["numbers"] for name in page.FIGURES}
    assert list(read["centre-bias"]["shifts"]) == list(read["shift"]["shifts"]) == ["0", "64"]
    assert np.shape(read["centre-bias"]["shifts"]["0"]["heat"]) == (25, 25)
    assert all(0 <= value <= 1 for each in read["shift"]["shifts"].values() for (value,) in each.values())
    assert list(read["layers"]["auc"]) == ["3", "4", "3 + 4"]
    assert read["layers"]["weights"]["classification"] == pytest.approx([0.25, 0.75])
    heads = read["correlation"]["heads"]
    assert heads["upchannel"]["head_parameters"] > 4 * heads["depthwise"]["head_parameters"]
    assert {name: each["sequences"] for name, each in read["channels"]["categories"].items()} == {"car": 1, "person": 1}
    text = (out / "index.html").read_text()
    assert text.count("<section") == 5
    assert text.count("data:image/svg+xml;base64,") == 5

    # What is trained is not trained again, and needs no training data; other settings are refused.
    runs = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/last.safetensors")}
    assert {path.parent.name for path in runs} == {
        *("shift-0-seed-0", "shift-64-seed-0", "correlation-depthwise-seed-0", "correlation-upchannel-seed-0")
    }
    again = [word for word in words if word not in page.FIGURES]
    place = again.index("--data")
    again = [again[0], "shift", *again[1:place], *again[place + 2 :]]
    assert CliRunner().invoke(app, again, catch_exceptions=False).exit_code == 0
    assert runs == {path: path.stat().st_mtime_ns for path in out.glob("runs/*/last.safetensors")}
    changed = [word if word != "train.batch=2" else "train.batch=3" for word in again]
    with pytest.raises(UserError, match=r"other settings \(train.batch=2; now: train.batch=3\)"):
        CliRunner().invoke(app, changed, catch_exceptions=False)


def test_layers_can_be_trained_apart(clips, training_folder, tmp_path):
    settings = (*TINY, "model.backbone.stages=[3, 4]", "model.head.widths=[8, 8]")
    experiment = Experiment(tmp_path, clips, training_folder, settings=settings, steps=1, train=True)
    numbers = layers.measure(experiment)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        *("layers-all-seed-0", "layers-3-seed-0", "layers-4-seed-0")
    }
    assert numbers["trained_apart"]
    assert "trained for each choice" in layers.describe(numbers).method


def test_a_stopped_training_goes_on(clips, training_folder, tmp_path):
    from contextlib import contextmanager

    @contextmanager
    def impatient(title, total):
        yield lambda done: done < 2

    experiment = Experiment(tmp_path, clips, training_folder, settings=TINY, steps=4, shifts=(0,), watched=impatient)
    with pytest.raises(Stopped):
        shift.measure(experiment)
    folder = tmp_path / "runs" / "shift-0-seed-0"
    assert not (folder / "analysis.json").exists()
    done = []

    @contextmanager
    def noting(title, total):
        yield lambda step: done.append(step) or True

    experiment.watched = noting
    experiment.train_model("shift-0", "train.sampling.search.shift=0")
    assert done == [3, 4]
    assert not (folder / "checkpoint.pt").exists()


def test_spread_is_the_deviation_of_the_sample():
    from siamtrack.analysis.section import spread

    assert spread([0.5]) == "0.500"
    assert spread([0.4, 0.6]) == "0.500 ± 0.141"


def test_heads_on_one_trunk_differ_in_the_head_only():
    config = zoo.load("siamrpnpp_lite", SMALL).model
    deep, up = (correlation.sizes(correlation._with_head(config, kind)) for kind in ("depthwise", "upchannel"))
    assert deep["parameters"] - deep["head_parameters"] == up["parameters"] - up["head_parameters"]
    # Two 3x3 convolutions with bias for all outputs (SiamRPN, section 3.2), two for the search, and the last 1x1.
    assert up["head_parameters"] == 9 * 16 * 16 * 30 + 16 * 30 + 2 * (9 * 16 * 16 + 16) + 20 * 20 + 20


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shifts", "0,x"], "--shifts '0,x': expected different whole numbers"),
        (["--shifts", "0,0"], "expected different whole numbers"),
        (["--set", "train.steps=3"], "are the options --steps"),
        (["--preset", "siamrpnpp_light"], "there is no model 'siamrpnpp_light'; did you mean"),
        (["--device", "cuda:99"], "device cuda:99"),
        ([], "shift-0-seed-0 is not trained yet; give --data"),
        (["--data", "nowhere"], "nowhere"),
        (["--sequence", "box"], "has no sequence 'box'; did you mean 'boxes'"),
    ],
)
def test_wrong_input_is_one_sentence(words, said, sequences, tmp_path):
    command = ["analyze", "centre-bias", "--dataset", str(sequences), "--out", str(tmp_path / "out"), *words]
    with pytest.raises(UserError, match=said) as error:
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert "\n" not in str(error.value)


def test_figures_that_cannot_be_measured_say_why(clips, small_model, tmp_path):
    with pytest.raises(UserError, match="at least two categories"):
        channels.measure(Experiment(tmp_path, clips, model=str(small_model)))
    with pytest.raises(UserError, match="'boxs', which is no sequence; did you mean 'boxes'"):
        channels.measure(Experiment(tmp_path, clips, model=str(small_model), categories={"boxs": "car"}))
    with pytest.raises(UserError, match="the weights of siamrpn_alexnet are not in the package"):
        layers.measure(Experiment(tmp_path, clips, model="siamrpn_alexnet"))
    one = tmp_path / "one.safetensors"
    preset = zoo.load("siamrpnpp_lite", SMALL)
    torch_runtime.save(one, SiameseRPN(preset.model), preset)
    with pytest.raises(UserError, match="correlates a single level"):
        layers.measure(Experiment(tmp_path, clips, model=str(one)))
    (tmp_path / "shift.json").write_text("{}")
    with pytest.raises(UserError, match="shift.json or its .svg is not as this version writes it"):
        page.write_page(tmp_path)


def test_sequences_that_cannot_be_used_are_refused(sequences, monkeypatch):
    chosen = read_dataset("folder", sequences, ("boxes",), 1).sequences
    with pytest.raises(UserError, match="fewer than two frames with a box"):
        read_clips(chosen)
    monkeypatch.setattr("siamtrack.analysis.clips._MOST", 1000)
    with pytest.raises(UserError, match="lower --frames"):
        read_clips(read_dataset("folder", sequences).sequences)


def test_absent_frames_are_not_looked_at():
    images, boxes = wandering_square(5)
    boxes[2] = np.nan
    frames = centre_bias.sampled_frames(Clip("square", images, boxes))
    assert frames.tolist() == [1, 3, 4]
