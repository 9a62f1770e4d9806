import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from siamtrack.errors import UserError
from siamtrack.evaluate.datasets import Dataset, read_dataset
from siamtrack.evaluate.foreign import find_trackers, read_results
from siamtrack.evaluate.foreign.coordinates import Coordinates, looks_like_corners
from siamtrack.evaluate.foreign.lines import read_entries, read_numbers
from siamtrack.evaluate.results import FAILED, SKIPPED, STARTED, TRACKED
from siamtrack.evaluate.sequences import Sequence
from siamtrack.regions import Mask, format_region, parse_region

FRAMES = 6
TRUTH = {
    "Jogging-1": np.array([[20 + 2 * t, 30 + t, 10, 16] for t in range(FRAMES)], float),
    "Walking": np.array([[60 - 3 * t, 40, 12, 20] for t in range(FRAMES)], float),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    root = tmp_path_factory.mktemp("data")
    for name, boxes in TRUTH.items():
        (root / name / "img").mkdir(parents=True)
        for number in range(FRAMES):
            cv2.imwrite(str(root / name / "img" / f"{number:04d}.png"), np.zeros((90, 120, 3), np.uint8))
        (root / name / "groundtruth.txt").write_text(text(boxes))
    return read_dataset("folder", root)


def text(boxes, separator=",") -> str:
    return "".join(separator.join(f"{value:g}" for value in box) + "\n" for box in boxes)


def moved(name: str) -> np.ndarray:
    """What a tracker might answer: the truth in the first frame, then near it."""
    boxes = TRUTH[name].copy()
    boxes[1:, 0] += 1.25
    return boxes


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def read(folder: Path, dataset: Dataset, form=None, experiment=None, **more):
    ((name, layout),) = find_trackers(folder, dataset, form, experiment).items()
    return read_results(name, layout, dataset, **more)


@pytest.mark.parametrize("names", [("Jogging-1", "Walking"), ("jogging_1", "walking")])
@pytest.mark.parametrize("separator", [",", "\t", " "])
def test_pysot_one_pass(tmp_path, dataset, names, separator):
    jogging, walking = names
    write(
        tmp_path / "siamx",
        {
            f"{jogging}.txt": text(moved("Jogging-1"), separator),
            f"{walking}.txt": text(moved("Walking"), separator),
            f"times/{walking}_time.txt": "0.5\n" * FRAMES,
        },
    )
    run = read(tmp_path / "siamx", dataset, "pysot")
    assert (run.tracker, run.dataset, run.protocol) == ("siamx", "folder", "one-pass")
    for name in TRUTH:
        (result,) = run.results[name]
        np.testing.assert_array_equal(result.boxes, moved(name))
        assert result.codes.tolist() == [STARTED] + [TRACKED] * (FRAMES - 1)
        assert np.isnan(result.scores).all()
    assert run.results["Walking"][0].seconds.tolist() == [0.5] * FRAMES


def test_several_trackers_are_found_in_a_folder(tmp_path, dataset):
    for tracker in ("a", "b"):
        write(tmp_path / tracker, {"Walking.txt": text(moved("Walking"))})
    (tmp_path / "c").mkdir()
    assert list(find_trackers(tmp_path, dataset)) == ["a", "b"]


def test_got10k_repetitions_and_times(tmp_path, dataset):
    files = {f"Walking/Walking_{number:03d}.txt": text(moved("Walking")) for number in (1, 2, 3)}
    files["Walking/Walking_time.txt"] = "0.1,0.2,0.3\n" * FRAMES
    run = read(write(tmp_path / "t", files), dataset, "got10k")
    assert [result.seconds[2] for result in run.results["Walking"]] == [0.1, 0.2, 0.3]
    assert "Jogging-1" not in run.results


SUPERVISED = "1\n61,41,12,20\n2\n0\n0\n1\n"


def test_vot_supervised(tmp_path, dataset):
    files = {
        "baseline/Walking/Walking_001.txt": SUPERVISED,
        "baseline/Walking/Walking_001_time.value": "\n0.1\n0.2\n\n\n0.3\n",
        "baseline/Walking/Walking_001_confidence.value": "\n0.9\n0.8\n\n\n\n",
        "realtime/Walking/Walking_001.txt": "1\n" + "61,41,12,20\n" * 5,
        "unsupervised/Walking/Walking_001.txt": "1\n" + "61,41,12,20\n" * 4 + "0\n",
    }
    write(tmp_path / "t", files)
    run = read(tmp_path / "t", dataset)
    (result,) = run.results["Walking"]
    assert run.protocol == "supervised"
    assert result.codes.tolist() == [STARTED, TRACKED, FAILED, SKIPPED, SKIPPED, STARTED]
    np.testing.assert_array_equal(result.boxes[[0, 1, 5]], [TRUTH["Walking"][0], (61, 41, 12, 20), TRUTH["Walking"][5]])
    assert np.isnan(result.boxes[2:5]).all()
    np.testing.assert_array_equal(result.seconds, [np.nan, 0.1, 0.2, np.nan, np.nan, 0.3])
    np.testing.assert_array_equal(result.scores, [np.nan, 0.9, 0.8, np.nan, np.nan, np.nan])
    assert read(tmp_path / "t", dataset, experiment="realtime").protocol == "supervised"
    unsupervised = read(tmp_path / "t", dataset, "vot", "unsupervised")
    assert unsupervised.protocol == "one-pass"
    assert unsupervised.results["Walking"][0].codes[-1] == TRACKED


def test_vot_polygons_and_masks(tmp_path, dataset):
    mask = Mask(3, 4, np.array([[False, True, True], [True, True, False]]))
    files = {
        "baseline/Jogging-1/Jogging-1_001.txt": "1\n" + "0,0,10,5,8,20,-2,15\n" * 4 + "2\n",
        "baseline/Walking/Walking_001.txt": "1\n" + f"{format_region(mask)}\n" * 5,
    }
    run = read(write(tmp_path / "t", files), dataset)
    (turned,), (drawn,) = run.results["Jogging-1"], run.results["Walking"]
    np.testing.assert_array_equal(turned.polygons[1], [(0, 0), (10, 5), (8, 20), (-2, 15)])
    np.testing.assert_array_equal(turned.boxes[1], (-2, 0, 12, 20))
    x, y, w, h = TRUTH["Jogging-1"][0]
    np.testing.assert_array_equal(turned.polygons[0], [(x, y), (x + w, y), (x + w, y + h), (x, y + h)])
    assert np.isnan(turned.polygons[5]).all()
    again = parse_region(drawn.masks[1])
    assert (again.x, again.y, again.pixels.tolist()) == (mask.x, mask.y, mask.pixels.tolist())
    assert drawn.masks[0] is None
    np.testing.assert_array_equal(drawn.boxes[1], (3, 4, 3, 2))


def test_vot_binary(tmp_path):
    data = struct.pack("<hI", 1, 4)
    data += struct.pack("<BI", 0, 1)
    data += struct.pack("<B4f", 1, 1.5, 2, 3, 4)
    data += struct.pack("<BH6f", 2, 3, 0, 0, 4, 0, 0, 4)
    data += struct.pack("<BhhHHH3H", 3, -1, 2, 2, 2, 3, 1, 2, 1)
    (tmp_path / "a.bin").write_bytes(data)
    code, box, polygon, mask = read_entries(tmp_path / "a.bin")
    assert code == 1
    assert box.tolist() == [1.5, 2, 3, 4]
    assert polygon.tolist() == [[0, 0], [4, 0], [0, 4]]
    assert (mask.x, mask.y, mask.pixels.tolist()) == (-1, 2, [[False, True], [True, False]])
    for damaged in (data[:-3], b"\x02" + data[1:], data[:6] + b"\x09" + data[7:]):
        (tmp_path / "a.bin").write_bytes(damaged)
        with pytest.raises(UserError, match="a.bin is"):
            read_entries(tmp_path / "a.bin")


def test_vot_multi_start(tmp_path):
    truth = TRUTH["Walking"]
    paths = tuple(Path(f"{number}.jpg") for number in range(FRAMES))
    sequence = Sequence("Walking", paths, truth, anchors=(0, ~3), size=(120, 90))
    files = {
        "baseline/Walking/Walking_00000000.txt": "1\n" + text(truth[1:]),
        "baseline/Walking/Walking_00000003.txt": "1\n" + text(truth[2::-1]),
    }
    data = Dataset("vot2022", (sequence,), "multi-start")
    run = read(write(tmp_path / "t", files), data)
    forward, backward = run.results["Walking"]
    assert run.protocol == "multi-start"
    assert (forward.start, forward.backward, len(forward)) == (0, False, 6)
    assert (backward.start, backward.backward, len(backward)) == (3, True, 4)
    np.testing.assert_array_equal(backward.boxes, truth[3::-1])
    no_anchors = Dataset("vot2022", (Sequence("Walking", paths, truth, size=(120, 90)),), "multi-start")
    assert read(tmp_path / "t", no_anchors).results["Walking"][1].backward  # told by the number of lines
    (tmp_path / "t/baseline/Walking/Walking_00000003.txt").unlink()
    with pytest.raises(UserError, match="no results of the start in frame 3 of sequence Walking"):
        read(tmp_path / "t", data)
    write(tmp_path / "t", {"baseline/Walking/Walking_00000003.txt": "1\n", "baseline/Walking/Walking_00000002.txt": ""})
    with pytest.raises(UserError, match="starts in frame 2, which is no anchor"):
        read(tmp_path / "t", data)


@pytest.mark.parametrize("between", ["longterm/", ""])
def test_pysot_long_term(tmp_path, dataset, between):
    files = {
        f"{between}Walking/Walking_001.txt": "1\n61,41,12,20\n" + "nan,nan,nan,nan\n" + "61,41,12,20\n" * 3,
        f"{between}Walking/Walking_001_confidence.value": "\n0.9\n0.1\n0.9\n0.9\n0.9\n",
        f"{between}Walking/Walking_time.txt": "0.1\n" * FRAMES,
    }
    data = Dataset("vot2018-lt", dataset.sequences, "long-term")
    run = read(write(tmp_path / "t", files), data)
    (result,) = run.results["Walking"]
    assert run.protocol == "long-term"
    np.testing.assert_array_equal(result.scores, [np.nan, 0.9, 0.1, 0.9, 0.9, 0.9])
    assert np.isnan(result.boxes[2]).all()
    assert result.seconds.tolist() == [0.1] * FRAMES


@pytest.mark.parametrize("count", [FRAMES - 1, FRAMES + 2])
def test_another_number_of_lines_is_refused(tmp_path, dataset, count):
    write(tmp_path / "t", {"Walking.txt": text(np.resize(moved("Walking"), (count, 4)))})
    with pytest.raises(UserError, match=rf"Walking.txt has {count} lines, but sequence Walking has {FRAMES} frames"):
        read(tmp_path / "t", dataset)


def test_nan_is_refused_unless_it_is_said_what_it_means(tmp_path, dataset):
    lines = text(moved("Walking")).splitlines()
    lines[3] = "nan,nan,nan,nan"
    write(tmp_path / "t", {"Walking.txt": "\n".join(lines)})
    with pytest.raises(UserError, match=r"Walking.txt line 4 is NaN.*--nan-is-lost"):
        read(tmp_path / "t", dataset)
    (result,) = read(tmp_path / "t", dataset, nan_is_lost=True).results["Walking"]
    assert np.isnan(result.boxes[3]).all()
    assert np.isfinite(result.boxes[4]).all()
    lines[3] = "nan,1,2,3"
    write(tmp_path / "t", {"Walking.txt": "\n".join(lines)})
    with pytest.raises(UserError, match="line 4: 'nan,1,2,3' is a number in part only"):
        read(tmp_path / "t", dataset, nan_is_lost=True)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1,2,x,4", "is not numbers"),
        ("1,2,3", "has 3 numbers"),
        ("7", "is no code of VOT"),
        ("m1,2,3", "m1,2,3"),
    ],
)
def test_lines_that_are_no_regions_are_refused(tmp_path, dataset, line, said):
    lines = text(moved("Walking")).splitlines()
    lines[2] = line
    write(tmp_path / "t", {"Walking.txt": "\n".join(lines)})
    with pytest.raises(UserError, match=f"Walking.txt line 3: .*{said}"):
        read(tmp_path / "t", dataset)


