import json
import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from siamtrack.config import validate
from siamtrack.errors import UserError
from siamtrack.evaluate.datasets import Dataset, read_dataset
from siamtrack.evaluate.scores import Scores
from siamtrack.evaluate.sequences import Sequence
from siamtrack.models import zoo
from siamtrack.search import outcome, study, workers
from siamtrack.search.frames import FrameMemory, RememberedSequence, decoded_size
from siamtrack.search.space import Parameter, SearchConfig, parameters, settings, with_values
from siamtrack.tracker import Tracker
from siamtrack.tracking.config import TrackingConfig
from siamtrack.tracking.state import TrackResult

LITE = zoo.load("siamrpnpp_lite").model
NEVER = bool  # a function that returns False


# --- the space


@pytest.mark.parametrize("name", zoo.names())
def test_every_shipped_preset_can_be_searched(name):
    preset = zoo.load(name)
    tracking = preset.section("tracking", TrackingConfig)
    found = parameters(preset.section("search", SearchConfig), tracking, preset.model)
    assert {"penalty_k", "window_influence", "lr", "search_size"} <= {each.key for each in found}
    assert ("longterm.low" in {each.key for each in found}) == (tracking.longterm is not None)
    assert ("mask_threshold" in {each.key for each in found}) == preset.model.mask
    for each in found:
        assert each.low <= each.own <= each.high
        if each.key == "search_size":
            for size in range(int(each.low), int(each.high) + 1, each.step):
                assert preset.model.response_cells(size) % 2 == 1


def resolve(config, tracking=None, **options):
    return parameters(
        validate(SearchConfig, config, "my.yaml: search"), TrackingConfig(**tracking or {}), LITE, **options
    )


def test_sizes_are_those_of_the_network():
    only = {"penalty_k": None, "window_influence": None, "lr": None}
    assert resolve({**only, "search_size": {"low": 240, "high": 300}}) == (
        Parameter("search_size", 255, 287, own=255, step=16),
    )
    with pytest.raises(UserError, match="takes no side from 256 to 260"):
        resolve({"search_size": {"low": 256, "high": 260}})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"penalti_k": {"low": 0, "high": 1}}, "unknown key 'penalti_k'; did you mean 'penalty_k'"),
        ({"lr": {"low": 0.5, "high": 0.2}}, "lr: low 0.5 must be below high 0.2"),
        ({"lr": {"low": 0, "high": 0.5, "log": True}}, "low 0 must be above 0 where log"),
        ({"lr": {"low": 0.5, "high": 0.6}}, "lr 0.5 to 0.6 does not hold the preset's own value 0.38"),
        ({"window_influence": {"low": 0.1, "high": 1.5}}, "window_influence: 1.5 should be less than or equal to 1"),
        ({"longterm": {"low": {"low": 0.1, "high": 0.9}}}, "the preset's tracking has no longterm"),
        ({"penalty_k": None, "window_influence": None, "lr": None, "search_size": None}, "nothing to search"),
    ],
)
def test_spaces_that_cannot_be_are_refused(config, said):
    with pytest.raises(UserError, match=said):
        resolve(config)


def test_values_reach_nested_sections():
    own = TrackingConfig(longterm={"low": 0.8})
    (low,) = (p for p in resolve({"longterm": {"low": {"low": 0.5, "high": 0.9}}}, {"longterm": {}}) if "." in p.key)
    assert (low.key, low.own) == ("longterm.low", 0.85)
    changed = with_values(own, {"longterm.low": 0.7, "lr": 0.25})
    assert (changed.longterm.low, changed.lr, changed.longterm.high) == (0.7, 0.25, own.longterm.high)
    assert settings({"longterm.low": 0.7, "search_size": 271}) == [
        "tracking.longterm.low=0.7",
        "tracking.search_size=271",
    ]


# --- a made-up tracker on made-up sequences


