"""The recipe on tiny data: it learns, it resumes exactly, it says what is wrong."""

import json

import numpy as np
import pytest
import torch

from siamtrack.data.augment import Batch
from siamtrack.data.index import read_index
from siamtrack.data.targets import Targets
from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.models.prediction import Prediction
from siamtrack.models.siamese import SiameseRPN
from siamtrack.runtimes.torch_runtime import read
from siamtrack.train.config import OptimizerConfig, TrainConfig
from siamtrack.train.loop import Training
from siamtrack.train.schedule import rate, set_frozen
from siamtrack.train.validation import held_clips

SETTINGS = (
    "model.head.widths=[16]",
    "model.backbone.stages=[3]",
    "train.pretrained=''",
    "train.data.canvas=192",
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
    model = SiameseRPN(zoo.load("siamrpnpp_lite").model)
    config = TrainConfig(steps=100, optimizer=OptimizerConfig(backbone_from=0.5, backbone_stages=(4, 5)))
    set_frozen(model, 49, config)
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    assert not any(module.training for module in model.backbone.modules())
    assert model.neck.training
    assert all(parameter.requires_grad for parameter in model.rpn.parameters())
    set_frozen(model, 50, config)
    stages = model.backbone.stages()
    assert {n for n, stage in stages.items() if all(p.requires_grad for p in stage.parameters())} == {4, 5}
    assert {n for n, stage in stages.items() if any(p.requires_grad for p in stage.parameters())} == {4, 5}
    assert not any(module.training for module in model.backbone.modules())


def test_the_second_stage_trains_the_mask_branch_only():
    model = SiameseRPN(zoo.load("siammask_resnet50").model)
    set_frozen(model, 0, TrainConfig(stage="refine", start="x"))
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"mask"}
    assert {name.split(".")[0] for name, module in model.named_modules() if module.training} == {"mask"}


def test_a_step_has_the_rate_of_the_schedule_and_a_clipped_gradient(training_folder, tmp_path):
    values = "name: sgd, lr: 0.01, lr_end: 0.001, warmup_steps: 2, clip: 0.001, momentum: 0, weight_decay: 0"
    values += ", backbone_lr: 0.1, backbone_from: 0, backbone_stages: [3]"
    one = preset(training_folder, f"train.optimizer={{{values}}}", "train.steps=10")
    training = Training(one, tmp_path, "cpu")
    for step in range(3):
        before = {name: value.detach().clone() for name, value in training.model.named_parameters()}
        losses = training._train_step()
        training.step += 1
        lr = rate(step, 10, training.config.optimizer)
        assert [group["lr"] for group in training.optimizer.param_groups] == pytest.approx([0.1 * lr, lr])
        assert losses["gradient"] > 0.001
        moved = sum(
            ((value - before[name]) / (lr * (0.1 if name.startswith("backbone") else 1))).pow(2).sum()
            for name, value in training.model.named_parameters()
        )
        assert moved.sqrt().item() == pytest.approx(0.001, rel=0.02)  # the clipped norm


def test_the_average_moves_by_its_decay(training_folder, tmp_path):
    training = Training(preset(training_folder, "train.average=0.9", "train.steps=200"), tmp_path, "cpu")
    training.step = 150  # where the decay is not lowered any more
    before = {name: value.clone() for name, value in training.average.state_dict().items()}
    training._train_step()
    ours, theirs = training.average.state_dict(), training.model.state_dict()
    for name in ("rpn.cls.0.decode.3.weight", "rpn.cls.0.search.1.running_mean"):
        assert not torch.equal(ours[name], before[name])
        torch.testing.assert_close(ours[name], 0.9 * before[name] + 0.1 * theirs[name])


def test_quality_makes_the_score_an_overlap(training_folder, tmp_path):
    losses = []
    for number, quality in enumerate(("true", "false")):
        one = preset(training_folder, f"train.loss.quality={quality}")
        losses.append(Training(one, tmp_path / str(number), "cpu")._train_step())
    assert losses[0]["loc"] == losses[1]["loc"]
    assert losses[0]["cls"] != losses[1]["cls"]


