"""The recipe on tiny data: it learns, it resumes exactly, it says what is wrong."""

import errno
import functools
import json
import re
import resource
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from siamtrack.cli.interrupt import until_interrupted
from siamtrack.data.augment import Batch
from siamtrack.data.index import read_index
from siamtrack.data.targets import Targets
from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.models.prediction import Prediction
from siamtrack.models.siamese import SiameseRPN, check_network
from siamtrack.runtimes.torch_runtime import read
from siamtrack.train.checkpoint import load_checkpoint, save_checkpoint
from siamtrack.train.config import OptimizerConfig, TrainConfig
from siamtrack.train.loop import Training
from siamtrack.train.memory import advice
from siamtrack.train.schedule import rate, set_frozen, trained_stages
from siamtrack.train.validation import held_clips

SETTINGS = (
    "model.backbone={name: alexnet, width: 0.1, stages: [5]}",
    "model.head={widths: [25], adjust: false}",
    "model.base_size=0",
    "model.search_size=191",
    "train.pretrained=''",
    "train.data.canvas=192",
    "train.batch=4",
    "train.log_every=2",
    "train.optimizer.backbone_stages=[5]",
)
WEIGHT = "rpn.cls.0.decode.3.weight"


@pytest.fixture(autouse=True)
def _no_page(request, monkeypatch):
    """Spare the second that the page at the end takes, but in its own test."""
    if "page" not in request.node.name:
        monkeypatch.setattr("siamtrack.train.loop.write_summary", lambda *given: None)


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
    values = "name: sgd, lr: 0.01, lr_end: 0.001, warmup_steps: 2, clip: 0.01, momentum: 0, weight_decay: 0"
    values += ", backbone_lr: 0.1, backbone_from: 0, backbone_stages: [5]"
    one = preset(training_folder, f"train.optimizer={{{values}}}", "train.steps=10")
    training = Training(one, tmp_path, "cpu")
    for step in range(3):
        before = {name: value.detach().clone() for name, value in training.model.named_parameters()}
        losses = training._train_step()
        training.step += 1
        lr = rate(step, 10, training.config.optimizer)
        assert [group["lr"] for group in training.optimizer.param_groups] == pytest.approx([0.1 * lr, lr])
        assert losses["gradient"] > 0.01
        moved = sum(
            ((value - before[name]) / (lr * (0.1 if name.startswith("backbone") else 1))).pow(2).sum()
            for name, value in training.model.named_parameters()
        )
        assert moved.sqrt().item() == pytest.approx(0.01, rel=0.02)  # the clipped norm


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
        "{name: sgd, lr: 0.02, lr_end: 0.01, backbone_stages: [5]}",
        "{name: adamw, lr: 0.003, lr_end: 0.001, backbone_stages: [5]}",
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
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert numbers["pairs_per_second"] > 0
    assert {path.suffix for path in (tmp_path / "run").iterdir()} >= {".safetensors", ".pt", ".jsonl"}
    assert any("tfevents" in path.name for path in (tmp_path / "run").iterdir())
    # What is saved is the average, without validation the last one.
    for file in ("best", "last"):
        weights, _ = read(tmp_path / "run" / f"{file}.safetensors")
        for name, value in training.average.state_dict().items():
            assert torch.equal(weights[name], value)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stopped_run_goes_on_exactly(training_folder, tmp_path, accumulate):
    settings = (
        f"train.accumulate={accumulate}",
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


def test_a_diverging_run_stops_and_keeps_what_was_saved(training_folder, tmp_path):
    settings = ("train.steps=8", "train.checkpoint_every=1", "train.guard=3", "train.log_every=1")
    training = Training(preset(training_folder, *settings), tmp_path, "cpu")
    kept = []

    def spoil(step, _):
        if step == 2:
            kept.extend([training.model.state_dict()[WEIGHT].clone(), (tmp_path / "checkpoint.pt").stat().st_mtime_ns])
            training.loader = Spoiled(training.loader)
        return True

    with pytest.raises(UserError, match="up to step 5, 3 steps in a row had a loss or gradient that is not finite"):
        training.run(spoil)
    assert torch.equal(training.model.state_dict()[WEIGHT], kept[0])
    assert Training(preset(training_folder, *settings), tmp_path, "cpu").step == 2
    assert [row["skipped"] for row in rows(tmp_path, "train")] == [0, 0, 1, 1]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(training_folder, tmp_path, name):
    values = f"{{name: {name}, lr: 0.01, lr_end: 0.001, backbone_stages: [5]}}"
    one = preset(training_folder, f"train.optimizer={values}", "train.steps=4", "train.log_every=4")
    training = Training(one, tmp_path, "cpu")
    sound, states, moved = training.loader, [state(training)], []

    def watch(step, _):
        states.append(state(training))
        moved.append(any(not torch.equal(value, states[-1][key]) for key, value in states[-2].items()))
        training.loader = Spoiled(sound) if step == 2 else sound
        return True

    training.loader = Spoiled(sound)  # the very first step too, when momentum has no value yet
    training.run(watch)
    assert moved == [False, True, False, True]
    (row,) = rows(tmp_path, "train")
    assert row["skipped"] == 2
    assert np.isfinite(list(row.values())[2:]).all()
    assert all(torch.isfinite(value).all() for value in states[-1].values())


class Spoiled:
    """A loader whose pictures are not numbers."""

    def __init__(self, loader):
        self.loader = loader

    def batch(self, number):
        batch = self.loader.batch(number)
        batch.search.fill_(float("nan"))
        return batch

    def close(self):
        self.loader.close()


def state(training):
    """Return copies of all that a step changes: weights, statistics and momenta."""
    tensors = {f"model.{k}": v for k, v in training.model.state_dict().items() if "num_batches" not in k}
    for number, values in training.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value for key, value in values.items() if value is not None}
    return {key: value.clone() for key, value in tensors.items()}


