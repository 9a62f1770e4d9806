"""Readers of training data: each on a small copy of its published layout, made here."""

import gzip
import json
from collections import Counter
from fractions import Fraction

import cv2
import numpy as np
import pytest

from siamtrack.data.index import IndexBuilder, read_index
from siamtrack.data.pictures import PictureReader
from siamtrack.data.sources import SOURCES, add_source, wanted
from siamtrack.errors import UserError
from siamtrack.video.writer import VideoWriter

SIZE = (64, 48)


def picture(path, size=SIZE, level=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path.with_suffix(".jpg")), np.full((size[1], size[0], 3), level, np.uint8))
    path.with_suffix(".jpg").rename(path)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def labels(path, boxes, size=SIZE):
    """Write a palette PNG in which box k is number k; colours say nothing about the numbers."""
    import av

    image = np.zeros((size[1], size[0]), np.uint8)
    for number, (x, y, w, h) in boxes.items():
        image[y : y + h, x : x + w] = number
    palette = np.zeros((256, 4), np.uint8)
    palette[:, :3] = np.random.default_rng(0).integers(0, 256, (256, 3))
    palette[:, 3] = 255
    frame = av.VideoFrame.from_ndarray((image, palette), format="pal8")
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = *size, "pal8", Fraction(1, 25)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))


def film(path, frames=6):
    writer = VideoWriter(path, SIZE, Fraction(25))
    for number in range(frames):
        writer.write(np.full((SIZE[1], SIZE[0], 3), 20 + 35 * number, np.uint8), number / 25)
    writer.close()


def build(kind, folder):
    builder = IndexBuilder(folder)
    for _ in add_source(builder, wanted(kind, folder)):
        pass
    return builder.build()


def reasons(index):
    return Counter(each.reason for each in index.rejected)


def rows(index):
    """Return picture's name, box, and whether the object is tracked."""
    return [
        (index.pictures.image[p].rsplit("/", 1)[-1], [round(float(v), 2) for v in box], int(track))
        for p, box, track in zip(index.picture, index.box, index.track, strict=True)
    ]


def decoded(index):
    """Read every picture and mask of an index; return the masks."""
    reader = PictureReader(index.root)
    for each in index.pictures:
        assert reader.picture(each).shape == (each.size[1], each.size[0], 3)
    return [
        reader.mask(index.pictures[int(p)], m) if m else None for p, m in zip(index.picture, index.mask, strict=True)
    ]


