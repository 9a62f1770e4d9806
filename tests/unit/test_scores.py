"""Scores of made-up runs: by hand, by slow definitions, and of runs that do not fit."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrack.errors import UserError
from siamtrack.evaluate.answers import overlaps_of, overlaps_within
from siamtrack.evaluate.datasets import Dataset
from siamtrack.evaluate.protocols import PROTOCOLS, got10k, longterm, multistart, one_pass, supervised, vos
from siamtrack.evaluate.results import FAILED, SKIPPED, STARTED, Result, Run
from siamtrack.evaluate.sequences import Sequence
from siamtrack.regions import encode_mask, overlap

SIZE = (200, 150)


def moving(length=30, name="a", **facts):
    boxes = np.tile([20.0, 30, 40, 30], (length, 1))
    boxes[:, 0] += 2 * np.arange(length)
    return Sequence(name, (Path("x.jpg"),) * length, boxes, **{"size": SIZE, **facts})


def result(boxes, scores=None, **facts):
    codes = np.zeros(len(boxes), np.int8)
    codes[0] = STARTED
    unknown = np.full(len(boxes), np.nan)
    return Result(boxes.copy(), unknown if scores is None else scores, unknown, codes, **facts)


def run(**results):
    return Run("t", "d", "p", {name: (each,) for name, each in results.items()}, {})


def test_every_protocol_that_runs_is_scored():
    assert set(PROTOCOLS) == {"one-pass", "got10k", "supervised", "multi-start", "long-term", "vos"}


@pytest.mark.parametrize("name", sorted(set(PROTOCOLS) - {"vos"}))
def test_perfect_answers_have_perfect_scores(name):
    first, second = moving(anchors=(0,)), moving(20, "b", anchors=(0,))
    confidence = np.linspace(0.5, 0.9, 30)
    perfect = run(a=result(first.boxes, confidence), b=result(second.boxes, confidence[:20]))
    scores = PROTOCOLS[name].score(Dataset("d", (first, second)), perfect)
    key = {"one-pass": "precision", "got10k": "ao", "long-term": "precision"}.get(name, "robustness")
    assert scores.mean[key] == (0 if name == "supervised" else 1)
    assert scores.sequences.keys() == {"a", "b"}
    assert all(np.isfinite(list(figures.values())).all() for figures in scores.sequences.values())


@pytest.mark.parametrize("name", sorted(set(PROTOCOLS) - {"vos"}))
def test_what_does_not_fit_is_noted(name):
    names = "short", "long", "nan", "missing"
    sequences = [moving(30, each, anchors=(0,)) for each in names]
    boxes = sequences[0].boxes
    unknown = boxes.copy()
    unknown[5:8] = np.nan
    made = run(
        short=result(boxes[:25], np.ones(25)),
        long=result(np.concatenate([boxes, boxes[:3]]), np.ones(33)),
        nan=result(unknown, np.ones(30)),
        other=result(boxes),
    )
    scores = PROTOCOLS[name].score(Dataset("d", tuple(sequences)), made)
    assert scores.sequences.keys() == {"short", "long", "nan"}
    notes = "; ".join(scores.notes)
    assert "means are over 3 of 4 sequences, without a result are missing" in notes
    assert "no sequence of d and do not count: other" in notes
    assert "shorter than the sequence" in notes
    assert "longer than the sequence" in notes
    assert "without an answer (NaN), which have overlap 0: short, nan" in notes
    with pytest.raises(UserError, match="no result for any of the 4 sequences"):
        PROTOCOLS[name].score(Dataset("d", tuple(sequences)), run(other=result(boxes)))


def test_boxes_of_negative_size_are_no_answers():
    sequence = moving(40)
    swapped = np.concatenate([sequence.boxes[:, :2] + sequence.boxes[:, 2:], -sequence.boxes[:, 2:]], 1)
    for name in ("one-pass", "supervised", "long-term", "got10k"):
        scores = PROTOCOLS[name].score(Dataset("d", (sequence,)), run(a=result(swapped, np.ones(40))))
        figure = {"supervised": "accuracy", "long-term": "recall", "got10k": "ao"}.get(name, "precision")
        assert scores.mean[figure] <= 1 / 40
        assert "negative width or height, which count as no answer: a" in "; ".join(scores.notes)


def test_a_truth_that_is_given_away_scores_nothing():
    sequence = moving(40)
    sequence.boxes[1:] = np.nan
    scores = one_pass.score(Dataset("d", (sequence,)), run(a=result(np.ones((40, 4)))))
    assert not scores.mean
    assert "no truth but that of the start, left out: a" in scores.notes


@pytest.mark.parametrize(("protocol", "name"), [(supervised, "vot2018"), (multistart, "vot2022")])
def test_an_interval_of_eao_that_is_not_reached_is_noted(protocol, name):
    for frames, said in ((40, "EAO cannot be computed"), (130, "so it cannot be compared with published values")):
        sequence = moving(frames, anchors=(0,))
        scores = protocol.score(Dataset(name, (sequence,)), run(a=result(sequence.boxes)))
        assert said in "; ".join(scores.notes)
        assert np.isnan(scores.mean["eao"]) == (frames == 40)


def test_frames_without_an_answer_have_overlap_0():
    sequence = moving(40)
    scores = one_pass.score(Dataset("d", (sequence,)), run(a=result(sequence.boxes[:10])))
    assert scores.mean["precision"] == 10 / 40
    assert scores.mean["auc"] == pytest.approx(10 / 40 * 20 / 21)


def test_the_mean_and_the_curves_are_over_sequences():
    a, b = moving(10), moving(90, "b", attributes=frozenset({"blur"}))
    away = b.boxes + [500, 0, 0, 0]
    away[0] = b.boxes[0]
    labels = {"fast": np.arange(90) >= 45}
    b = Sequence("b", b.paths, b.boxes, attributes=b.attributes, labels=labels)
    scores = one_pass.score(Dataset("d", (a, b)), run(a=result(a.boxes), b=result(away)))
    assert scores.mean["precision"] == pytest.approx((1 + 1 / 90) / 2)
    assert scores.curves["precision"].y[20] == scores.mean["precision"]
    assert scores.curves["success"].y.mean() == pytest.approx(scores.mean["auc"])
    assert scores.attributes["blur"] == scores.sequences["b"]
    assert scores.attributes["fast"]["precision"] == 0
    assert next(iter(scores.mean)) == "auc"


def test_pysot_counts_all_frames():
    truth = np.array([[0, 0, 10, 10], [0, 0, 0, 0], [50, 50, 10, 10], [60, 60, 10, 10]], float)
    predicted = np.array([[0, 0, 10, 10], [9, 9, 9, 9], [50, 50, 10, 10], [60, 60, 10, 10]], float)
    ours = one_pass.score_boxes(predicted, truth)
    theirs = one_pass.score_boxes(predicted, truth, counting="pysot")
    assert ours["auc"] == pytest.approx(20 / 21)
    assert theirs["auc"] == pytest.approx(3 / 4 * 20 / 21)
    # The empty truth's centre is at -.5, so that PySOT's toolkit counts the frame as correct.
    assert ours["precision"] == theirs["precision"] == 1
    counts = np.array([True, True, True, False])
    assert one_pass.score_boxes(predicted, truth, counts)["precision"] == 1
    assert one_pass.score_boxes(predicted, truth, counts, "pysot")["precision"] == 3 / 4


def test_normalised_precision_is_in_widths_and_heights():
    truth = np.tile([50.0, 50, 100, 10], (4, 1))
    predicted = truth + [[19, 0, 0, 0], [21, 0, 0, 0], [0, 1.9, 0, 0], [0, 2.1, 0, 0]]
    assert one_pass.score_boxes(predicted, truth)["norm_precision"] == 2 / 4


def test_got10k_leaves_out_the_first_and_unseen_frames():
    sequence = moving(10, counts=np.arange(10) != 4)
    boxes = sequence.boxes.copy()
    boxes[[0, 4]] += 500  # would count as missed
    boxes[5] += [20, 0, 0, 0]  # overlap 20 / 60
    scores = got10k.score(Dataset("d", (sequence,)), run(a=result(boxes)))
    assert scores.mean["ao"] == pytest.approx((7 + 1 / 3) / 8)
    assert scores.mean["sr50"] == scores.mean["msr50"] == 7 / 8


@pytest.mark.parametrize("turned", [False, True])
def test_a_narrower_image_changes_only_what_ends_at_its_border(turned):
    generator = np.random.default_rng(6)
    truth = generator.uniform((100, 60, 20, 20), (190, 140, 60, 60), (400, 4))
    answers = truth + generator.normal(0, 5, (400, 4))
    truth[7], answers[9] = np.nan, np.nan
    regions, polygons = None, None
    if turned:
        shape = np.array([[0, 0.2], [0.8, 0], [1, 0.8], [0.2, 1]])
        corners = [each[:, None, :2] + shape * each[:, None, 2:] for each in (truth, answers)]
        regions, polygons = tuple(None if np.isnan(each).any() else each for each in corners[0]), corners[1]
    sequence = Sequence("a", (Path("x.jpg"),) * 400, truth, regions, size=SIZE)
    one = result(answers, polygons=polygons)
    whole = overlaps_of(one, sequence, SIZE)
    less = SIZE[0] - 1, SIZE[1] - 1
    own = overlaps_of(one, sequence, less)
    np.testing.assert_array_equal(overlaps_within(one, sequence, less, whole), own)
    assert 0.1 < (own != whole).mean() < 0.9
    one_by_one = [overlap(a, b, less) for a, b in zip(polygons if turned else answers, regions or truth, strict=True)]
    np.testing.assert_array_equal(own[10:], one_by_one[10:])


def test_failures_and_their_neighbours():
    sequence = moving(60, labels={"occlusion": np.arange(60) < 30})
    made = result(sequence.boxes)
    made.boxes[20:26] = np.nan
    made.codes[20], made.codes[21:25], made.codes[25] = FAILED, SKIPPED, STARTED
    made.boxes[12] += [20, 0, 0, 0]
    scores = supervised.score(Dataset("vot2019", (sequence,)), run(a=made))
    assert scores.mean["lost_number"] == 1
    assert scores.mean["robustness"] == pytest.approx(100 / 60)
    # Frames 10 .. 19 and 35 .. 59 count, the others are near a start or without an answer.
    lower = overlap(made.boxes[12], sequence.boxes[12], SIZE)
    assert scores.mean["accuracy"] == pytest.approx((34 + lower) / 35)
    assert scores.attributes["occlusion"]["lost_number"] == 1
    assert scores.attributes["empty"]["lost_number"] == 0
    assert scores.attributes["empty"]["accuracy"] == 1
    # The first fragment has overlap in 19 frames after its first and then none, the second has it to its end at 35.
    curve = scores.curves["eao"].y
    assert curve[19] == pytest.approx((18 + lower + 19) / 2 / 19)
    # Length 60 is only reached by the first, weighted alike.
    assert curve[59] == pytest.approx((18 + lower) / 59)


def test_a_set_without_an_interval_says_so():
    sequences = tuple(moving(length, f"s{length}") for length in (20, 30, 40, 50))
    made = run(**{sequence.name: result(sequence.boxes) for sequence in sequences})
    scores = supervised.score(Dataset("mine", sequences), made)
    assert scores.mean["eao"] == 1
    assert any("no published interval" in note for note in scores.notes)


def test_multi_start_fails_after_ten_frames_in_a_row():
    sequence = moving(100, anchors=(0, ~50))
    forward = result(sequence.boxes)
    forward.boxes[30:39] += [0, 100, 0, 0]  # nine frames are forgiven
    forward.boxes[60:70] += [0, 100, 0, 0]
    backward = result(sequence.boxes[50::-1].copy(), start=50, backward=True)
    made = Run("t", "d", "multi-start", {"a": (forward, backward)}, {})
    scores = multistart.score(Dataset("d", (sequence,)), made, (10, 40))
    assert scores.mean["robustness"] == pytest.approx((60 + 51) / (100 + 51))
    assert scores.mean["accuracy"] == pytest.approx((60 - 1 - 9 + 51 - 1) / (60 + 51))
    assert scores.notes == ()


def test_long_term_figures_are_their_definition():
    generator = np.random.default_rng(3)
    sequences, results = [], {}
    for name, length in (("a", 150), ("b", 90)):
        sequence = moving(length, name, size=(1000, 150))
        sequence.boxes[generator.random(length) < 0.2] = np.nan
        sequence.boxes[0] = [20, 30, 40, 30]
        boxes = np.nan_to_num(sequence.boxes, nan=30) + generator.normal(0, 6, (length, 4))
        sequences.append(sequence)
        results[name] = result(boxes, generator.random(length))
    scores = longterm.score(Dataset("d", tuple(sequences)), run(**results))
    best = (0.0, 0.0, 0.0)
    confidences = np.concatenate([each.scores[1:] for each in results.values()])
    for level in longterm.thresholds(confidences):
        precisions, recalls = [], []
        for sequence in sequences:
            made = results[sequence.name]
            chosen = [index for index in range(1, len(sequence)) if made.scores[index] >= level]
            values = [overlap(made.boxes[i], sequence.boxes[i], sequence.size) for i in chosen]
            total = np.nansum(values)
            precisions.append(total / len(chosen) if chosen else 1)
            recalls.append(total / np.isfinite(sequence.boxes[:, 0]).sum())
        p, r = np.mean(precisions), np.mean(recalls)
        best = max(best, (2 * p * r / (p + r), p, r))
    assert tuple(scores.mean[key] for key in ("f", "precision", "recall")) == pytest.approx(best)
    assert 0.1 < best[0] < 0.9
    levels = longterm.thresholds(confidences)
    assert len(levels) == 100
    assert (levels[0], levels[-1]) == (-np.inf, np.inf)


def test_masks_of_objects(tmp_path):
    paths, first, second = [], [], []
    for index in range(8):
        labels = np.zeros((60, 80), np.uint8)
        labels[10:30, 10 + index : 40 + index] = 1
        labels[35:55, 20:50] = 2
        paths.append(tmp_path / f"{index}.png")
        cv2.imwrite(str(paths[-1]), labels)
        first.append(encode_mask(labels == 1))
        second.append(encode_mask(np.roll(labels == 2, 10, 1)) if index < 6 else None)
    boxes = np.tile([10.0, 10, 30, 20], (8, 1))
    sequences = tuple(
        Sequence(f"v/{number}", tuple(paths), boxes, masks=tuple(paths), object_number=number, group=group)
        for number, group in ((1, "seen"), (2, "unseen"))
    )
    made = Run(
        "t",
        "d",
        "vos",
        {"v/1": (result(boxes, masks=tuple(first)),), "v/2": (result(boxes, masks=tuple(second)),)},
        {},
    )
    scores = vos.score(Dataset("youtube-vos", sequences), made)
    assert scores.sequences["v/1"]["j&f"] == 1
    j = scores.sequences["v/2"]["j"]
    assert j == pytest.approx(5 / 7 * 20 / 40)  # frames 1 .. 5 of 1 .. 7, shifted by a third
    assert scores.sequences["v/2"]["j_recall"] == 0  # .5 is not above .5
    assert scores.sequences["v/2"]["j_decay"] == pytest.approx(0.5 - 0)
    assert scores.mean["g"] == pytest.approx((2 + j + scores.sequences["v/2"]["f"]) / 4)
    assert next(iter(scores.mean)) == "g"
    davis = vos.score(Dataset("davis2017", sequences), made)
    assert davis.sequences["v/2"]["j"] == pytest.approx(5 / 6 * 0.5)  # without the last frame
