"""Reports: comparisons, tables in every form, plots, overlap over time, the page."""

import csv
import io
import re
import xml.etree.ElementTree as ElementTree
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrack.errors import UserError
from siamtrack.evaluate.datasets import Dataset, read_dataset
from siamtrack.evaluate.results import FAILED, SKIPPED, STARTED, TRACKED, Result, Run
from siamtrack.evaluate.scores import Curve, Scores, lower_is_better
from siamtrack.evaluate.sequences import Sequence
from siamtrack.regions import Mask, encode_mask, overlap
from siamtrack.report import curves, tables
from siamtrack.report import page as page_module
from siamtrack.report.comparison import Comparison, compare, read_runs, update_ms
from siamtrack.report.frames import corners_of, outlines_of, picture, track, truth_of, worst_moments
from siamtrack.report.page import figure_of_curve, render
from siamtrack.report.tables import BEST, SECOND

HOSTILE = r"</td><script>alert(1)</script> a_b|c & $x$ 50% #1 {~^\}"
BOX = np.array([10.0, 20, 30, 40])


def result(boxes, codes=None, seconds=0.02, **more) -> Result:
    boxes = np.array(boxes, float)
    count = len(boxes)
    codes = [STARTED] + [TRACKED] * (count - 1) if codes is None else codes
    return Result(boxes, np.ones(count), np.full(count, seconds), np.array(codes, np.int8), **more)


def shifted(pixels, count=12) -> Result:
    """Return what a tracker does that loses the object slowly: to the right by so many pixels a frame."""
    return result(BOX + np.arange(count)[:, None] * [pixels, 0, 0, 0])


def sequence(name="a", count=12, **more) -> Sequence:
    return Sequence(name, tuple(Path(f"nowhere/{i}.png") for i in range(count)), np.tile(BOX, (count, 1)), **more)


def compared(*scores: Scores, names=None, sequences=(sequence(),), notes=(), pixels=(1, 2, 3, 4)) -> Comparison:
    names = names or [f"tracker{i}" for i in range(len(scores))]
    runs = [
        Run(name, "folder", "one-pass", {s.name: (shifted(p),) for s in sequences}, {"device": "cpu"})
        for name, p in zip(names, pixels, strict=False)
    ]
    return Comparison(Dataset("folder", tuple(sequences)), "one-pass", tuple(runs), scores, notes)


# Comparisons


def test_mark_shares_places_between_equals_and_skips_unknown_values():
    assert tables.mark([0.5, 0.7, 0.7, 0.6, np.nan], lower=False).tolist() == [0, BEST, BEST, SECOND, 0]
    assert tables.mark([0.5, 0.7, 0.4], lower=True).tolist() == [SECOND, 0, BEST]
    assert tables.mark([0.5, np.nan], lower=False).tolist() == [0, 0]
    assert tables.mark([0.5, 0.5], lower=False).tolist() == [BEST, BEST]


def test_lower_is_better_where_a_figure_counts_what_went_wrong():
    assert lower_is_better("failures", "supervised")
    assert lower_is_better("J_decay", "vos")
    assert lower_is_better("robustness", "supervised")
    assert not lower_is_better("robustness", "multi-start")
    assert not lower_is_better("auc", "one-pass")


def test_update_ms_leaves_out_starts_and_unknown_times():
    seconds = np.array([9.0, 0.01, 0.03, np.nan, 0.02])
    one = replace(result([BOX] * 5), seconds=seconds)
    assert update_ms(Run("t", "folder", "one-pass", {"a": (one,)}, {})) == pytest.approx(20)
    unknown = replace(one, seconds=np.full(5, np.nan))
    assert np.isnan(update_ms(Run("t", "folder", "one-pass", {"a": (unknown,)}, {})))


def make_run(root, tracker="t", pixels=1.0, **more) -> Run:
    data = read_dataset("folder", root)
    boxes = {s.name: np.nan_to_num(s.boxes, nan=1.0) + [pixels, 0, 0, 0] for s in data.sequences}
    results = {name: (result(each),) for name, each in boxes.items()}
    values = {"dataset": "folder", "protocol": "one-pass", "results": results, "facts": {"root": str(root)}} | more
    return Run(tracker, **values)