def xml(boxes, size=SIZE, **more):
    things = "".join(
        f"<object><name>dog</name><trackid>{number}</trackid>"
        + "".join(f"<{key}>{value}</{key}>" for key, value in more.items())
        + "<bndbox>"
        + "".join(
            f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        + "</bndbox></object>"
        for number, box in boxes
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{things}</annotation>"


def test_vid_keeps_every_stretch_of_a_track_and_lists_what_is_damaged(tmp_path):
    train = "VID/train/ILSVRC2015_VID_train_0000/clip"
    for frame in range(6):
        if frame != 4:
            picture(tmp_path / "Data" / train / f"{frame:06d}.JPEG")
        boxes = [] if frame == 2 else [(0, (10 + frame, 5, 30 + frame, 25))]  # two stretches: 0-1 and 3-5
        text(tmp_path / "Annotations" / train / f"{frame:06d}.xml", xml(boxes, occluded=int(frame == 1)))
    picture(tmp_path / "Data/VID/val/short/000000.JPEG")
    text(tmp_path / "Annotations/VID/val/short/000000.xml", xml([(7, (1, 1, 20, 20)), (8, (70, 1, 90, 20))]))
    text(tmp_path / "Annotations/VID/val/short/000001.xml", "<annotation>")
    (tmp_path / "Data/VID/val/short/000002.JPEG").write_bytes(b"nothing")
    text(tmp_path / "Annotations/VID/val/short/000002.xml", xml([(7, (1, 1, 20, 20))]))
    index = build("vid", tmp_path)
    assert [(name, box) for name, box, track in rows(index) if track >= 0] == [
        (f"{frame:06d}.JPEG", [10 + frame, 5, 20, 20]) for frame in (0, 1, 3, 5)
    ]
    assert index.visible.tolist() == [1, 0.5, 1, 1, 1]
    assert set(index.label[:]) == {"dog"}
    assert index.track[-1] == -1  # a single frame is a still
    assert reasons(index) == {
        "picture missing": 1,
        "annotation damaged": 1,
        "picture unreadable": 1,
        "box outside the picture, empty or not finite": 1,
        "track of one frame (kept as a still)": 1,
    }
    decoded(index)


def test_det_gives_stills(tmp_path):
    name = "DET/train/ILSVRC2013_train/n01440764/n01440764_18"
    picture(tmp_path / "ILSVRC2015" / "Data" / f"{name}.JPEG")
    text(tmp_path / "ILSVRC2015" / "Annotations" / f"{name}.xml", xml([(0, (-5, 2, 30, 40)), (1, (2, 2, 8, 9))]))
    picture(tmp_path / "ILSVRC2015" / "Data" / f"{name}0.JPEG", (50, 40))
    text(tmp_path / "ILSVRC2015" / "Annotations" / f"{name}0.xml", xml([(0, (1, 2, 30, 30))]))
    index = build("det", tmp_path)
    assert rows(index) == [("n01440764_18.JPEG", [0, 2, 30, 38], -1), ("n01440764_18.JPEG", [2, 2, 6, 7], -1)]
    assert reasons(index) == {"picture of another size than its annotation says": 1}


def test_voc_counts_from_one_and_finds_its_masks(tmp_path):
    year = tmp_path / "VOCdevkit" / "VOC2012"
    boxes = [(0, (11, 6, 30, 25)), (1, (41, 1, 60, 20))]
    for name in ("2007_000027", "2007_000032", "2008_000001"):
        picture(year / "JPEGImages" / f"{name}.jpg")
        text(year / "Annotations" / f"{name}.xml", xml(boxes, difficult=int(name == "2007_000032")))
    labels(
        year / "SegmentationObject" / "2007_000027.png", {1: (10, 5, 20, 20), 2: (40, 0, 20, 20), 255: (0, 40, 64, 8)}
    )
    text(year / "ImageSets" / "Main" / "trainval.txt", "2007_000027\n2007_000032\n")
    index = build("voc", tmp_path)
    assert [box for _, box, _ in rows(index)] == [[10, 5, 20, 20], [40, 0, 20, 20]]
    masks = decoded(index)
    assert [np.argwhere(mask == 255).min(0).tolist() for mask in masks] == [[5, 10], [0, 40]]
    assert [int((mask > 0).sum()) for mask in masks] == [400, 400]
    assert reasons(index) == {"marked as difficult": 2}


def coco(images, annotations, **more):
    return json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "cat"}], **more})