def test_parts_of_a_batch_have_the_gradient_of_their_mean(training_folder, tmp_path):
    settings = ("train.steps=4", "train.accumulate=2", "train.optimizer.clip=1e9")
    training = Training(preset(training_folder, *settings), tmp_path / "both", "cpu")
    weights = training.model.state_dict()
    expected = {}
    for number in range(2):
        alone = Training(preset(training_folder, *settings), tmp_path / "alone", "cpu")
        alone.model.load_state_dict(weights)
        alone.objective(alone._draw(number), alone.generator)["loss"].backward()
        for name, weight in alone.model.named_parameters():
            if weight.grad is not None:
                expected[name] = expected.get(name, 0) + weight.grad / 2
    training._train_step()
    assert expected
    for name, weight in training.model.named_parameters():
        assert (name in expected) == (weight.grad is not None)
        if name in expected:
            torch.testing.assert_close(weight.grad, expected[name])


def test_averaged_gradients_make_the_steps_of_summed_ones_by_other_settings():
    """The table of docs/training.md: PySOT's sum over N processes, with lr, clip and decay; ours with theirs."""
    generator = torch.Generator().manual_seed(0)
    parts, start = torch.randn(5, 3, 4, generator=generator), torch.randn(4, generator=generator)
    lr, clip, decay, count = 0.1, 2.0, 0.3, 3

    def descend(gradients, lr, clip, decay):
        weight = torch.nn.Parameter(start.clone())
        optimizer = torch.optim.SGD([weight], lr, 0.9, weight_decay=decay)
        for gradient in gradients:
            weight.grad = gradient.clone()
            torch.nn.utils.clip_grad_norm_([weight], clip)
            optimizer.step()
        return weight.detach()

    theirs = descend(parts.sum(1), lr, clip, decay)
    torch.testing.assert_close(
        descend(parts.mean(1), lr * count, clip / count, decay / count), theirs, rtol=1e-4, atol=1e-5
    )