def test_compare_ranks_by_the_first_figure(sequences):
    runs = [make_run(sequences, "far", 30), make_run(sequences, "near", 2), make_run(sequences, "middle", 10)]
    comparison = compare(runs)
    assert comparison.trackers == ("near", "middle", "far")
    table = tables.overall(comparison)
    assert table.columns[:2] == ("auc ↑", "precision ↑")
    assert table.marks[:, 0].tolist() == [BEST, SECOND, 0]
    assert table.marks[:, 1].tolist() == [BEST, BEST, SECOND]  # 2 and 10 pixels are within 20, 30 are not
    assert comparison.notes == ()


def test_compare_notes_what_makes_runs_unlike(sequences):
    whole = make_run(sequences, "whole")
    part = make_run(sequences, "part", results={"boxes": whole.results["boxes"]}, facts=whole.facts | {"threads": 1})
    empty = make_run(sequences, "empty", results={})
    notes = " ".join(compare([whole, part, empty]).notes)
    assert "empty is left out" in notes
    assert "of 2, 1 in common" in notes
    assert "number of threads" in notes


def test_compare_only_what_the_runs_were_to_do(sequences, tmp_path):
    run = make_run(sequences)
    chosen = replace(run, facts=run.facts | {"only": ["boxes"]})
    assert [s.name for s in compare([chosen]).dataset.sequences] == ["boxes"]
    assert len(compare([chosen, replace(run, tracker="other")]).dataset.sequences) == 2
    gone = replace(run, facts={"root": str(tmp_path / "gone")})
    assert len(compare([gone], root=sequences).dataset.sequences) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tracker": "first"}, "two runs are of a tracker named 'first'"),
        ({"dataset": "otb100"}, "differ in dataset .* 'folder' in first, 'otb100' in second"),
        ({"protocol": "got10k"}, "differ in protocol"),
        ({"facts": {"frames": 5}}, "differ in frames"),
        ({"results": {"elsewhere": (shifted(1),)}}, "second has no result for .* such as 'boxes', .*'elsewhere'"),
    ],
)
def test_compare_refuses_runs_that_do_not_belong_together(sequences, changes, message):
    with pytest.raises(UserError, match=message):
        compare([make_run(sequences, "first"), replace(make_run(sequences, "second"), **changes)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"results": {}}, "nothing is finished in t;"),
        ({"protocol": "one-pas"}, "unknown protocol 'one-pas'; did you mean 'one-pass'"),
        ({"facts": {}}, "at no place that the runs name; say where it is with --root"),
        ({"facts": {"root": "/gone"}}, "is not at /gone; say where it is with --root"),
    ],
)
def test_compare_refuses_a_run_that_cannot_be_scored(sequences, changes, message):
    with pytest.raises(UserError, match=message):
        compare([replace(make_run(sequences), **changes)])