def test_coco_leaves_out_crowds_and_tiny_objects_and_reads_both_kinds_of_masks(tmp_path):
    picture(tmp_path / "train2017" / "000000000009.jpg")
    images = [{"id": 9, "file_name": "000000000009.jpg", "width": 64, "height": 48}]
    images.append({"id": 10, "file_name": "000000000010.jpg", "width": 64, "height": 48})
    polygon = {"bbox": [10, 8, 20, 30], "segmentation": [[10, 8, 30, 8, 30, 38, 10, 38]]}
    # Columns 20 to 39 in rows 5 to 24: runs down the columns.
    runs = [20 * 48 + 5] + [20, 28] * 19 + [20, 24 * 48 + 23]
    plain = {"bbox": [20, 5, 20, 20], "segmentation": {"size": [48, 64], "counts": runs}}
    packed = {"bbox": [20, 5, 20, 20], "segmentation": {"size": [48, 64], "counts": deflate(runs)}}
    crowd = {"bbox": [0, 0, 60, 40], "iscrowd": 1, "segmentation": plain["segmentation"]}
    tiny = {"bbox": [5, 5, 12, 15], "segmentation": []}
    wrong = {"bbox": [20, 5, 20, 20], "segmentation": {"size": [48, 64], "counts": [5, 6]}}
    empty = {"bbox": [20, 5, 0, 20], "segmentation": []}
    each = [polygon, plain, packed, crowd, tiny, wrong, empty]
    annotations = [{"id": n, "image_id": 9, "category_id": 3, **a} for n, a in enumerate(each)]
    annotations.append({"id": 99, "image_id": 10, "category_id": 3, **polygon})
    text(tmp_path / "annotations" / "instances_train2017.json", coco(images, annotations))
    index = build("coco", tmp_path)
    assert len(index) == 3
    assert index.label[:] == ["cat"] * 3
    box, *runs = decoded(index)
    expected = np.zeros((48, 64), np.uint8)
    expected[8:38, 10:30] = 255
    inner = np.s_[9:37, 11:29]
    assert (box[inner] == expected[inner]).all()
    assert abs(int((box > 0).sum()) - 600) <= 60
    expected = np.zeros((48, 64), np.uint8)
    expected[5:25, 20:40] = 255
    assert all((mask == expected).all() for mask in runs)
    assert reasons(index) == {
        "crowd": 1,
        "tiny (less than 16x16 pixels)": 1,
        "annotation damaged": 1,
        "box outside the picture, empty or not finite": 1,
        "picture missing": 1,
    }


def deflate(runs):
    """Write run lengths as COCO's compressed text."""
    result = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            group = value & 31
            value >>= 5
            more = value != -1 if group & 16 else value != 0
            result += chr(48 + (group | (32 if more else 0)))
    return result


def test_coco_with_videos_has_tracks(tmp_path):
    images, annotations = [], []
    for frame in range(3):
        picture(tmp_path / "clip" / f"{frame}.jpg")
        images.append({"id": frame, "file_name": f"clip/{frame}.jpg", "video_id": 1, "frame_id": frame})
        annotations.append(
            {"id": frame, "image_id": frame, "category_id": 3, "bbox": [frame, 2, 30, 30], "track_id": 4}
        )
    text(tmp_path / "annotations.json", coco(images, annotations, videos=[{"id": 1, "name": "clip"}]))
    index = build("coco", tmp_path)
    assert index.track.tolist() == [0, 0, 0]
    assert index.pictures.frame.tolist() == [0, 1, 2]
    assert index.pictures[0].video == "clip"


def test_youtubebb_boxes_are_scaled_by_each_pictures_size(tmp_path):
    lines = []
    for second, size in ((10, (64, 48)), (11, (48, 64))):
        picture(tmp_path / f"yt_bb_detection_train/5/abc_{second}000_5_0.jpg", size)
        lines.append(f"abc,{second}000,5,cat,0,present,0.25,0.75,0.5,1.0")
    lines += ["abc,12000,5,cat,0,absent,-1.0,-1.0,-1.0,-1.0", "abc,13000,5,cat,0,present,0.25,0.75,0.5,1.0", "abc,x"]
    with gzip.open(tmp_path / "yt_bb_detection_train.csv.gz", "wt") as file:
        file.write("\n".join(lines))
    index = build("ytbb", tmp_path)
    assert index.box.tolist() == [[16, 24, 32, 24], [12, 32, 24, 32]]
    assert index.track.tolist() == [0, 0]
    assert index.pictures.frame.tolist() == [10, 11]
    assert reasons(index) == {"picture missing": 1, "damaged line": 1}


def test_got10k_says_what_is_absent_and_how_much_is_seen(tmp_path):
    folder = tmp_path / "train" / "GOT-10k_Train_000001"
    for frame in range(4):
        picture(folder / f"{frame + 1:08d}.jpg")
    text(tmp_path / "train" / "list.txt", "GOT-10k_Train_000001\nGOT-10k_Train_000002\n")
    text(folder / "groundtruth.txt", "1,2,20,20\n2,2,20,20\n0,0,0,0\n4,2,20,20\n")
    text(folder / "absence.label", "0\n0\n1\n0\n")
    text(folder / "cover.label", "8\n4\n0\n0\n")
    text(folder / "meta_info.ini", "[METAINFO]\nobject_class: ant\nresolution: (64, 48)\n")
    index = build("got10k", tmp_path)
    assert index.box.tolist() == [[1, 2, 20, 20], [2, 2, 20, 20]]
    assert index.visible.tolist() == [1, 0.5]
    assert index.absent.tolist() == [[2, 0], [3, 0]]
    assert index.label[0] == "ant"
    assert reasons(index) == {"sequence incomplete or damaged": 1}
    assert "GOT-10k_Train_000002" in index.rejected[0].where


