import numpy as np
import pytest

from siamtrack import regions
from siamtrack.errors import UserError
from siamtrack.regions import Mask, decode_mask, encode_mask, format_region, overlap, overlaps, parse_region


def test_masks_travel_as_run_lengths():
    pixels = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]], bool)
    text = encode_mask(pixels)
    assert text == "m1,1,2,2,0,2,1,1"
    assert encode_mask(Mask(10, 20, pixels)) == "m11,21,2,2,0,2,1,1"
    mask = decode_mask(text)
    assert (mask.x, mask.y, mask.pixels.tolist()) == (1, 1, [[True, True], [False, True]])
    assert decode_mask("m5,6,3,2,1,2").pixels.tolist() == [[False, True, True], [False] * 3]
    assert decode_mask(encode_mask(np.zeros((3, 3), bool))).pixels.size == 0


def test_random_masks_come_back():
    generator = np.random.default_rng(1)
    for _ in range(30):
        pixels = generator.random(generator.integers(1, 12, 2)) < 0.5
        mask = decode_mask(encode_mask(pixels))
        back = np.zeros_like(pixels)
        back[mask.y : mask.y + mask.pixels.shape[0], mask.x : mask.x + mask.pixels.shape[1]] = mask.pixels
        np.testing.assert_array_equal(back, pixels)


def test_lines_of_vot_files_are_read_and_written():
    np.testing.assert_array_equal(parse_region("1,2.5,3,4"), [1, 2.5, 3, 4])
    np.testing.assert_array_equal(parse_region("0 0\t5 0 5 5"), [[0, 0], [5, 0], [5, 5]])
    assert parse_region("nan,nan,nan,nan") is None
    assert parse_region("0") is None
    assert isinstance(parse_region("m1,1,2,2,0,4"), Mask)
    for text in ("1.0000,2.5000,3.0000,4.0000", "0.0000,0.0000,5.0000,0.0000,5.0000,5.0000", "m1,1,2,2,0,2,1,1", "0"):
        assert format_region(parse_region(text)) == text


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,4,5", "a,b,c,d", "", "m1,1,2", "m1,1,2,2,0,5", "m1,1,2,2,-1,1"])
def test_other_lines_are_refused(text):
    with pytest.raises(UserError):
        parse_region(text)


def test_overlaps_by_hand():
    # As polygons of their corners, boxes have a pixel more: 11x11 each, 6x11 of them shared.
    a, b = np.array([0.0, 0, 10, 10]), np.array([5.0, 0, 10, 10])
    assert overlap(a, b) == pytest.approx(66 / (242 - 66))
    assert overlap(a, b, convention="vot-toolkit") == pytest.approx(50 / 150)
    assert overlap(a, np.array([[0, 0], [10, 0], [10, 10], [0, 10]], float)) == 1
    # A diamond of 1, 3, 5, 3, 1 pixels, of whose corners one tool leaves out the first and the last.
    diamond = np.array([[7, 5], [9, 7], [7, 9], [5, 7]], float)
    square = Mask(0, 0, np.ones((20, 20), bool))
    assert overlap(diamond, square, convention="vot-toolkit") == pytest.approx(13 / 400)
    assert overlap(diamond, square) == pytest.approx(11 / 400)
    assert overlap(Mask(0, 0, np.ones((2, 2), bool)), Mask(1, 1, np.ones((2, 2), bool))) == pytest.approx(1 / 7)


def test_only_the_image_counts():
    a, b = np.array([-10.0, 0, 20, 10]), np.array([0.0, 0, 10, 10])
    assert overlap(a, b, (50, 50)) == 1
    assert overlap(a, b) == pytest.approx(11 / 21)
    assert overlap(Mask(-2, -2, np.ones((4, 4), bool)), Mask(0, 0, np.ones((2, 2), bool)), (9, 9)) == 1


def test_nothing_has_no_overlap():
    box = np.array([0.0, 0, 10, 10])
    assert np.isnan(overlap(box, None))
    assert np.isnan(overlap(np.full(4, np.nan), box))
    assert overlap(box, np.array([40.0, 40, 10, 10])) == 0
    np.testing.assert_array_equal(np.isnan(overlaps([box, None], [box, box])), [False, True])


@pytest.mark.parametrize("convention", ["pysot", "vot-toolkit"])
def test_convex_polygons_are_filled_as_line_by_line(convention, monkeypatch):
    generator = np.random.default_rng(5)
    angle = generator.uniform(0, 7, (2000, 1, 1))
    corners = generator.uniform(0.2, 12, (2000, 1, 2)) * [[-1, -1], [1, -1], [1, 1], [-1, 1]]
    turned = (
        corners * np.cos(angle) + corners[..., ::-1] * [-1, 1] * np.sin(angle) + generator.uniform(0, 40, (2000, 1, 2))
    )
    turned[::2] = turned[::2, ::-1]  # the other way round
    anything = generator.uniform(-5, 45, (2000, 4, 2))
    boxes = generator.uniform(0, 20, (2000, 4))
    for other in (np.roll(turned, 1, 0), anything, boxes):
        for bounds in (None, (40, 30)):
            fast = overlaps(turned, other, bounds, convention)
            with monkeypatch.context() as patch:
                patch.setattr(regions, "_CONVEX_UP_TO", 0)
                np.testing.assert_array_equal(fast, overlaps(turned, other, bounds, convention))


def test_arrays_and_lists_are_the_same():
    generator = np.random.default_rng(4)
    boxes = generator.uniform(5, 40, (50, 4))
    polygons = generator.uniform(0, 60, (50, 4, 2))
    for convention in ("pysot", "vot-toolkit"):
        alone = [overlap(a, b, (50, 50), convention) for a, b in zip(boxes, polygons, strict=True)]
        np.testing.assert_array_equal(overlaps(boxes, polygons, (50, 50), convention), alone)
        np.testing.assert_array_equal(overlaps(list(boxes), list(polygons), (50, 50), convention), alone)


def test_the_closed_form_of_boxes_is_the_fill_of_their_corners():
    boxes = np.random.default_rng(4).uniform(5, 40, (50, 4)).astype(np.float32)
    x, y, w, h = boxes.T
    corners = np.stack([x, y, x + w, y, x + w, y + h, x, y + h], 1).reshape(-1, 4, 2).astype(float)
    boxes = boxes.astype(float)
    for bounds in (None, (50, 50)):
        filled = overlaps(corners, corners[::-1], bounds)
        np.testing.assert_array_equal(overlaps(boxes, boxes[::-1], bounds), filled)
        assert (filled > 0).sum() > 10