def test_read_runs_says_what_is_no_run(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        read_runs([tmp_path / "gone"])
    with pytest.raises(UserError, match="is no run and holds none"):
        read_runs([tmp_path])


# Tables

SCORES = (
    Scores({"auc": 0.7, "failures": 3}, {"a": {"auc": 0.7}}, {"fast": {"auc": 0.6}}, notes=("1 sequence is missing.",)),
    Scores({"auc": 0.6, "failures": 1}, {"a": {"auc": 0.8}}, {"fast": {"auc": np.nan}}),
)


def test_overall_has_speed_and_number_of_sequences():
    table = tables.overall(compared(*SCORES))
    assert table.columns == ("auc ↑", "failures ↓", "median update, ms ↓", "sequences")
    np.testing.assert_allclose(table.values, [[0.7, 3, 20, 1], [0.6, 1, 20, 1]])
    assert table.marks.tolist() == [[BEST, SECOND, BEST, 0], [SECOND, BEST, BEST, 0]]
    assert table.cell(0, 2) == "20.0"


def test_values_that_look_equal_are_marked_equal():
    table = tables.overall(compared(Scores({"auc": 0.70001}, {}), Scores({"auc": 0.70002}, {})))
    assert table.marks[:, 0].tolist() == [BEST, BEST]


def test_markdown():
    text = tables.markdown(compared(*SCORES, names=["good", HOSTILE]))
    assert "| good | **0.700** | *3.000* | **20.0** | 1 |" in text
    assert "| a | *0.700* | **0.800** |" in text
    assert "| fast | 0.600 |  |" in text  # one alone is not marked, NaN is empty
    assert "- good: 1 sequence is missing." in text
    assert "<script" not in text
    for line in text.splitlines():
        if line.startswith("|") and "tracker" not in line:
            assert len(re.findall(r"(?<!\\)\|", line)) in (4, 6), line  # a bar in a name makes no column


def test_latex():
    text = tables.latex(compared(*SCORES, names=["good", HOSTILE]))
    assert r"good & \textbf{0.700} & \underline{3.000} & \textbf{20.0} & 1 \\" in text
    assert r"fast & 0.600 & -- \\" in text
    assert r"a\_b\textbar{}c \& \$x\$ 50\% \#1 \{\textasciitilde{}\textasciicircum{}\textbackslash{}\}" in text
    for row in re.findall(r"\\begin\{tabular\}\{(\w+)\}\n(.*?)\\end\{tabular\}", text, re.S):
        for line in row[1].splitlines():
            if line != r"\hline":
                assert len(re.findall(r"(?<!\\)&", line)) == len(row[0]) - 1
    assert "% good: 1 sequence is missing." in text


def test_csv_has_every_digit_and_reads_back():
    scores = (replace(SCORES[0], mean={"auc": 1 / 3, "failures": 3}), SCORES[1])
    text = tables.comma_separated(compared(*scores, names=["good", HOSTILE + '",\n']))
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["part"] for row in rows] == ["all", "all", "attribute", "attribute", "sequence", "sequence"]
    assert float(rows[0]["auc"]) == 1 / 3
    assert rows[1]["tracker"] == HOSTILE + '",\n'
    assert (rows[3]["name"], rows[3]["auc"]) == ("fast", "")
    assert float(rows[0]["update_ms"]) == pytest.approx(20)


# Plots


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def drawn(svg: str, index: int) -> list[np.ndarray]:
    """Return the points [K, 2] of the lines in the colour of a tracker."""
    paths = [path.get("d") for path in parse(svg).iter("path") if curves.colour(index).lower() in path.get("style", "")]
    return [np.array(re.findall(r"[-\d.]+", path), float).reshape(-1, 2) for path in paths]


def test_lines_draw_the_numbers():
    x = np.linspace(0, 1, 5)
    first, second = Curve(x, x**2, "threshold", "share"), Curve(x, 1 - x, "threshold", "share")
    svg = curves.lines({0: first, 1: second})
    (a,), (b,) = drawn(svg, 0), drawn(svg, 1)
    unit = a[-1] - a[0]  # of the plot's axes in pixels
    np.testing.assert_allclose((a - a[0]) / unit, np.stack([x, x**2], 1), atol=2e-3)
    np.testing.assert_allclose((b - a[0]) / unit, np.stack([x, 1 - x], 1), atol=2e-3)
    assert "http" not in svg
    assert {"threshold", "share"} <= {text.text for text in parse(svg).iter("text")}


def test_plots_in_one_page_share_no_names():
    x = np.linspace(0, 1, 5)
    svgs = [curves.lines({0: Curve(x, y, "x", "y")}) for y in (x, 1 - x)]
    ids = [set(re.findall(r'id="([^"]*)"', svg)) for svg in svgs]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, known in zip(svgs, ids, strict=True):
        assert set(re.findall(r"#(p[\w-]+)[\")]", svg)) <= known