@pytest.mark.parametrize(("form", "less"), [("exclusive", 0), ("inclusive", 1)])
@pytest.mark.parametrize("start", [0, 1])
def test_corners_are_said_not_guessed(tmp_path, dataset, form, less, start):
    boxes = moved("Walking")
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:] - less], 1) + start
    write(tmp_path / "t", {"Walking.txt": text(corners)})
    with pytest.raises(UserError, match=rf"seem to be corners.*--corners {form}"):
        read(tmp_path / "t", dataset)
    if start:
        with pytest.raises(UserError, match="--one-based"):
            read(tmp_path / "t", dataset, coordinates=Coordinates(None, form))
    run = read(tmp_path / "t", dataset, coordinates=Coordinates(bool(start) or None, form))
    np.testing.assert_allclose(run.results["Walking"][0].boxes, boxes)


def test_a_given_first_box_hides_no_corners(tmp_path, dataset):
    boxes = moved("Walking")
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    write(tmp_path / "t", {"Walking.txt": text(np.concatenate([boxes[:1], corners[1:]]))})
    with pytest.raises(UserError, match="none would if they were corners"):
        read(tmp_path / "t", dataset)


def test_negative_sizes_are_refused(tmp_path, dataset):
    boxes = moved("Walking")
    boxes[3] = [70, 60, -10, -20]
    write(tmp_path / "t", {"Walking.txt": text(boxes)})
    with pytest.raises(UserError, match="Walking.txt line 4, 70,60,-10,-20, has a negative width or height"):
        read(tmp_path / "t", dataset)