@pytest.mark.parametrize(
    "optimizer",
    [
        "{name: sgd, lr: 0.02, lr_end: 0.01, backbone_stages: [3]}",
        "{name: adamw, lr: 0.003, lr_end: 0.001, backbone_stages: [3]}",
    ],
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
    # What is saved is the average, without validation the last one.
    for file in ("best", "last"):
        weights, _ = read(tmp_path / "run" / f"{file}.safetensors")
        for name, value in training.average.state_dict().items():
            assert torch.equal(weights[name], value)


def test_a_stopped_run_goes_on_exactly(training_folder, tmp_path):
    settings = (
        "train.steps=8",
        "train.checkpoint_every=4",
        "train.optimizer.backbone_from=0.6",
        "train.validation.every=3",
    )
    whole = Training(preset(training_folder, *settings), tmp_path / "whole", "cpu")
    whole.run()

    class Crash(Exception):
        pass

    def crash(step, _):
        if step == 6:  # two steps after the checkpoint
            raise Crash
        return True

    first = Training(preset(training_folder, *settings), tmp_path / "halves", "cpu")
    with pytest.raises(Crash):
        first.run(crash)
    with (tmp_path / "halves" / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "ki')  # cut off in the middle of a line
    second = Training(preset(training_folder, *settings), tmp_path / "halves", "cpu")
    assert second.step == 4
    second.run()
    for ours, theirs in ((whole.model, second.model), (whole.average, second.average)):
        for name, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[name]), name
    pick = lambda folder: [(r["step"], r["loss"]) for r in rows(tmp_path / folder, "train")]  # noqa: E731
    assert pick("whole") == pick("halves")
    assert whole.best == second.best


def test_a_run_that_is_asked_to_stop_saves_first(training_folder, tmp_path):
    training = Training(preset(training_folder, "train.steps=8"), tmp_path, "cpu")
    training.run(lambda step, numbers: step < 3)
    assert Training(preset(training_folder, "train.steps=8"), tmp_path, "cpu").step == 3


def test_a_diverging_run_stops_and_says_so(training_folder, tmp_path):
    wild = "train.optimizer={name: sgd, lr: 1.0e+30, lr_end: 1.0e+30, warmup_steps: 0, backbone_stages: [3]}"
    training = Training(preset(training_folder, "train.steps=8", wild), tmp_path, "cpu")
    with pytest.raises(UserError, match="diverged before step 2: the loss is nan; try a lower"):
        training.run()
    assert not (tmp_path / "best.safetensors").exists()


def test_best_is_the_best_and_not_the_last(training_folder, sequences, tmp_path, monkeypatch):
    scores = iter([0.3, 0.5, 0.4])
    monkeypatch.setattr("siamtrack.train.loop.validate", lambda core, clips: {"auc": next(scores), "precision": 0.0})
    settings = ("train.steps=6", "train.validation.every=2", f"train.validation.sequences={sequences}")
    training = Training(preset(training_folder, *settings), tmp_path, "cpu")
    kept = {}

    def watch(step, _):
        kept[step] = training.average.state_dict()["rpn.cls.0.decode.3.weight"].clone()
        return True

    training.run(watch)
    weights, _ = read(tmp_path / "best.safetensors")
    assert training.best == 0.5
    assert torch.equal(weights["rpn.cls.0.decode.3.weight"], kept[4])
    assert not torch.equal(kept[4], kept[6])


def test_how_a_run_is_watched_may_change(training_folder, sequences, tmp_path):
    Training(preset(training_folder, "train.steps=2"), tmp_path, "cpu").run()
    again = preset(training_folder, "train.steps=2", f"train.validation.sequences={sequences}", "train.log_every=1")
    assert Training(again, tmp_path, "cpu").best == float("-inf")  # so that the first validation is the best


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


def test_held_tracks_wander_with_their_boxes(training_folder):
    index = read_index(training_folder)
    _, held = index.split(["clip"])
    (clip,) = held_clips(held, 192, seed=0)
    assert len(clip.frames) == 8
    original = held.box[:, :2]
    assert np.abs(np.diff(clip.boxes[:, :2], axis=0)).max() > 4  # it does move
    for frame, box, old in zip(clip.frames, clip.boxes, held.box, strict=True):
        x, y, w, h = box.round().astype(int)
        patch = frame[y : y + h, x : x + w].astype(int)
        assert patch.shape == (40, 40, 3)
        reference = np.load(training_folder / "patch.npy").astype(int)
        assert np.abs(patch - reference).max() == 0, (box, old)
    frames = [held.pictures[p].frame for p in held.picture]
    assert frames == sorted(frames)
    assert original.shape == (8, 2)


def test_missing_data_says_which_setting(tmp_path):
    with pytest.raises(UserError, match="add --set train.data.root=FOLDER"):
        Training(zoo.load("siamrpnpp_lite"), tmp_path, "cpu")


def test_a_start_and_a_stage_need_each_other(training_folder, tmp_path):
    with pytest.raises(UserError, match="needs a model with masks and train.start"):
        Training(preset(training_folder, "train.stage=refine"), tmp_path, "cpu")
    with pytest.raises(UserError, match="there is no file no.safetensors"):
        Training(preset(training_folder, "train.start=no.safetensors"), tmp_path, "cpu")
    with pytest.raises(UserError, match="there is no file no.pth"):
        Training(preset(training_folder, "train.pretrained=no.pth"), tmp_path, "cpu")


MASKS = ("model.backbone={name: resnet18, stages: [3]}", "model.mask=true", "train.loss.mask=36")


def test_masks_are_asked_of_positive_cells_of_objects_that_have_one(training_folder, tmp_path):
    training = Training(preset(training_folder, *MASKS), tmp_path, "cpu")
    asked = []

    class Branch:
        def coarse(self, context, owner, row, column):
            asked.extend(zip(owner.tolist(), row.tolist(), column.tolist(), strict=True))
            return torch.full((len(owner), 127, 127), 9.0)

    label = torch.full((2, 5, 25, 25), -1)
    label[:, 3, 10, 17] = label[:, 1, 11, 18] = 1
    label[:, 2, 4, 5] = 0
    target = Targets(label.reshape(2, -1), torch.zeros(2, 4, 3125), torch.zeros(2, 3125))
    mask = torch.ones(2, 255, 255)
    mask[:, :60] = 0
    batch = Batch(*(torch.zeros(2, 4),) * 4, mask, torch.tensor([True, False]))
    prediction = Prediction(torch.zeros(0), torch.zeros(0), (torch.zeros(0),))
    generator = torch.Generator().manual_seed(0)
    loss = training._mask_loss(Branch(), prediction, batch, target, generator)
    assert sorted(asked) == [(0, 10, 17), (0, 11, 18)]
    # Certain of the object everywhere; cells of rows 10 and 11 see the picture from rows 48 and 56 on.
    assert loss.item() == pytest.approx(9 * (12 + 4) / 2 / 127, abs=1e-3)


def test_the_second_stage_learns_from_masks_alone(training_folder, tmp_path):
    first = Training(preset(training_folder, *MASKS, "train.steps=2"), tmp_path / "one", "cpu")
    first.run()
    start = f"train.start={tmp_path / 'one' / 'last.safetensors'}"
    second = Training(preset(training_folder, *MASKS, start, "train.stage=refine"), tmp_path / "two", "cpu")
    losses = second._train_step()
    assert losses["loss"] == pytest.approx(36 * losses["mask"])
    for settings, said in ((("train.loss.mask=0",), "train.loss.mask above 0"), ((), "training data with masks")):
        if not settings:
            lines = (training_folder / "index.jsonl").read_text().splitlines()
            bare = tmp_path / "bare"
            bare.mkdir()
            for shard in training_folder.glob("*.tar"):
                (bare / shard.name).symlink_to(shard)
            for line in (records := [json.loads(line) for line in lines]):
                for each in line["objects"]:
                    each["mask"] = None
            (bare / "index.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
            settings = (f"train.data.root={bare}",)
        with pytest.raises(UserError, match=said):
            Training(preset(training_folder, *MASKS, start, "train.stage=refine", *settings), tmp_path / "x", "cpu")


def test_a_stage_that_the_trunk_does_not_have_is_refused(training_folder, tmp_path):
    with pytest.raises(UserError, match="the trunk has no stage 9; it has"):
        Training(preset(training_folder, "train.optimizer.backbone_stages=[9]"), tmp_path, "cpu")