def test_timeline_leaves_gaps_and_marks_failures():
    values = np.array([1, 0.5, 0, np.nan, np.nan, 1, 0.8])
    absent = np.array([0, 0, 0, 1, 1, 0, 0], bool)
    svg = curves.timeline({0: values}, absent, {0: np.array([2])}, [2], points=100)
    lines = [path for path in parse(svg).iter("path") if curves.colour(0).lower() in path.get("style", "")]
    assert lines[0].get("d").count("M") == 2
    assert len(list(parse(svg).iter("use"))) > len(
        list(parse(curves.timeline({0: values}, absent, {0: np.array([], int)}, [2], 100)).iter("use"))
    )


def test_thin_averages_what_is_known():
    x, y = curves.thin(np.array([1, 0, np.nan, 0.5, np.nan, np.nan, 0.3]), 2)
    assert x.tolist() == [0.5, 2.5, 4.5, 6.5]
    np.testing.assert_allclose(y, [0.5, 0.5, np.nan, 0.3])


def test_radar_scatter_and_bars_accept_any_names():
    names = ["$a_b$", "<b>", "x" * 80]
    values = {0: np.array([0.5, 0.6, np.nan]), 7: np.array([0.1, 0.2, 0.3])}
    for svg in (curves.radar(names, values), curves.bars(names, values, "auc")):
        texts = {text.text for text in parse(svg).iter("text")}
        assert {"$a b$", "<b>"} <= texts
    texts = {text.text for text in parse(curves.scatter({0: (5.0, 0.5), 7: (50.0, 0.6)}, "ms", "auc")).iter("text")}
    assert {"1", "8", "5", "50"} <= texts


def test_trackers_are_told_apart():
    looks = [(curves.colour(i), curves.dashes(i)) for i in range(24)]
    assert len(set(looks)) == 24


def test_figure_of_a_curve():
    names = ["auc", "precision", "normalised_precision", "eao", "f"]
    assert figure_of_curve("success", names) == "auc"
    assert figure_of_curve("Normalised precision", names) == "normalised_precision"
    assert figure_of_curve("expected overlap", names) == "eao"
    assert figure_of_curve("precision-recall", names) == "f"
    assert figure_of_curve("anything", names) == "auc"


# Frames


def test_track_follows_starts_directions_and_codes():
    truth = sequence(count=6)
    half = BOX + [0, 0, 30, 0]
    forward = result([BOX, half, BOX + [99, 0, 0, 0], [np.nan] * 4, BOX], [STARTED, TRACKED, FAILED, SKIPPED, STARTED])
    backward = result([BOX, half, half], start=4, backward=True)
    overlaps = track(truth, (forward, backward)).overlaps
    nan = np.nan
    np.testing.assert_allclose(overlaps, [[1, 0.5, 0, nan, 1, nan], [nan, nan, 0.5, 0.5, 1, nan]])
    view = track(truth, (forward, backward))
    np.testing.assert_allclose(view.mean, [1, 0.5, 0.25, 0.5, 1, nan])
    assert view.failures.tolist() == [2]
    np.testing.assert_array_equal(view.outlines(2)[0], corners_of(BOX + [99, 0, 0, 0]))  # of the start that did worst
    assert view.outlines(5) == []


def test_track_ignores_frames_without_truth_and_beyond_the_end():
    boxes = np.tile(BOX, (3, 1))
    boxes[1] = np.nan
    truth = replace(sequence(count=3), boxes=boxes)
    np.testing.assert_allclose(track(truth, (result([BOX] * 5),)).overlaps, [[1, np.nan, 1]])
    beyond = result([BOX] * 5, start=4, backward=True)
    np.testing.assert_array_equal(track(truth, (beyond,)).overlaps, [[np.nan] * 3])
    assert track(truth, (beyond,)).outlines(0) == []


def test_repeated_answers_of_a_realtime_run_count():
    one = result([BOX, BOX], [STARTED, SKIPPED])
    np.testing.assert_allclose(track(sequence(count=2), (one,)).overlaps, [[1, 1]])