def lasot(root, name, class_folder=True):
    folder = root / "dog" / name if class_folder else root / name
    for frame in range(3):
        picture(folder / "img" / f"{frame + 1:08d}.jpg")
    text(folder / "groundtruth.txt", "11,6,20,20\n12,6,20,20\n0,0,0,0\n")
    text(folder / "full_occlusion.txt", "0,0,0")
    text(folder / "out_of_view.txt", "0,0,1")


def test_lasot_counts_from_one_and_keeps_its_test_sequences_out(tmp_path):
    lasot(tmp_path, "dog-2")
    lasot(tmp_path, "dog-7")  # one of the published test sequences
    index = build("lasot", tmp_path)
    assert index.box.tolist() == [[10, 5, 20, 20], [11, 5, 20, 20]]
    assert index.absent.tolist() == [[2, 0]]
    assert index.pictures.video.values == ("dog-2",)
    text(tmp_path / "testing_set.txt", "dog-2\ndog-7\n")
    with pytest.raises(UserError, match="all 2 sequences .* are for testing"):
        build("lasot", tmp_path)


def test_trackingnet_reads_its_parts_in_order(tmp_path):
    for part, name in ((10, "b"), (2, "a")):
        for frame in (0, 1, 2, 10):
            picture(tmp_path / f"TRAIN_{part}" / "frames" / name / f"{frame}.jpg", level=frame)
        text(tmp_path / f"TRAIN_{part}" / "anno" / f"{name}.txt", "1,2,20,20\n" * 3 + "9,9,20,20\n")
    text(tmp_path / "TRAIN_2" / "anno" / "c.txt", "1,2,3,4\n")
    index = build("trackingnet", tmp_path)
    assert index.pictures.video[::4] == ["a", "b"]
    assert rows(index)[3] == ("10.jpg", [9, 9, 20, 20], 0)
    assert reasons(index) == {"sequence incomplete or damaged": 1}


def test_youtubevos_has_objects_by_number_and_says_when_they_are_gone(tmp_path):
    base = tmp_path / "train"
    for frame in (0, 5, 10):
        picture(base / "JPEGImages" / "v" / f"{frame:05d}.jpg")
        boxes = {1: (2, 3, 10, 12), 2: (30, 20, 8, 9)} if frame != 5 else {1: (4, 3, 10, 12)}
        labels(base / "Annotations" / "v" / f"{frame:05d}.png", boxes)
    labels(base / "Annotations" / "v" / "00015.png", {1: (0, 0, 5, 5)})
    labels(base / "Annotations" / "v" / "00010.png", {1: (0, 0, 5, 5)}, (32, 24))
    text(base / "meta.json", json.dumps({"videos": {"v": {"objects": {"1": {"category": "ape"}, "2": {}}}}}))
    index = build("youtubevos", tmp_path)
    assert [row[1] for row in rows(index)] == [[2, 3, 10, 12], [30, 20, 8, 9], [4, 3, 10, 12]]
    assert index.label[:] == ["ape", "", "ape"]
    assert index.track.tolist() == [0, -1, 0]
    assert [int((mask > 0).sum()) for mask in decoded(index)] == [120, 72, 120]
    assert reasons(index) == {
        "mask without a picture": 1,
        "picture of another size than its annotation says": 1,
        "track of one frame (kept as a still)": 1,
    }


