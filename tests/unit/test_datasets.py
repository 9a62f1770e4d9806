"""Tiny copies of each data set's layout: what its reader makes of them, and what it says of a broken one."""

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from tests.conftest import DATA

from siamtrack.errors import UserError
from siamtrack.evaluate.datasets import READERS, lasot, otb, read_dataset, uav
from siamtrack.regions import Mask
from siamtrack.video.image import read_labels

BOXES = [(11, 21, 30, 40), (12, 22, 30, 40), (13, 23, 30, 40)]


def write(path: Path, *lines: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(str, lines)) + "\n")
    return path


def write_boxes(path: Path, boxes=BOXES, separator=","):
    return write(path, *(separator.join(map(str, box)) for box in boxes))


def empty_images(folder: Path, numbers=range(1, 4), form="{:04d}.jpg"):
    """Files without content: readers of boxes never open an image."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / form.format(number)).touch()


def palette_png(path: Path, labels: np.ndarray):
    """Write a PNG whose pixels are indices of a palette of other colours."""
    height, width = labels.shape
    frame = av.VideoFrame(width, height, "pal8")
    indices, palette = frame.planes
    rows = np.zeros((height, indices.line_size), np.uint8)
    rows[:, :width] = labels
    indices.update(rows.tobytes())
    palette.update(np.random.default_rng(5).integers(0, 2**32, 256, np.uint32).tobytes())
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "pal8", 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))


def labels_image(*boxes, size=(40, 30)) -> np.ndarray:
    """Return an image in which box n (from 1) is filled with n."""
    labels = np.zeros(size[::-1], np.uint8)
    for number, (x, y, w, h) in enumerate(boxes, 1):
        labels[y : y + h, x : x + w] = number
    return labels


def only(name: str, root: Path, *names: str):
    (sequence,) = read_dataset(name, root, names).sequences
    return sequence


def said(name: str, root: Path, *names: str) -> str:
    with pytest.raises(UserError) as error:
        read_dataset(name, root, names)
    return str(error.value)


@pytest.mark.parametrize("separator", [",", "\t", " "])
def test_otb_counts_from_zero_whatever_separates(tmp_path, separator):
    write_boxes(tmp_path / "Crossing" / "groundtruth_rect.txt", separator=separator)
    empty_images(tmp_path / "Crossing" / "img")
    sequence = only("OTB100", tmp_path, "Crossing")
    assert sequence.boxes.tolist() == [[10, 20, 30, 40], [11, 21, 30, 40], [12, 22, 30, 40]]
    assert [path.name for path in sequence.paths] == ["0001.jpg", "0002.jpg", "0003.jpg"]
    assert sequence.attributes == {"SV", "DEF", "BC"}


def test_otb_objects_and_ranges(tmp_path):
    empty_images(tmp_path / "Jogging" / "img")
    for number in (1, 2):
        write_boxes(tmp_path / "Jogging" / f"groundtruth_rect.{number}.txt", [(number, 1, 5, 5)] * 3)
    assert only("otb2013", tmp_path, "Jogging-2").boxes[0].tolist() == [1, 0, 5, 5]
    empty_images(tmp_path / "David" / "img", range(295, 771))
    write_boxes(tmp_path / "David" / "groundtruth_rect.txt", [(1, 1, 5, 5)] * 471)
    david = only("otb100", tmp_path, "David")
    assert (david.paths[0].name, david.paths[-1].name, len(david)) == ("0300.jpg", "0770.jpg", 471)
    empty_images(tmp_path / "BlurCar1" / "img", range(247, 250))
    write_boxes(tmp_path / "BlurCar1" / "groundtruth_rect.txt")
    assert only("otb100", tmp_path, "BlurCar1").paths[0].name == "0247.jpg"


def test_otb_lists_have_the_published_numbers():
    assert (len(otb.ATTRIBUTES), len(otb.OTB50), len(otb.OTB2013)) == (100, 50, 51)  # 50 videos, Jogging twice
    assert set(otb.ATTRIBUTES) >= otb.OTB50 | otb.OTB2013
    assert set(otb.ATTRIBUTES) > otb.OBJECTS

    def counts(names):
        labels = [label for name in names for label in otb.ATTRIBUTES[name]]
        return {label: labels.count(label) for label in set(labels)}

    # The numbers in brackets in the titles of the papers' attribute plots.
    published = {"IV": 38, "OPR": 63, "SV": 64, "OCC": 49, "DEF": 44, "MB": 29, "FM": 39, "IPR": 51, "OV": 14}
    assert counts(otb.ATTRIBUTES) == {**published, "BC": 31, "LR": 9}
    published = {"IV": 25, "OPR": 39, "SV": 28, "OCC": 29, "DEF": 19, "MB": 12, "FM": 17, "IPR": 31, "OV": 6}
    assert counts(otb.OTB2013) == {**published, "BC": 21, "LR": 4}


def test_what_otb_lacks_is_said(tmp_path):
    write_boxes(tmp_path / "Crossing" / "groundtruth_rect.txt")
    empty_images(tmp_path / "Crossing" / "img", range(1, 5))
    assert "4 images but 3 lines of ground truth in " in said("otb100", tmp_path, "Crossing")
    assert f"sequence Basketball has no folder {tmp_path / 'Basketball'}" in said("otb100", tmp_path)
    (tmp_path / "Crossing" / "groundtruth_rect.txt").unlink()
    path = tmp_path / "Crossing" / "groundtruth_rect.txt"
    assert said("otb100", tmp_path, "Crossing") == f"sequence Crossing has no file {path}"
    write(path, "1,2,3,4", "1,2,3")
    assert "line 2 of " in said("otb100", tmp_path, "Crossing")
    write(path, "0,0,0,0", "1,2,3,4", "1,2,3,4", "1,2,3,4")
    assert "has no box in its first frame" in said("otb100", tmp_path, "Crossing")
    write(path, "1,2,3,x")
    assert "is not numbers" in said("otb100", tmp_path, "Crossing")


def test_uav_segments(tmp_path):
    empty_images(tmp_path / "data_seq" / "UAV123" / "bird1", range(770, 1480), "{:06d}.jpg")
    write_boxes(tmp_path / "anno" / "UAV123" / "bird1_2.txt", [*BOXES, *[("NaN",) * 4] * 700])
    write(tmp_path / "anno" / "UAV123" / "att" / "bird1_2.txt", "1,0,1,0,0,0,0,0,0,0,0,1")
    sequence = only("uav123", tmp_path, "bird1_2")
    assert (sequence.paths[0].name, len(sequence)) == ("000775.jpg", 703)
    assert sequence.attributes == {"SV", "LR", "SOB"}
    assert sequence.boxes[0].tolist() == [10, 20, 30, 40]
    assert np.isnan(sequence.boxes[3:]).all()
    assert "anno/UAV20L/bike1.txt" in said("uav20l", write(tmp_path / "x" / "y").parent, "bike1")
    assert (len(uav.UAV123), len(uav.UAV20L)) == (123, 20)
    # 112,578 and 58,670 frames in the paper; segments that share a frame count it twice.
    assert sum(last - first + 1 for first, last in uav.UAV123.values()) == 112578
    assert sum(last - first + 1 for first, last in uav.UAV20L.values()) == 58670


def vatic(count: int, lost=()):
    return [f'0 10 20 40 {60 + n} {n} {int(n in lost)} 0 1 "a ball"' for n in range(count)]


def test_nfs_at_both_rates(tmp_path):
    write(tmp_path / "ball" / "30" / "ball.txt", *vatic(24, lost={8}))
    empty_images(tmp_path / "ball" / "30" / "ball", range(1, 4), "{:05d}.jpg")
    write(tmp_path / "ball" / "240" / "ball.txt", *vatic(23))
    empty_images(tmp_path / "ball" / "240" / "ball", range(1, 25), "{:05d}.jpg")
    slow, fast = only("nfs30", tmp_path), only("nfs240", tmp_path)
    assert slow.boxes.tolist() == [[10, 20, 30, 40], [10, 20, 30, 48], [10, 20, 30, 56]]
    assert slow.labels["lost"].tolist() == [False, True, False]
    assert len(fast.paths) == len(fast.boxes) == 23
    write(tmp_path / "ball" / "240" / "ball.txt", *vatic(20))
    assert "24 images but 20 lines" in said("nfs240", tmp_path)


def test_tc128_and_dtb70(tmp_path):
    write_boxes(tmp_path / "tc" / "Ball_ce" / "Ball_ce_gt.txt")
    write(tmp_path / "tc" / "Ball_ce" / "Ball_ce_frames.txt", "3,5")
    empty_images(tmp_path / "tc" / "Ball_ce" / "img", range(1, 9))
    sequence = only("tc128", tmp_path / "tc")
    assert (sequence.name, sequence.paths[0].name) == ("Ball_ce", "0003.jpg")
    assert sequence.boxes[0].tolist() == [10, 20, 30, 40]
    write_boxes(tmp_path / "dtb" / "Gull1" / "groundtruth_rect.txt")
    empty_images(tmp_path / "dtb" / "Gull1" / "img", form="{:05d}.jpg")
    assert only("dtb70", tmp_path / "dtb").boxes[0].tolist() == [10, 20, 30, 40]
    (tmp_path / "empty").mkdir()
    assert "NAME/NAME_frames.txt" in said("tc128", tmp_path / "empty")
    assert "NAME/groundtruth_rect.txt" in said("dtb70", tmp_path / "empty")


def lasot_sequence(folder: Path):
    write_boxes(folder / "groundtruth.txt")
    empty_images(folder / "img", form="{:08d}.jpg")
    write(folder / "full_occlusion.txt", "0,1,0")
    write(folder / "out_of_view.txt", "0,0,1")


def test_lasot(tmp_path):
    lasot_sequence(tmp_path / "airplane" / "airplane-9")
    write(tmp_path / "att" / "airplane-9.txt", "1,0,0,0,0,0,0,0,0,0,0,0,0,1")
    sequence = only("lasot", tmp_path, "airplane-9")
    assert sequence.boxes[0].tolist() == [10, 20, 30, 40]
    assert sequence.counts.tolist() == [True, False, False]
    assert sequence.labels["out of view"].tolist() == [False, False, True]
    assert (sequence.attributes, sequence.group) == ({"IV", "ARC"}, "airplane")
    assert "sequence airplane-1 has no folder" in said("lasot", tmp_path)
    write(tmp_path / "testing_set.txt", "airplane-9")
    assert len(read_dataset("lasot", tmp_path).sequences) == 1
    assert len(set(lasot.TEST)) == 280
    (tmp_path / "airplane" / "airplane-9" / "out_of_view.txt").write_text("0,1")
    assert "out_of_view.txt has 2 values but there are 3 frames" in said("lasot", tmp_path)


def test_lasot_extension_in_order(tmp_path):
    for name in ("atv-10", "atv-9", "badminton-1"):
        lasot_sequence(tmp_path / name.split("-")[0] / name)
    assert [s.name for s in read_dataset("lasot_ext", tmp_path).sequences] == ["atv-9", "atv-10", "badminton-1"]


def got10k_split(root: Path, name: str):
    folder = root / name
    write(root / "list.txt", name)
    write_boxes(folder / "groundtruth.txt", [(f"{x}.0000", *rest) for x, *rest in BOXES])
    empty_images(folder, form="{:08d}.jpg")
    return folder


def test_got10k(tmp_path):
    folder = got10k_split(tmp_path / "val", "GOT-10k_Val_000001")
    write(folder / "absence.label", 0, 1, 0)
    write(folder / "cover.label", 8, 0, 5)
    facts = ("url: https://example.org/a%20b", "object_class: giant panda", "resolution: (1920, 1080)")
    write(folder / "meta_info.ini", "[METAINFO]", *facts)
    for root in (tmp_path, tmp_path / "val"):
        sequence = only("got10k", root)
    assert (sequence.group, sequence.size) == ("giant panda", (1920, 1080))
    assert sequence.boxes[0].tolist() == [11, 21, 30, 40]
    assert sequence.counts.tolist() == [True, False, True]
    assert sequence.labels["absence"].tolist() == [False, True, False]
    assert sequence.labels["cover 5"].tolist() == [False, False, True]
    assert READERS["got10k"].protocol == "got10k"
    (folder / "meta_info.ini").write_text("[METAINFO]\nobject_class: panda\n")
    assert "has no object_class and resolution" in said("got10k", tmp_path)


def test_only_the_first_box_of_test_sets_is_known(tmp_path):
    folder = got10k_split(tmp_path / "got" / "test", "GOT-10k_Test_000001")
    write_boxes(folder / "groundtruth.txt", BOXES[:1])
    sequence = only("got10k-test", tmp_path / "got")
    assert len(sequence) == 3
    assert sequence.truth(0).tolist() == [11, 21, 30, 40]
    assert sequence.truth(1) is None
    for split, boxes in (("TEST", BOXES[:1]), ("TRAIN_10", BOXES), ("TRAIN_2", BOXES)):
        write_boxes(tmp_path / "net" / split / "anno" / f"{split}_a.txt", boxes)
        empty_images(tmp_path / "net" / split / "frames" / f"{split}_a", (9, 10, 11), "{}.jpg")
    sequence = only("trackingnet", tmp_path / "net")
    assert [path.name for path in sequence.paths] == ["9.jpg", "10.jpg", "11.jpg"]
    assert (sequence.truth(0).tolist(), sequence.truth(1)) == ([11, 21, 30, 40], None)
    names = [each.name for each in read_dataset("trackingnet-train", tmp_path / "net").sequences]
    assert names == ["TRAIN_2_a", "TRAIN_10_a"]
    assert only("trackingnet", tmp_path / "net" / "TRAIN_2").truth(1) is not None


def vot_sequence(root: Path, name: str, *lines: str, color=True):
    with (root / "list.txt").open("a") as file:
        file.write(f"{name}\n")
    write(root / name / "groundtruth.txt", *lines)
    empty_images(root / name / "color" if color else root / name, form="{:08d}.jpg")
    return root / name


def test_vot_supervised(tmp_path):
    lines = ("10,20,40,20,40,60,10,60", "10,20,30,40", "0")
    folder = vot_sequence(tmp_path, "bag", *lines)
    write(folder / "sequence", "name=bag", "channels.color=color/%08d.jpg", "width=320", "height=240")
    write(folder / "occlusion.tag", 0, 1)
    write(folder / "camera_motion.label", 1, 1, 1)
    other = vot_sequence(tmp_path, "ball", *["1,2,3,4"] * 3, color=False)
    cv2.imwrite(str(other / "00000001.jpg"), np.zeros((30, 40, 3), np.uint8))
    bag, ball = read_dataset("vot2018", tmp_path).sequences
    assert bag.regions[0].tolist() == [[10, 20], [40, 20], [40, 60], [10, 60]]
    assert bag.truth(2) is None
    assert bag.boxes[:2].tolist() == [[10, 20, 30, 40]] * 2
    assert bag.labels["occlusion"].tolist() == [False, True, False]
    assert bag.labels["camera_motion"].all()
    assert (bag.size, bag.anchors) == ((320, 240), ())
    assert bag.paths[0] == folder / "color" / "00000001.jpg"
    assert (ball.regions, ball.paths[0].parent.name, ball.size) == (None, "ball", (40, 30))
    assert {READERS[f"vot{year}"].protocol for year in range(2013, 2020)} == {"supervised"}


def test_vot_multi_start(tmp_path):
    # The window begins at x 4, y 2 and is 3 wide, 2 high: one 0, two 1s, one 0, one 1, one 0.
    (tmp_path / "sequences").mkdir()  # as in a workspace of VOT's toolkit
    folder = vot_sequence(tmp_path / "sequences", "a", *["m4,2,3,2,1,2,1,1,1"] * 3)
    assert "no frames to start in" in said("vot2020", tmp_path)
    write(folder / "anchor.value", 1, 0, -1)
    sequence = only("vot2020", tmp_path)
    assert isinstance(sequence.regions[0], Mask)
    assert (sequence.regions[0].x, sequence.regions[0].y) == (4, 2)
    assert sequence.regions[0].pixels.tolist() == [[False, True, True], [False, True, False]]
    assert sequence.boxes[0].tolist() == [5, 2, 2, 2]
    assert sequence.anchors == (0, -3)
    assert READERS["vot2022"].protocol == "multi-start"
    assert "has masks, which VOT has since 2020" in said("vot2019", tmp_path)


def test_vot_long_term(tmp_path):
    vot_sequence(tmp_path, "ballet", "1,2,3,4", "nan,nan,nan,nan", "5,6,7,8")
    sequence = only("votlt2019", tmp_path)
    assert sequence.truth(1) is None
    assert sequence.truth(2).tolist() == [5, 6, 7, 8]
    assert read_dataset("votlt2018", tmp_path).protocol == "long-term"
    write(tmp_path / "list.txt", *["ballet"] * 35)
    assert "names 35 sequences: this is votlt2018, not votlt2019" in said("votlt2019", tmp_path)


def test_label_images_are_read_as_numbers(tmp_path):
    labels = labels_image((1, 2, 5, 6), (10, 3, 4, 4), (20, 20, 3, 3))
    palette_png(tmp_path / "palette.png", labels)
    assert cv2.imread(str(tmp_path / "palette.png"), cv2.IMREAD_UNCHANGED).shape[-1] in (3, 4)  # as colours: no use
    assert np.array_equal(read_labels(tmp_path / "palette.png"), labels)
    cv2.imwrite(str(tmp_path / "grey.png"), labels)
    assert np.array_equal(read_labels(tmp_path / "grey.png"), labels)
    cv2.imwrite(str(tmp_path / "bit.png"), (labels > 0) * np.uint8(255), [cv2.IMWRITE_PNG_BILEVEL, 1])
    assert np.array_equal(read_labels(tmp_path / "bit.png"), (labels > 0) * 255)
    cv2.imwrite(str(tmp_path / "colour.png"), np.repeat((labels[..., None] > 0) * np.uint8(255), 3, -1))
    assert np.array_equal(read_labels(tmp_path / "colour.png") > 0, labels > 0)
    write(tmp_path / "text.png", "no image")
    with pytest.raises(UserError, match=r"text\.png is no PNG image"):
        read_labels(tmp_path / "text.png")


@pytest.fixture
def davis(tmp_path) -> Path:
    """The files of DAVIS 2017, which has the lists of 2016 too: two objects, the second gone in the last frame."""
    empty_images(tmp_path / "JPEGImages" / "480p" / "dance", range(3), "{:05d}.jpg")
    for number in range(3):
        boxes = [(2 + number, 3, 5, 6), (20, 10, 7, 4)][: 1 if number == 2 else 2]
        palette_png(tmp_path / "Annotations" / "480p" / "dance" / f"{number:05d}.png", labels_image(*boxes))
    write(tmp_path / "ImageSets" / "2017" / "val.txt", "dance")
    write(tmp_path / "ImageSets" / "2016" / "val.txt", "dance")
    return tmp_path


def test_davis_2017(davis):
    one, two = read_dataset("davis2017", davis).sequences
    assert (one.name, two.name, two.video, two.object_number) == ("dance/1", "dance/2", "dance", 2)
    assert one.boxes.tolist() == [[2, 3, 5, 6], [3, 3, 5, 6], [4, 3, 5, 6]]
    assert two.boxes[:2].tolist() == [[20, 10, 7, 4]] * 2
    assert np.isnan(two.boxes[2]).all()
    assert two.counts.all()  # frames without the object count, too
    assert (one.size, one.masks[0].name) == ((40, 30), "00000.png")
    assert read_dataset("davis2017", davis).protocol == "vos"
    (davis / "Annotations" / "480p" / "dance" / "00002.png").unlink()
    assert "3 images but 2 label images" in said("davis2017", davis)


def test_davis_2016(davis):
    (sequence,) = read_dataset("davis2016", davis).sequences
    assert (sequence.name, sequence.video, sequence.object_number) == ("dance", "dance", 255)
    assert sequence.boxes[0].tolist() == [2, 3, 25, 11]  # all objects are one
    pair = "/JPEGImages/480p/dance/{0}.jpg /Annotations/480p/dance/{0}.png"
    write(davis / "ImageSets" / "480p" / "val.txt", pair.format("00000"), pair.format("00001"))
    assert only("davis2016", davis).name == "dance"
    assert "ImageSets/480p/val.txt" in said("davis2016", write(davis / "x" / "y").parent)


@pytest.fixture
def youtube(tmp_path) -> Path:
    """A validation set: object 2 appears in the second frame, and only first appearances are annotated."""
    base = tmp_path / "valid"
    empty_images(base / "JPEGImages" / "abc", (0, 5, 10), "{:05d}.jpg")
    palette_png(base / "Annotations" / "abc" / "00000.png", labels_image((2, 3, 5, 6)))
    palette_png(base / "Annotations" / "abc" / "00005.png", labels_image((0, 0, 1, 1), (20, 10, 7, 4)))
    objects = {
        "1": {"category": "panda", "frames": ["00000", "00005", "00010"]},
        "2": {"category": "ape", "frames": ["00005", "00010"]},
    }
    write(base / "meta.json", json.dumps({"videos": {"abc": {"objects": objects}}}))
    return tmp_path


def test_youtubevos(youtube):
    one, two = read_dataset("youtubevos", youtube).sequences
    assert (one.name, one.video, len(one), one.group) == ("abc/1", "abc", 3, "")
    assert one.counts.tolist() == [True, False, False]
    assert one.masks[1:] == (None, None)
    assert [path.name for path in two.paths] == ["00005.jpg", "00010.jpg"]
    assert two.boxes[0].tolist() == [20, 10, 7, 4]
    objects = {"1": {"category": "panda", "frames": []}}
    write(youtube / "train" / "meta.json", json.dumps({"videos": {"x": {"objects": objects}}}))
    assert [each.group for each in read_dataset("youtubevos", youtube / "valid").sequences] == ["seen", "unseen"]


def test_youtubevos_with_all_labels(youtube):
    palette_png(youtube / "valid" / "Annotations" / "abc" / "00010.png", labels_image((4, 3, 5, 6), (21, 10, 7, 4)))
    one, two = read_dataset("youtubevos", youtube).sequences
    assert one.counts.all()
    assert two.boxes.tolist() == [[20, 10, 7, 4], [21, 10, 7, 4]]
    (youtube / "valid" / "meta.json").write_text("{}")
    assert "does not name videos and their objects" in said("youtubevos", youtube)


def test_segtrack2(tmp_path):
    empty_images(tmp_path / "JPEGImages" / "frog", range(3), "frog_{:03d}.png")
    write(tmp_path / "ImageSets" / "frog.txt", "frog", "frog_000", "frog_001")
    empty_images(tmp_path / "JPEGImages" / "drift", range(2), "{:05d}.bmp")
    for number in range(3):
        mask = (labels_image((2 + number, 3, 5, 6)) > 0) * np.uint8(255)
        for folder in ("frog", "drift/1", "drift/2"):
            path = tmp_path / "GroundTruth" / folder / f"frog_{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if folder == "frog" or number < 2:
                cv2.imwrite(str(path), mask)
    sequences = read_dataset("segtrack2", tmp_path).sequences
    assert [(s.name, s.video, len(s)) for s in sequences] == [
        ("drift/1", "drift", 2),
        ("drift/2", "drift", 2),
        ("frog", "frog", 2),
    ]
    assert sequences[2].boxes.tolist() == [[2, 3, 5, 6], [3, 3, 5, 6]]
    assert sequences[2].object_number == 255


def test_folder_with_masks(sequences):
    assert only("folder", sequences, "boxes").masks is None
    folder = sequences / "boxes" / "mask"
    try:
        empty_images(folder, range(1, 13), "{:08d}.png")
        sequence = only("folder", sequences, "boxes")
        assert (len(sequence.masks), sequence.object_number) == (12, 255)
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_pysot_files(tmp_path):
    video = {"video_dir": "a", "init_rect": [1, 2, 3, 4], "img_names": ["a/img/1.jpg", "a/img/2.jpg", "a/img/3.jpg"]}
    boxes = {**video, "gt_rect": [[1, 2, 3, 4], [5, 6, 7, 8], [1, 2, 3, 4]], "attr": ["IV"], "absent": [1, 0, 1]}
    polygon = [0, 0, 10, 0, 10, 5, 0, 5]
    tags = {**video, "gt_rect": [polygon, [float("nan")] * 8, [0]], "occlusion": [0, 1, 0], "size_change": []}
    path = write(tmp_path / "X.json", json.dumps({"boxes": boxes, "tags": {**tags, "width": 320, "height": 240}}))
    for root in (tmp_path, path):
        one, two = read_dataset("pysot", root).sequences
    assert one.boxes.tolist() == boxes["gt_rect"]
    assert one.paths[0] == tmp_path / "a" / "img" / "1.jpg"
    assert (one.attributes, one.regions, one.counts.tolist()) == ({"IV"}, None, [True, False, True])
    assert two.regions[0].tolist() == [[0, 0], [10, 0], [10, 5], [0, 5]]
    assert (two.truth(1), two.truth(2), two.size) == (None, None, (320, 240))
    assert {label: values.tolist() for label, values in two.labels.items()} == {"occlusion": [False, True, False]}
    write(tmp_path / "Y.json", "{}")
    assert "found X.json, Y.json; give the file itself" in said("pysot", tmp_path)
    write(path, json.dumps({"boxes": {**boxes, "absent": [1]}}))
    assert "has 1 values of absent but 3 frames" in said("pysot", path)
    write(path, json.dumps({"boxes": {**boxes, "gt_rect": [[1, 2, 3]]}}))
    assert "is damaged" in said("pysot", path)


def test_recorded_pysot_file():
    path = DATA.parent / "golden" / "vot" / "dataset.json"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    sequences = read_dataset("pysot", path).sequences
    assert len(sequences) == 14
    assert all(len(each.regions) == len(each) and len(each.labels) == 5 for each in sequences)


@pytest.mark.parametrize(
    ("asked", "looks", "mark"),
    [
        ("dtb70", "otb2013 or otb50 or otb100", "CarDark/groundtruth_rect.txt"),
        ("otb100", "dtb70", "ChasingDrones/groundtruth_rect.txt"),
        ("lasot", "got10k", "val/list.txt"),
        ("got10k", "lasot", "airplane/airplane-1/groundtruth.txt"),
        ("lasot", "lasot_ext", "atv/atv-1/groundtruth.txt"),
        ("uav123", "nfs30", "ball/30/ball.txt"),
        ("nfs30", "nfs240", "ball/240/ball.txt"),
        ("nfs240", "tc128", "Ball/Ball_frames.txt"),
        ("tc128", "uav123", "anno/UAV123/a.txt"),
        ("vot2018", "vot2014", "drunk/groundtruth.txt"),
        ("vot2020", "vot2019", "agility/groundtruth.txt"),
        ("vot2013", "votlt2018 or votlt2019", "ballet/groundtruth.txt"),
        ("votlt2018", "vot2017 or vot2018", "ants3/groundtruth.txt"),
        ("davis2017", "davis2016", "ImageSets/480p/val.txt"),
        ("davis2016", "youtubevos", "valid/meta.json"),
        ("youtubevos", "segtrack2", "GroundTruth/frog/1.png"),
        ("trackingnet", "trackingnet-train", "TRAIN_0/anno/a.txt"),
        ("segtrack2", "trackingnet", "TEST/anno/a.txt"),
    ],
)
def test_the_folder_of_another_data_set_is_named(tmp_path, asked, looks, mark):
    write(tmp_path / mark)
    assert said(asked, tmp_path).startswith(f"{tmp_path} is not {asked}: it looks like {looks} (looked for ")


def test_what_a_folder_of_sequences_is_instead(tmp_path):
    write_boxes(tmp_path / "CarDark" / "groundtruth_rect.txt")
    assert said("folder", tmp_path).endswith("; it looks like otb2013 or otb50 or otb100")


def test_every_reader_says_what_it_looked_for(tmp_path):
    for name in READERS:
        assert str(tmp_path) in said(name, tmp_path), name