def test_counting_from_one_is_said_not_guessed(tmp_path, dataset):
    write(tmp_path / "t", {f"{name}.txt": text(moved(name) + [1, 1, 0, 0]) for name in TRUTH})
    with pytest.raises(UserError, match=r"off by exactly 1,1 \(so in 2 of 2 files\).*--one-based, or --zero-based"):
        read(tmp_path / "t", dataset)
    run = read(tmp_path / "t", dataset, coordinates=Coordinates(one_based=True))
    np.testing.assert_allclose(run.results["Walking"][0].boxes, moved("Walking"))
    run = read(tmp_path / "t", dataset, coordinates=Coordinates(one_based=False))
    np.testing.assert_allclose(run.results["Walking"][0].boxes, moved("Walking") + [1, 1, 0, 0])
    write(tmp_path / "t", {f"{name}.txt": text(moved(name)) for name in TRUTH})
    with pytest.raises(UserError, match="leave --one-based out"):
        read(tmp_path / "t", dataset, coordinates=Coordinates(one_based=True))


def test_pysots_half_pixel_in_the_first_frame_is_no_reason_to_complain(tmp_path, dataset):
    boxes = moved("Walking")
    boxes[0, :2] += 0.5
    write(tmp_path / "t", {"Walking.txt": text(boxes)})
    np.testing.assert_array_equal(read(tmp_path / "t", dataset).results["Walking"][0].boxes, boxes)