def test_polygons_are_the_outline_where_there_are_some():
    polygon = np.array([[0, 0], [5, 1], [4, 6], [-1, 5.0]])
    one = result([BOX, BOX], polygons=np.stack([np.full((4, 2), np.nan), polygon]))
    view = track(sequence(count=2), (one,))
    np.testing.assert_array_equal(view.outlines(0)[0], corners_of(BOX))
    np.testing.assert_array_equal(view.outlines(1)[0], polygon)


def test_overlap_over_time_is_the_protocols_own():
    turned = np.array([[30, 20], [50, 40], [30, 60], [10, 40.0]])
    truth = sequence(count=4, regions=(turned,) * 4, size=(100, 100))
    nothing = np.full((4, 2), np.nan)
    one = result([BOX] * 4, [STARTED, TRACKED, FAILED, TRACKED], polygons=np.stack([turned, turned, nothing, nothing]))
    of_boxes = track(truth, (one,)).overlaps[0]
    assert of_boxes[1] == 1
    own = track(truth, (one,), "supervised").overlaps[0]
    np.testing.assert_allclose(own, [np.nan, 1, 0, overlap(turned, BOX, (100, 100))])
    assert own[3] < 0.6
    backward = replace(one, start=3, backward=True)
    np.testing.assert_allclose(
        track(truth, (backward,), "multi-start").overlaps[0],
        [overlap(turned, BOX, (100, 100), "vot-toolkit"), 0, 1, np.nan],
    )


def test_masks_are_compared_with_label_images_and_drawn(tmp_path):
    labels = np.zeros((60, 80), np.uint8)
    labels[20:40, 10:30], labels[0:5, 0:5] = 2, 1
    cv2.imwrite(str(tmp_path / "0.png"), labels)
    truth = sequence(count=3, masks=(tmp_path / "0.png", None, tmp_path / "0.png"), object_number=2, size=(80, 60))
    half = encode_mask(Mask(10, 20, np.ones((20, 10), bool)))
    view = track(truth, (result([BOX] * 3, masks=(None, half, half)),), "vos")
    np.testing.assert_allclose(view.overlaps[0], [np.nan, np.nan, 0.5])
    (drawn_half,), (drawn_truth,) = view.outlines(2), outlines_of(truth_of(truth, 2))
    np.testing.assert_array_equal([drawn_half.min(0), drawn_half.max(0)], [[10.5, 20.5], [19.5, 39.5]])
    np.testing.assert_array_equal([drawn_truth.min(0), drawn_truth.max(0)], [[10.5, 20.5], [29.5, 39.5]])
    np.testing.assert_array_equal(outlines_of(truth_of(truth, 1))[0], corners_of(BOX))


def test_worst_moments_take_turns_and_keep_apart():
    overlaps = np.ones((2, 40))
    overlaps[0, 5], overlaps[0, 6], overlaps[1, 30], overlaps[:, 20] = 0.1, 0.2, 0.0, 0.3
    # The lowest mean, then the first tracker's and the second's worst; frame 6 is too near to frame 5.
    assert worst_moments(overlaps, 3) == [5, 20, 30]
    assert len(worst_moments(overlaps, 100)) <= 10
    assert worst_moments(np.full((2, 5), np.nan), 3) == []
    assert worst_moments(overlaps[:1], 1) == [5]
    halves = np.full((2, 20), np.nan)
    halves[0, :10], halves[1, 10:] = 0.5, 0.1
    assert worst_moments(halves, 2) == [0, 10]