@pytest.mark.parametrize("year", ["2017", "480p"])
def test_davis_of_both_years(tmp_path, year):
    for frame in range(3):
        picture(tmp_path / "JPEGImages" / "480p" / "bear" / f"{frame:05d}.jpg")
        number = 1 if year == "2017" else 255
        labels(tmp_path / "Annotations" / "480p" / "bear" / f"{frame:05d}.png", {number: (frame, 3, 10, 12)})
    line = "bear" if year == "2017" else "/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png"
    text(tmp_path / "ImageSets" / year / "train.txt", f"{line}\n")
    index = build("davis", tmp_path)
    assert index.box.tolist() == [[frame, 3, 10, 12] for frame in range(3)]
    assert index.track.tolist() == [0, 0, 0]
    assert [int((mask > 0).sum()) for mask in decoded(index)] == [120] * 3


def test_crop511_puts_the_object_in_the_middle_and_counts_pysots_defects(tmp_path):
    def crop(video, frame, track):
        picture(tmp_path / "crop511" / video / f"{frame:06d}.{track}.x.jpg", (511, 511))

    for frame in range(4):
        crop("train/a", frame, "00")
    crop("yt/b", 7, "01")
    tracks = {"00": {f"{frame:06d}": [10, 10, 50, 30] for frame in (2, 3)}}
    videos = {"train/a": tracks, "yt/b": {"01": {"000007": [0.1, 0.1, 0.5, 0.3]}, "02": {"000001": [30, 30, 30, 40]}}}
    text(tmp_path / "train.json", json.dumps(videos))
    index = build("crop511", tmp_path)
    scale = 127 / np.sqrt((40 + 30) * (20 + 30))  # SiamFC: 127 pixels show the box and half its sides all around
    width, height = 40 * scale, 20 * scale
    assert np.allclose(index.box, [[255.5 - width / 2, 255.5 - height / 2, width, height]] * 2)
    assert index.track.tolist() == [0, 0]
    assert reasons(index) == {
        "crop without a box in the JSON file (PySOT's last snippet only)": 1,
        "box in shares of a picture of unknown shape (YouTube-BB)": 1,
        "box outside the picture, empty or not finite": 1,
    }
    assert next(each for each in index.rejected if "snippet" in each.reason).count == 2


def test_videos_annotated_by_siamtrack(tmp_path):
    film(tmp_path / "car.mp4")
    row = {"time": 0, "x": 3, "y": 4, "w": 20, "h": 20, "score": 0.9}
    text(tmp_path / "car.boxes.jsonl", "\n".join(json.dumps({**row, "frame": n, "lost": n == 3}) for n in range(5)))
    for frame in range(3):
        picture(tmp_path / "folder" / f"{frame}.png")
    text(
        tmp_path / "folder.csv",
        "frame,time,id,x,y,w,h,score\n0,0,5,1,2,20,20,1\n0,0,6,9,2,20,20,1\n2,0,5,3,2,20,20,1\n",
    )
    text(tmp_path / "gone.boxes.csv", "frame,time,x,y,w,h,score\n0,0,1,2,20,20,1\n")
    index = build("siamtrack", tmp_path)
    assert [row[0] for row in rows(index)] == ["0", "1", "2", "4", "0.png", "0.png", "2.png"]
    assert index.track.tolist() == [0, 0, 0, 0, 1, -1, 1]
    assert index.absent.tolist() == [[3, 0]]
    assert reasons(index) == {"sequence incomplete or damaged": 1, "track of one frame (kept as a still)": 1}
    # The frame of a video is read by its number, in any order.
    reader = PictureReader(index.root)
    for number in (4, 0, 2, 1):
        frame = index.pictures[number]
        assert abs(int(reader.picture(frame).mean()) - (20 + 35 * int(frame.image))) <= 3