def test_channels_last_and_compiled_networks_give_the_same_losses(training_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    plain = Training(preset(training_folder), tmp_path / "a", "cpu")._train_step()
    for number, setting in enumerate(("channels_last", "compile")):
        training = Training(preset(training_folder, f"train.{setting}=true"), tmp_path / str(number), "cpu")
        losses = training._train_step()
        for name, value in plain.items():
            torch.testing.assert_close(losses[name], value, rtol=1e-3, atol=1e-4)
    assert training.model._compiled_call_impl is not None


def test_a_batch_that_cannot_be_shared_out_is_refused(training_folder, tmp_path):
    with pytest.raises(UserError, match="1 processes x train.accumulate 3 are 3 parts; use 6"):
        Training(preset(training_folder, "train.accumulate=3"), tmp_path, "cpu")
    with pytest.raises(UserError, match="sync_batch_norm works on CUDA GPUs only"):
        Training(preset(training_folder, "train.sync_batch_norm=true"), tmp_path, "cpu")


def test_too_few_gpus_for_torchrun_are_named(training_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="4 processes on this machine, but torch sees 2 CUDA GPUs; use --nproc-per-nod"):
        Training(preset(training_folder), tmp_path, "cuda")
    with pytest.raises(UserError, match="--device cuda:1 is for one process; with torchrun give --device cuda"):
        Training(preset(training_folder), tmp_path, "cuda:1")


def test_memory_too_small_for_the_batch_says_what_fits(training_folder, tmp_path, monkeypatch):
    """A GPU of 1 GiB, half of it free, on which a pair takes 64 MiB and so 7 fit with a margin."""
    training = Training(preset(training_folder, "train.batch=24"), tmp_path, "cpu")
    mib = 2**20

    class Objective:
        largest = 0

        def __call__(self, batch, generator):
            count = len(batch.box)
            if count > 8:
                raise torch.OutOfMemoryError
            self.largest = max(self.largest, count)
            return {"loss": sum(weight.sum() for weight in training.trained)}

    network = training.objective = Objective()
    for name, value in {
        "empty_cache": lambda: None,
        "memory_allocated": lambda device: 512 * mib,
        "memory_reserved": lambda device: 512 * mib,
        "mem_get_info": lambda device: (512 * mib, 1024 * mib),
        "reset_peak_memory_stats": lambda device: None,
        "max_memory_allocated": lambda device: (512 + 64 * network.largest) * mib,
        "get_device_properties": lambda device: SimpleNamespace(total_memory=1024 * mib),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(training.accelerator, "unwrap_model", lambda model: model)
    said = "24 pairs at a time do not fit into the GPU's 1.0 GiB, about 7 would; use --set train.accumulate=4 "
    with pytest.raises(UserError, match=re.escape(said + "(the batch stays 24) or --set train.batch=7")):
        training.run()


@pytest.mark.parametrize(
    ("accumulate", "fitting", "said"),
    [
        (1, 10, "about 10 would; use --set train.accumulate=4 (the batch stays 64) or --set train.batch=20"),
        (2, 9, "about 9 would; use --set train.accumulate=4 (the batch stays 64) or --set train.batch=36"),
        (1, 0, "nor do 4; free memory on it, or take a smaller model or another GPU"),
    ],
)
def test_two_gpus_share_what_fits(accumulate, fitting, said):
    assert said in advice(64 // 2 // accumulate, 64, accumulate, fitting, 79.1)


def test_a_full_disk_leaves_the_checkpoint_before(training_folder, tmp_path):
    settings = ("train.steps=4", "train.checkpoint_every=2")
    training = Training(preset(training_folder, *settings), tmp_path, "cpu")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(step, _):
        if step == 3:  # from now on a write fails half-way through the file
            half = (tmp_path / "checkpoint.pt").stat().st_size // 2
            resource.setrlimit(resource.RLIMIT_FSIZE, (half, limit[1]))
        return True

    try:
        with pytest.raises(UserError, match=r"cannot write .*checkpoint.pt: "):
            training.run(fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list(tmp_path.glob(".*part*"))
    again = Training(preset(training_folder, *settings), tmp_path, "cpu")
    assert again.step == 2
    again.run()
    assert again.step == 4


def test_no_space_left_is_said(tmp_path, monkeypatch):
    def fail(values, file):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1, "model": {}, "optimizer": {}})
    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(UserError, match="cannot write .*checkpoint.pt: No space left on device"):
        save_checkpoint(path, {"step": 2, "model": {}, "optimizer": {}})
    monkeypatch.undo()
    assert load_checkpoint(path)["step"] == 1


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


MASKS = (
    "model.search_size=255",
    "model.backbone={name: resnet18, stages: [3]}",
    "model.head={widths: [16]}",
    "model.base_size=8",
    "train.optimizer.backbone_stages=[3]",
    "model.mask=true",
    "train.loss.mask=36",
)


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
    loss = training.objective._mask_loss(Branch(), prediction, batch, target.label, generator)
    assert sorted(asked[:2]) == [(0, 10, 17), (0, 11, 18)]  # the others do not count
    assert len(asked) == 2 * training.config.masks_per_pair
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


def test_a_run_ends_with_a_page_that_needs_nothing_beside_it(training_folder, sequences, tmp_path):
    settings = ("train.steps=4", "train.validation.every=2", f"train.validation.sequences={sequences}")
    training = Training(preset(training_folder, *settings), tmp_path, "cpu")
    sound = training.loader

    def spoil(step, _):
        training.loader = Spoiled(sound) if step == 1 else sound
        return True

    training.run(spoil)
    page = (tmp_path / "summary.html").read_text()
    assert "4 steps on cpu, a batch in 1 part;" in page
    assert "1 step skipped because the gradient was not finite" in page
    assert page.count("<svg") == 7
    assert all(title in page for title in ("Losses", "Learning rate", "Validation", "Skipped steps"))
    best = max(rows(tmp_path, "validation"), key=lambda row: row["sequences_auc"])
    assert f'<tr class="best"><td>{best["step"]}</td><td>{best["sequences_auc"]:.3f}</td>' in page
    assert "width: 0.1" in page  # a setting
    assert not re.search(r"(src|href)=.?https?:|<script|@import", page)


@pytest.mark.parametrize("name", [name for name in zoo.names() if not zoo.load(name).model.mask])
def test_every_recipe_trains_a_tiny_network(name, training_folder, tmp_path):
    """The train section of each preset, with its unfreezing, on another trunk; masks have tests of their own."""
    shipped = zoo.load(name)
    assert trained_stages(check_network(shipped.model, name), shipped.section("train", TrainConfig).optimizer)
    recipe = zoo.load(name, [*SETTINGS, f"train.data.root={training_folder}", "train.steps=2"])
    training = Training(recipe, tmp_path, "cpu")
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    numbers = training.run()
    assert np.isfinite(list(numbers.values())).all()
    assert numbers["skipped"] == 0
    moved = {name.split(".")[0] for name, value in training.model.state_dict().items() if (value != before[name]).any()}
    assert moved == {"backbone", "rpn"}


@pytest.mark.skip(reason="a signal raised late in a long run of tests ends the interpreter; cause not found yet")
@pytest.mark.parametrize(("sent", "by"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
@pytest.mark.parametrize("patient", [False, True])
def test_ctrl_c_and_sigterm_are_heard_once_or_with_patience_as_often_as_they_come(patient, sent, by):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with until_interrupted(patient) as interrupted:
        assert not interrupted()
        signal.raise_signal(sent)
        assert interrupted()
        assert interrupted.by == by
        if patient:
            signal.raise_signal(signal.SIGINT)
            assert interrupted()
        else:
            for again in (signal.SIGINT, signal.SIGTERM):
                with pytest.raises(KeyboardInterrupt):
                    signal.raise_signal(again)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