def test_results_of_something_else_are_refused(tmp_path, dataset):
    write(tmp_path / "t", {"Walking.txt": text(moved("Walking") + [40, 0, 0, 0])})
    with pytest.raises(UserError, match=r"100,40,12,20 where the truth \(x,y,w,h\) is 60,40,12,20.*another data set"):
        read(tmp_path / "t", dataset)


def test_corners_without_a_first_box_are_seen_by_leaving_the_image(tmp_path, dataset):
    boxes = np.array([[50, 40, 110, 80]] * FRAMES, float)  # of an image of 120 x 90
    assert looks_like_corners(boxes, (120, 90))
    assert not looks_like_corners(boxes, (300, 300))
    assert not looks_like_corners(TRUTH["Walking"], (120, 90))
    write(tmp_path / "t", {"baseline/Walking/Walking_001.txt": "1\n" + text(boxes[1:])})
    with pytest.raises(UserError, match=r"most boxes of .* leave the image of 120x90 pixels"):
        read(tmp_path / "t", dataset)
    run = read(tmp_path / "t", dataset, coordinates=Coordinates(corners="exclusive"))
    assert run.results["Walking"][0].boxes[1].tolist() == [50, 40, 60, 40]


def test_what_is_not_there_is_said(tmp_path, dataset):
    with pytest.raises(UserError, match="there is no folder"):
        find_trackers(tmp_path / "no", dataset)
    with pytest.raises(UserError, match="unknown format 'pysto'; did you mean 'pysot'"):
        find_trackers(tmp_path, dataset, "pysto")
    with pytest.raises(UserError, match=r"holds no results of folder's sequences: looked .* such as Jogging-1"):
        find_trackers(tmp_path, dataset)


def test_two_files_of_one_name_are_refused(tmp_path, dataset):
    write(tmp_path / "t", {"jogging_1.txt": "", "JOGGING-1.txt": ""})
    with pytest.raises(UserError, match="has results called JOGGING-1 and jogging_1 for sequence Jogging-1; keep one"):
        find_trackers(tmp_path / "t", dataset)
    write(tmp_path / "u", {"baseline/Walking/Walking_001.txt": "", "baseline/Walking/Walking_001.bin": ""})
    with pytest.raises(UserError, match="there are both"):
        find_trackers(tmp_path / "u", dataset)


def test_times_of_another_length_are_refused(tmp_path, dataset):
    write(tmp_path / "t", {"Walking.txt": text(moved("Walking")), "Walking_time.txt": "0.1\n"})
    with pytest.raises(UserError, match="Walking_time.txt has 1 lines, but Walking.txt has 6"):
        read(tmp_path / "t", dataset)


def test_numbers(tmp_path):
    (tmp_path / "a").write_text("\n1\n2,3\n")
    np.testing.assert_array_equal(read_numbers(tmp_path / "a"), [[np.nan] * 2, [1, np.nan], [2, 3]])
    (tmp_path / "a").write_text("1\nx\n")
    with pytest.raises(UserError, match="line 2: 'x' is not numbers"):
        read_numbers(tmp_path / "a")