def test_mot_counts_from_one_and_has_visibility(tmp_path):
    for frame in range(3):
        picture(tmp_path / "train" / "MOT17-02" / "img1" / f"{frame + 1:06d}.jpg")
    lines = ["1,3,11,6,20,20,1,1,0.25", "2,3,12,6,20,20,1,1,1", "2,4,30,6,20,20,0,8,1", "3,x"]
    text(tmp_path / "train" / "MOT17-02" / "gt" / "gt.txt", "\n".join(lines))
    film(tmp_path / "car.mp4")
    text(tmp_path / "car.boxes.txt", "1,1,1,1,20,20,-1,-1,-1,-1\n6,1,2,2,20,20,-1,-1,-1,-1\n")
    text(tmp_path / "late.txt", "1,1,1,1,20,20\n")
    index = build("mot", tmp_path)
    assert index.box.tolist() == [[10, 5, 20, 20], [11, 5, 20, 20], [0, 0, 20, 20], [1, 1, 20, 20]]
    assert index.visible.tolist() == [0.25, 1, 1, 1]
    assert index.track.tolist() == [0, 0, 1, 1]
    assert reasons(index) == {"confidence 0": 1, "damaged line": 1, "sequence incomplete or damaged": 1}
    decoded(index)


def test_yolo_beside_and_apart_with_polygons_and_tracks_in_videos(tmp_path):
    picture(tmp_path / "images" / "train" / "a.jpg")
    text(tmp_path / "labels" / "train" / "a.txt", "1 0.5 0.5 0.5 0.5\n0 0.25 0.25 0.5 0.25 0.5 0.75\n0 1 2\n")
    picture(tmp_path / "b.png")
    text(tmp_path / "b.txt", "0 0.5 0.5 0.25 0.5\n")
    film(tmp_path / "car.mp4")
    for frame in (1, 2, 6):
        text(tmp_path / "labels" / f"car_{frame}.txt", "0 0.5 0.5 0.5 0.5 7\n")
    text(tmp_path / "labels" / "train" / "lonely.txt", "0 0.5 0.5 0.5 0.5\n")
    text(tmp_path / "data.yaml", "names: [cat, dog]\n")
    index = build("yolo", tmp_path)
    found = {(name, *box, track) for name, box, track in rows(index)}
    assert {row for row in found if row[0] == "a.jpg"} == {("a.jpg", 16, 12, 32, 24, -1), ("a.jpg", 16, 12, 16, 24, -1)}
    assert ("b.png", 24, 12, 16, 24, -1) in found
    assert sorted(row[0] for row in found if row[-1] == 0) == ["0", "1", "5"]
    assert sorted(set(index.label[:])) == ["cat", "dog"]
    (mask,) = [each for each in decoded(index) if each is not None]
    assert abs(int((mask > 0).sum()) - 16 * 24 / 2) < 40
    assert reasons(index) == {"damaged line": 1, "label without a picture": 1}


def test_the_tar_folder_is_a_source_too(training_folder):
    index = build("jsonl", training_folder)
    assert len(index) == len(read_index(training_folder)) == 14
    assert set(index.pictures.source.values) == {"video", "stills"}
    assert sum(mask is not None for mask in decoded(index)) == 3


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_another_layout_is_named(kind, tmp_path):
    """One sentence: what was looked for, and what the folder looks like."""
    if kind == "lasot":
        folder = "davis"
        text(tmp_path / "ImageSets" / "2017" / "train.txt", "bear\n")
    else:
        folder = "lasot"
        lasot(tmp_path, "dog-2")
    if kind in ("yolo", "mot", "siamtrack"):  # whose files may be called anything
        (tmp_path / "dog" / "dog-2" / "groundtruth.txt").rename(tmp_path / "keep")
        for path in tmp_path.rglob("*.txt"):
            path.rename(path.with_suffix(".md"))
        folder = ""
    with pytest.raises(UserError) as error:
        build(kind, tmp_path)
    message = str(error.value)
    assert "\n" not in message
    assert "looked for" in message or "there is no" in message
    assert message.endswith(f"; it looks like {folder}") or not folder


def test_names_and_folders_of_sources_are_checked(tmp_path):
    with pytest.raises(UserError, match="unknown source 'lassot'; did you mean 'lasot'"):
        wanted("lassot", tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        wanted("vid", tmp_path / "none")
    assert wanted("YOLO:cows", tmp_path).name == "cows"