class Drifting:
    """Answers the first box, moved by how far its parameters are from the best; more in some sequences than others."""

    best_lr = 0.5

    def __init__(self, tracking):
        self.error = 30 * abs(tracking.lr - self.best_lr) + abs(tracking.penalty_k - 0.1)

    def init(self, frame, box):
        self.box = box

    def update(self, frame):
        return TrackResult(self.box + [self.error * (1 + self.box[1] / 100), 0, 0, 0], 0.5)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Ten videos of 3 frames; the last has two objects."""
    folder = tmp_path_factory.mktemp("made-up")
    sequences = []
    for number in range(10):
        paths = tuple(folder / str(number) / f"{index}.png" for index in range(3))
        paths[0].parent.mkdir()
        for path in paths:
            cv2.imwrite(str(path), np.zeros((100, 100, 3), np.uint8))
        sequences.append(Sequence(f"video{number}", paths, np.array([[20, 5 * number, 40, 40]] * 3, float)))
    sequences.append(replace(sequences[-1], name="video9b"))
    return Dataset("made-up", tuple(sequences))


def make_plan(dataset, folder, **changes):
    searched, held = study.split(dataset, 0.3, 0)
    tracking = zoo.load("siamrpnpp_lite").section("tracking", TrackingConfig)
    config = SearchConfig(window_influence=None, search_size=None)
    plan = study.Plan(
        folder, dataset, searched, held, "one-pass", "auc", parameters(config, tracking, LITE), tracking,
        trackers=lambda worker: Drifting, trials=8,
    )  # fmt: skip
    return replace(plan, **changes)


def run(plan, stop=NEVER):
    with study.alone(plan.folder):
        began = len(study.finished(study.prepare(plan, {"model": "made-up"})))
        study.search(plan, 0, stop)
    return began


def table(plan):
    return [(trial.params, trial.value) for trial in study.finished(study._open(plan))]


def stop_after(asked):
    calls = iter(range(asked))
    return lambda: next(calls, None) is None


def test_split_keeps_the_objects_of_a_video_together(dataset):
    searched, held = study.split(dataset, 0.3, 0)
    assert sorted((*searched, *held)) == sorted(sequence.name for sequence in dataset.sequences)
    assert len({name.removesuffix("b") for name in held}) == 3
    sides = [study.split(dataset, 0.3, seed) for seed in range(12)]
    assert all(("video9" in held) == ("video9b" in held) for _, held in sides)
    assert any("video9" in held for _, held in sides)
    assert study.split(dataset, 0.3, 0) == (searched, held) != study.split(dataset, 0.3, 1)
    assert len(study.split(dataset, 0.001, 0)[1]) == 1
    assert len(study.split(dataset, 0.999, 0)[0]) == 1


def test_what_cannot_be_split_is_refused(dataset):
    with pytest.raises(UserError, match="2 sequences of 1 video cannot be split"):
        study.split(Dataset("one", dataset.sequences[-2:]), 0.3, 0)
    with pytest.raises(UserError, match="--holdout 1: expected a share above 0 and below 1"):
        study.split(dataset, 1, 0)


def test_the_first_trial_is_the_presets_own_and_the_best_is_better(dataset, tmp_path):
    plan = make_plan(dataset, tmp_path, trials=12)
    assert run(plan) == 0
    trials = study.finished(study._open(plan))
    own, best = study.own_trial(trials), study.best_trial(trials)
    assert (len(trials), own.number, own.params) == (12, 0, {"penalty_k": 0.05, "lr": 0.38})
    assert best.value > own.value
    assert abs(best.params["lr"] - 0.5) < 0.12
    # The value is that of the protocol on the searched sequences, with the values as they will be written.
    tracker = Drifting(with_values(plan.tracking, plan.tuned(best)))
    results = study.run_sequences(plan, tracker, plan.sequences(plan.searched))
    total, each = study.values_of(plan, plan.searched, results)
    assert total == best.value
    assert each == [best.intermediate_values[number] for number in range(len(plan.searched))]


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_a_stopped_study_goes_on_as_if_it_had_not_been(dataset, tmp_path, sampler):
    whole = make_plan(dataset, tmp_path / "whole", sampler=sampler)
    run(whole)
    parts = make_plan(dataset, tmp_path / "parts", sampler=sampler)
    run(parts, stop_after(3))  # within the first trial
    assert table(parts) == []
    run(parts, stop_after(25))
    assert 0 < len(table(parts)) < 8
    assert run(parts) > 0
    assert len({str(values) for values, _ in table(parts)}) == 8
    if sampler == "tpe":
        assert table(parts) == table(whole)
    assert run(replace(parts, trials=10)) == 8
    assert len(table(parts)) == 10


def test_a_killed_trial_is_given_up(dataset, tmp_path):
    plan = make_plan(dataset, tmp_path, trials=2)
    with study.alone(tmp_path):
        study.prepare(plan, {"model": "made-up"})
        study._open(plan).ask()  # as if killed now
    run(plan)
    trials = study.finished(study._open(plan))
    assert len(trials) == 2
    assert study.own_trial(trials).params == {"penalty_k": 0.05, "lr": 0.38}


def test_workers_share_the_trials(dataset, tmp_path):
    plan = make_plan(dataset, tmp_path, trials=5, workers=2)
    study.prepare(plan, {})
    turns = []

    def stop():  # another worker runs to the end within this one's trials
        if not turns:
            turns.append(1)
            study.search(plan, 1, NEVER)
        return False

    study.search(plan, 0, stop)
    assert len(study.finished(study._open(plan))) == 5


def test_hopeless_trials_are_stopped_and_never_the_best(dataset, tmp_path):
    plan = make_plan(dataset, tmp_path, trials=30)
    run(plan)
    trials = study.finished(study._open(plan))
    stopped = [trial for trial in trials if "stopped_after" in trial.user_attrs]
    assert stopped
    for trial in stopped:
        assert trial.user_attrs["stopped_after"] == len(trial.intermediate_values) < len(plan.searched)
        before = study.best_trial(trials[: trial.number])  # it is worth the best before, less the mean loss
        losses = [before.intermediate_values[n] - value for n, value in trial.intermediate_values.items()]
        assert trial.value == pytest.approx(before.value - np.mean(losses))
        assert trial.value < before.value
    assert "stopped_after" not in study.best_trial(trials).user_attrs


def test_a_trial_that_loses_often_and_gains_much_is_not_stopped():
    trial = SimpleNamespace(should_prune=lambda: True)
    best = SimpleNamespace(intermediate_values={0: 0.5, 1: 0.5, 2: 0.5, 3: 0.5})
    at_best = SimpleNamespace(best_trial=best, best_value=0.6)
    assert study._hopeless(at_best, trial, {0: 0.4, 1: 0.4, 2: 0.4}) == pytest.approx(0.6 - 0.1)
    assert study._hopeless(at_best, trial, {0: 0.4, 1: 0.4, 2: 0.9}) is None


def test_another_study_in_the_folder_is_refused(dataset, tmp_path):
    plan = make_plan(dataset, tmp_path, trials=2)
    run(plan)
    with pytest.raises(UserError, match="holds another study: seed was 0 and is 1"):
        run(replace(plan, seed=1))
    with study.alone(tmp_path), pytest.raises(UserError, match="another search works in"):
        run(plan)
    (tmp_path / "journal.log").write_text("no journal\n{}\n")
    with pytest.raises(UserError, match="is damaged"):
        run(plan)


def test_an_unknown_objective_names_the_nearest(dataset, tmp_path):
    plan = make_plan(dataset, tmp_path)
    assert study.check_objective(plan, None, Drifting) == "auc"
    assert study.check_objective(plan, "precision", Drifting) == "precision"
    with pytest.raises(UserError, match="unknown objective 'precisoin'; did you mean 'precision'"):
        study.check_objective(plan, "precisoin", Drifting)


def test_a_figure_that_counts_failures_is_no_objective(dataset, tmp_path, monkeypatch):
    scores = Scores({"failures": 3.0, "accuracy": 0.5}, {})
    monkeypatch.setitem(study.PROTOCOLS, "one-pass", replace(study.PROTOCOLS["one-pass"], score=lambda *_: scores))
    plan = make_plan(dataset, tmp_path)
    assert study.check_objective(plan, None, Drifting) == "accuracy"
    with pytest.raises(UserError, match="unknown objective 'failures'; one-pass gives accuracy to raise"):
        study.check_objective(plan, "failures", Drifting)


def test_a_figure_that_only_a_whole_set_has(dataset, tmp_path, monkeypatch):
    own = study.PROTOCOLS["one-pass"]

    def score(data, run):
        """Return AUC as another figure, which takes 7 sequences, as EAO takes long ones."""
        value = own.score(data, run).mean["auc"]
        return Scores({"whole": value if len(data.sequences) >= 7 else math.nan}, {})

    monkeypatch.setitem(study.PROTOCOLS, "one-pass", replace(own, score=score))
    plan = make_plan(dataset, tmp_path, trials=6)
    plan = replace(plan, objective=study.check_objective(plan, "whole", Drifting))
    assert len(plan.held) < 7 <= len(plan.searched)
    run(plan)
    trials, found = conclude(plan)
    assert found.stopped == 0
    assert all(not trial.intermediate_values for trial in trials)
    assert found.searched.best > found.searched.own
    assert math.isnan(found.held.best)
    outcome.write_outcome(plan, trials, found, zoo.load("siamrpnpp_lite"), "siamrpnpp_lite")
    written = json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)
    assert written["held"] == {
        "sequences": len(plan.held),
        "own": None,
        "best": None,
        "better": 0,
        "worse": 0,
        "p": None,
    }
    assert written["searched"]["best"] == found.searched.best


# --- frames and batches


def test_frames_are_decoded_once_as_far_as_memory_goes(dataset, monkeypatch):
    read = []
    original = Sequence.frame
    monkeypatch.setattr(Sequence, "frame", lambda self, index: read.append(index) or original(self, index))
    sequence = dataset.sequences[0]
    memory = FrameMemory(2 * 100 * 100 * 3)  # two frames
    remembered = RememberedSequence.of(sequence, memory)
    for _ in range(3):
        frames = [remembered.frame(index) for index in range(3)]
    assert read == [0, 1, 2, 2, 2]
    assert not frames[0].flags.writeable
    assert np.array_equal(remembered.boxes, sequence.boxes)
    assert decoded_size([sequence, sequence]) == 2 * 3 * 30000


def test_a_batch_gives_what_single_sequences_give(sequences, tmp_path):
    both = read_dataset("folder", sequences, frames=4)
    plan = make_plan(both, tmp_path)
    tracker = Tracker().with_tracking(TrackingConfig(lr=0.3))
    single = study.run_sequences(plan, tracker, list(both.sequences))
    batch = study.run_sequences(replace(plan, batch=2), tracker, list(both.sequences))
    for name in ("boxes", "polygons"):
        np.testing.assert_allclose(batch[name][0].boxes, single[name][0].boxes, atol=1e-3)
    own = study.run_sequences(plan, Tracker(), list(both.sequences))
    assert not np.allclose(own["boxes"][0].boxes, single["boxes"][0].boxes, atol=1e-3)  # lr takes effect


def test_errors_of_workers_reach_the_caller(dataset, tmp_path):
    plan = make_plan(dataset, tmp_path, workers=2, trackers=study.Trackers("siamrpnpp_lite", "tpu"))
    study.prepare(plan, {})
    with pytest.raises(UserError, match="unknown device 'tpu'|needs PyTorch"):
        workers.run_workers(partial(study.search, plan), tmp_path, 2, NEVER)


def test_a_cluster_without_ray_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'siamtrack\[cluster\]'"):
        workers.run_on_cluster(print, tmp_path, 2, NEVER, "127.0.0.1:9", 1, False)


# --- the outcome


def conclude(plan):
    trials = study.finished(study._open(plan))
    runs = outcome.write_held_runs(plan, trials, {"device": "cpu"})
    outcome.track_held(plan, runs, 0, NEVER)
    return trials, outcome.conclude(plan, trials)


def test_the_best_preset_and_the_plot_are_written(dataset, tmp_path):
    plan = make_plan(dataset, tmp_path, trials=25)
    run(plan)
    trials, found = conclude(plan)
    assert found.trials == 25
    assert found.stopped > 0
    assert next(iter(found.importance)) == "lr"
    assert sum(found.importance.values()) == pytest.approx(1)
    assert found.held.best > found.held.own
    assert (found.held.sequences, found.held.worse) == (len(plan.held), 0)
    assert found.searched.p < 0.05
    written = outcome.write_outcome(plan, trials, found, zoo.load("siamrpnpp_lite"), "siamrpnpp_lite")
    assert {path.name for path in written} >= {"best.yaml", "importance.png", "result.json"}
    preset = zoo.load(str(tmp_path / "best.yaml"))
    assert preset.section("tracking", TrackingConfig) == with_values(plan.tracking, found.best)
    assert (preset.model, preset.values["train"]) == (LITE, zoo.load("siamrpnpp_lite").values["train"])
    assert cv2.imread(str(tmp_path / "importance.png")).std() > 5
    assert json.loads((tmp_path / "result.json").read_text())["best"] == found.best


def test_the_tuned_weights_track(sequences, tmp_path, dataset):
    pytest.importorskip("torch")
    found = outcome._write_weights(
        tmp_path / "best.safetensors", "siamrpnpp_lite", zoo.load("siamrpnpp_lite", ["tracking.lr=0.2"])
    )
    assert Tracker(found).tracking.lr == 0.2


def test_over_fitting_shows(dataset, tmp_path):
    plan = make_plan(dataset, tmp_path, trials=15)

    class Fitting(Drifting):
        """Best with one value on the sequences that are searched on, with another on the rest."""

        def __init__(self, tracking):
            self.tracking = tracking

        def init(self, frame, box):
            self.box = box
            names = [sequence.name for sequence in dataset.sequences if sequence.boxes[0, 1] == box[1]]
            self.error = 30 * abs(self.tracking.lr - (0.5 if names[0] in plan.searched else 0.3))

    plan = replace(plan, trackers=lambda worker: Fitting)
    run(plan)
    _, found = conclude(plan)
    assert found.searched.best > found.searched.own
    assert found.held.best < found.held.own
    assert found.held.better == 0


def test_the_own_parameters_may_be_the_best(dataset, tmp_path):
    plan = make_plan(dataset, tmp_path, trials=3)
    plan = replace(plan, trackers=lambda worker: partial(SimpleTracker, plan.tracking))
    run(plan)
    trials, found = conclude(plan)
    assert (found.trial, found.best) == (0, {"penalty_k": 0.05, "lr": 0.38})
    assert found.held.own == found.held.best
    assert math.isnan(found.held.p)
    assert found.importance == {}
    outcome.write_outcome(plan, trials, found, zoo.load("siamrpnpp_lite"), "siamrpnpp_lite")
    assert json.loads((tmp_path / "result.json").read_text())["held"]["p"] is None


def SimpleTracker(own, tracking):
    """Perfect with its own parameters only."""
    return Drifting(SimpleNamespace(lr=Drifting.best_lr if tracking == own else 0.8, penalty_k=0.1))