def test_picture_shows_the_part_around_the_outlines(tmp_path):
    image = np.zeros((120, 160, 3), np.uint8)
    image[60:80, 100:120] = 255
    cv2.imwrite(str(tmp_path / "0.png"), image)
    shown = corners_of(np.array([100.0, 60, 20, 20]))
    found = picture(replace(sequence(count=1), paths=(tmp_path / "0.png",)), 0, [shown])
    assert found is not None
    assert found.scale > 360 / 160  # enlarged
    points = np.array([point.split(",") for point in found.points(shown).split()], float)
    decoded = cv2.imdecode(np.frombuffer(b64decode(found.jpeg), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert decoded.shape == (found.height, found.width)
    (left, top), (right, bottom) = points[0], points[2]
    inside = np.zeros(decoded.shape, bool)
    inside[round(top) : round(bottom), round(left) : round(right)] = True
    assert decoded[inside].mean() > 240
    assert decoded[~inside].mean() < 15


def test_outlines_of_regions():
    assert outlines_of(None) == []
    np.testing.assert_array_equal(outlines_of(BOX)[0], corners_of(BOX))
    mask = Mask(10, 20, np.array([[1, 1, 0, 1], [1, 1, 0, 1]], bool))
    pieces = outlines_of(mask)
    assert len(pieces) == 2
    everything = np.concatenate(pieces)
    assert (everything.min(0) >= (10, 20)).all()
    assert (everything.max(0) <= (14, 22)).all()
    assert outlines_of(Mask(0, 0, np.zeros((2, 2), bool))) == []


# The page


class Page(HTMLParser):
    """Elements, and whether each was closed."""

    VOID = frozenset({"meta", "br", "img", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def count(self, tag):
        return sum(name == tag for name, _ in self.elements)


def rich_scores(names, value):
    x = np.linspace(0, 1, 21)
    lines = {name: Curve(x, 1 - x * (1 - value), "x", "y") for name in ("success", "expected overlap")}
    attributes = {name: {"auc": value} for name in ("fast", "occluded", HOSTILE)}
    return Scores({"auc": value, "eao": value / 2}, {n: {"auc": value} for n in names}, attributes, lines, ("A note.",))


def test_page_with_everything(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for number in range(12):
        paths.append(tmp_path / f"{number}.jpg")
        cv2.imwrite(str(paths[-1]), rng.integers(0, 255, (90, 120, 3), np.uint8))
    sequences = tuple(replace(sequence(name), paths=tuple(paths)) for name in ("plain", HOSTILE))
    scores = [rich_scores([s.name for s in sequences], value) for value in (0.7, 0.6)]
    comparison = compared(*scores, names=["good", HOSTILE], sequences=sequences, notes=("Beware.",))
    done: list[int] = []
    text = render(comparison, on_sequence=lambda: done.append(1))
    page = Page(text)
    assert page.open == []
    assert len(done) == 2
    assert page.count("script") == 1  # the page's own
    assert page.text.count(HOSTILE) > 5
    for expected in ("Beware.", "good: A note.", "success", "expected overlap", "0.700", "0.350", "In the legend: eao"):
        assert expected in page.text
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [attributes["href"] for _, attributes in page.elements if "href" in attributes]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in links)
    # A picture a moment, used again for the second tracker.
    pictures = {f"#{attributes['id']}" for name, attributes in page.elements if name == "image"}
    assert len(pictures) == 8
    assert sorted(link for link in links if link in pictures) == sorted(pictures)


def test_page_without_images_says_so_once():
    text = render(compared(*SCORES))
    assert "pictures are left out: images cannot be read, such as nowhere/" in text
    assert "<image" not in text
    assert "left out" not in render(compared(*SCORES), pictures=False)


def test_page_of_many_sequences_has_few_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "PICTURES", 3)
    cv2.imwrite(str(tmp_path / "0.jpg"), np.zeros((9, 12, 3), np.uint8))
    count = 5
    sequences = tuple(replace(sequence(f"s{i}", 2), paths=(tmp_path / "0.jpg",) * 2) for i in range(count))
    scores = Scores({"auc": 0.5}, {s.name: {"auc": 0.5} for s in sequences})
    text = render(compared(scores, sequences=sequences))
    assert text.count("<image") == 3
    assert "Only the 3 sequences with the lowest overlap have pictures." in text


def test_page_of_one_tracker_without_times_or_overlap():
    run = Run("t", "folder", "one-pass", {"a": (result([[np.nan] * 4] * 12, seconds=np.nan),)}, {})
    scores = Scores({"auc": np.nan}, {"a": {"auc": np.nan}})
    page = Page(render(Comparison(Dataset("folder", (sequence(),)), "one-pass", (run,), (scores,))))
    assert page.open == []
    assert "speed" not in [attributes.get("id") for _, attributes in page.elements]
