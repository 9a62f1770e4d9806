"""The recipe on tiny data: it learns, it resumes exactly, it says what is wrong."""

import json

import pytest
import torch

from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.models.siamese import build
from siamtrack.train.config import OptimizerConfig
from siamtrack.train.loop import Training
from siamtrack.train.schedule import rate, set_frozen

SETTINGS = (
    "model.head.width=16",
    "model.backbone.stages=[3]",
    "train.pretrained=false",
    "train.data.canvas=192",
    "train.sampling.shares={}",
    "train.batch=4",
    "train.log_every=2",
    "train.optimizer.backbone_stages=[3]",
)


def preset(folder, *settings):
    return zoo.load("siamrpnpp_lite", [*SETTINGS, f"train.data.root={folder}", *settings])


def rows(folder, kind):
    return [row for row in map(json.loads, (folder / "log.jsonl").read_text().splitlines()) if row["kind"] == kind]


def test_rate_rises_then_falls_exponentially():
    config = OptimizerConfig(lr=0.01, lr_end=0.001, warmup_steps=10)
    rates = [rate(step, 110, config) for step in range(110)]
    assert rates[0] == pytest.approx(0.002)
    assert rates[10] == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0.001)
    assert rates[60] / rates[50] == pytest.approx(rates[100] / rates[90])


def test_the_trunk_is_frozen_first_and_its_early_stages_for_good():
    model = build(zoo.load("siamrpnpp_lite").model)
    config = OptimizerConfig(backbone_from=0.5, backbone_stages=(4, 5))
    assert not set_frozen(model, 49, 100, config)
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    assert not any(module.training for module in model.backbone.modules())
    assert model.neck.training
    assert set_frozen(model, 50, 100, config)
    trained = {
        number for number, stage in enumerate(model.backbone.stages, 1) for p in stage.parameters() if p.requires_grad
    }
    assert trained == {4, 5}
    assert not any(module.training for module in model.backbone.modules())


@pytest.mark.parametrize(
    "optimizer", ["{name: sgd, lr: 0.02, lr_end: 0.01}", "{name: adamw, lr: 0.003, lr_end: 0.001}"]
)
def test_fifty_steps_lower_the_loss(training_folder, tmp_path, optimizer):
    training = Training(
        preset(training_folder, "train.steps=50", f"train.optimizer={optimizer}", "train.optimizer.warmup_steps=5"),
        tmp_path / "run",
        "cpu",
    )
    numbers = training.run()
    losses = [row["loss"] for row in rows(tmp_path / "run", "train")]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert numbers["pairs_per_second"] > 0
    assert {path.suffix for path in (tmp_path / "run").iterdir()} >= {".safetensors", ".pt", ".jsonl"}
    assert any("tfevents" in path.name for path in (tmp_path / "run").iterdir())


def test_a_stopped_run_goes_on_exactly(training_folder, tmp_path):
    settings = (
        "train.steps=8",
        "train.checkpoint_every=4",
        "train.optimizer.backbone_from=0.6",
        "train.validation.every=3",
    )
    whole = Training(preset(training_folder, *settings), tmp_path / "whole", "cpu")
    whole.run()

    class Stop(Exception):
        pass

    def stop(step, _):
        if step == 6:  # two steps after the checkpoint
            raise Stop

    first = Training(preset(training_folder, *settings), tmp_path / "halves", "cpu")
    with pytest.raises(Stop):
        first.run(stop)
    second = Training(preset(training_folder, *settings), tmp_path / "halves", "cpu")
    assert second.step == 4
    second.run()
    for ours, theirs in ((whole.model, second.model), (whole.average, second.average)):
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name
    pick = lambda folder: [(r["step"], r["loss"]) for r in rows(tmp_path / folder, "train")]  # noqa: E731
    assert pick("whole") == pick("halves")
    assert whole.best == second.best


def test_resuming_another_preset_says_what_differs(training_folder, tmp_path):
    Training(preset(training_folder, "train.steps=1"), tmp_path, "cpu").run()
    with pytest.raises(UserError, match="train.batch was 4 and is 5"):
        Training(preset(training_folder, "train.steps=1", "train.batch=5"), tmp_path, "cpu")


def test_a_damaged_checkpoint_is_refused(training_folder, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a usable checkpoint"):
        Training(preset(training_folder), tmp_path, "cpu")


def test_validation_tracks_sequences_and_held_tracks(training_folder, sequences, tmp_path):
    settings = (
        "train.steps=4",
        "train.validation.every=2",
        "train.data.holdout=[clip]",
        f"train.validation.sequences={sequences}",
    )
    training = Training(preset(training_folder, *settings), tmp_path, "cpu")
    assert (training.index.track < 0).all()
    training.run()
    validations = rows(tmp_path, "validation")
    assert [row["step"] for row in validations] == [2, 4]
    for row in validations:
        for key in ("sequences_auc", "sequences_precision", "held_auc", "held_precision"):
            assert 0 < row[key] <= 1
    assert training.best == pytest.approx(max(row["held_auc"] for row in validations), abs=1e-5)


def test_missing_data_says_which_setting(tmp_path):
    with pytest.raises(UserError, match="add --set train.data.root=FOLDER"):
        Training(zoo.load("siamrpnpp_lite"), tmp_path, "cpu")
