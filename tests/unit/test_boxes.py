import numpy as np
import pytest

from siamtrack.boxes import centers, check_box, enclosing, iou, parse_box
from siamtrack.errors import UserError


def test_iou_of_known_boxes():
    box = [0, 0, 10, 10]
    others = [[0, 0, 10, 10], [5, 0, 10, 10], [10, 0, 10, 10], [2, 2, 5, 5]]
    assert iou(box, others) == pytest.approx([1, 1 / 3, 0, 0.25])


@pytest.mark.parametrize("other", [[0, 0, 0, 10], [0, 0, -5, -5], [np.nan, 0, 5, 5]])
def test_iou_with_no_box_is_zero(other):
    assert iou([0, 0, 10, 10], other) == 0


def test_enclosing_keeps_boxes_and_encloses_polygons():
    assert enclosing([1, 2, 3, 4]).tolist() == [1, 2, 3, 4]
    assert enclosing([[5, 1, 9, 4, 6, 8, 2, 3]]).tolist() == [[2, 1, 7, 7]]
    assert np.isnan(enclosing([np.nan] * 8)).all()


def test_centers():
    assert centers([[0, 0, 10, 4]]).tolist() == [[5, 2]]


@pytest.mark.parametrize("text", ["1,2,3,4", "1, 2, 3, 4", "1 2 3 4"])
def test_parse_box(text):
    assert parse_box(text) == (1, 2, 3, 4)


@pytest.mark.parametrize(("text", "said"), [("1,2,3", "3 values"), ("1,2,3,4,5", "5 values"), ("a,2,3,4", "not four")])
def test_parse_box_says_what_is_wrong(text, said):
    with pytest.raises(UserError, match=said):
        parse_box(text)


@pytest.mark.parametrize(
    "box", [(0, 0, 100, 80), (-5, -5, 20, 20), (95, 70, 20, 20), (3, 4, 1, 30), (0.5, 0.5, 99.9, 80.4)]
)
def test_check_box_accepts(box):
    assert check_box(box, 100, 80).tolist() == list(box)


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((100, 0, 10, 10), "outside the frame, which is 100x80"),
        ((0, -20, 10, 20), "outside the frame"),
        ((5, 5, 0, 10), "must be above 0"),
        ((5, 5, 10, -1), "must be above 0"),
        ((5, float("nan"), 10, 10), "not finite"),
        ((5, 5, float("inf"), 10), "not finite"),
        ((-1, 0, 102, 50), "larger than the frame"),
        ((1, 2, 3), "3 values"),
        ("abc", "not four numbers"),
    ],
)
def test_check_box_says_what_is_wrong(box, said):
    with pytest.raises(UserError, match=said):
        check_box(box, 100, 80)
