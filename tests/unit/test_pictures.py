"""Pictures and masks, read wherever they lie; and the columns of an index."""

import io
import os
import pickle
import struct
import tarfile
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from siamtrack.data.columns import Texts
from siamtrack.data.headers import image_size
from siamtrack.data.index import IndexBuilder, read_index, write_index
from siamtrack.data.pictures import PictureReader, fill_polygons
from siamtrack.data.records import Object, Picture, Record
from siamtrack.errors import UserError
from siamtrack.regions import encode_mask
from siamtrack.video.source import VideoSource

RNG = np.random.default_rng(2)


def at(image, shard="", size=(64, 48)):
    return Picture(image, shard, "s", None, 0, size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A picture and a mask as files, the same in a tar file, and a film with B-frames and several key frames."""
    root = tmp_path_factory.mktemp("pictures")
    image = cv2.resize(RNG.integers(0, 255, (6, 8, 3), np.uint8), (64, 48), interpolation=cv2.INTER_NEAREST)
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 20:50] = 1
    cv2.imwrite(str(root / "a.png"), image)
    cv2.imwrite(str(root / "mask.png"), mask)
    with tarfile.open(root / "b.tar", "w") as tar:
        for name in ("a.png", "mask.png"):
            content = (root / name).read_bytes()
            entry = tarfile.TarInfo(f"in/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    with av.open(str(root / "film.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"g": "7", "bf": "2", "crf": "30"}
        for number in range(30):
            frame = np.full((48, 64, 3), 5 + 8 * number, np.uint8)
            frame[number : number + 10, 20:40] = RNG.integers(0, 255, 3)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode(None))
    return root, image, mask


def test_files_and_members_of_tars_are_the_same(folder):
    root, image, mask = folder
    reader = PictureReader(root)
    for picture, name in ((at("a.png"), "mask.png"), (at("in/a.png", "b.tar"), "in/mask.png")):
        assert (reader.picture(picture) == image).all()
        assert (reader.mask(picture, name) == mask * 255).all()
        assert (reader.mask(picture, f"{name}#1") == mask * 255).all()
        assert not reader.mask(picture, f"{name}#2").any()
        assert reader.size(picture.shard, picture.image) == (64, 48)


def test_masks_as_text(folder):
    root, _, mask = folder
    reader = PictureReader(root)
    assert (reader.mask(at("a.png"), "rle:" + encode_mask(mask > 0)) == mask * 255).all()
    assert (reader.mask(at("a.png"), "polygon:20,10,50,10,50,30,20,30") == mask * 255).mean() > 0.96
    two = fill_polygons("2,2,12,2,12,12,2,12;8,8,18,8,18,18,8,18", 30, 30)
    assert two[10, 10] == 255  # where polygons overlap, too
    assert two[25, 25] == 0
    with pytest.raises(UserError, match="reaches over its 40x30"):
        reader.mask(at("a.png", size=(40, 30)), "rle:" + encode_mask(mask > 0))


def test_frames_of_a_film_in_any_order_are_those_of_the_source(folder):
    root, _, _ = folder
    whole = [frame.image for frame in VideoSource(root / "film.mp4")]
    reader = PictureReader(root)
    assert reader.frames("film.mp4") == len(whole) == 30
    for number in [*RNG.permutation(30).tolist(), 6, 7, 8, 20, 21, 29, 0]:
        assert (reader.picture(at(str(number), "film.mp4")) == whole[number]).all(), number
    with pytest.raises(UserError, match="has 30 frames, but the index names number 30"):
        reader.picture(at("30", "film.mp4"))


def test_a_reader_goes_to_other_processes(folder):
    root, image, _ = folder
    reader = PictureReader(root)
    reader.picture(at("in/a.png", "b.tar"))
    assert (pickle.loads(pickle.dumps(reader)).picture(at("in/a.png", "b.tar")) == image).all()
    child = os.fork()
    if not child:
        os._exit(0 if (reader.picture(at("in/a.png", "b.tar")) == image).all() else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_what_cannot_be_read_is_named(folder):
    root, _, _ = folder
    (root / "text.png").write_text("no image")
    (root / "text.tar").write_text("no tar")
    (root / "text.mp4").write_text("no film")
    reader = PictureReader(root)
    for picture, message in (
        (at("none.png"), "none.png cannot be read"),
        (at("text.png"), "text.png is no image"),
        (at("a.png", size=(60, 48)), "a.png is 64x48, but the index says 60x48"),
        (at("none.png", "b.tar"), "b.tar lacks none.png"),
        (at("a.png", "text.tar"), "text.tar is no tar file"),
        (at("0", "text.mp4"), "text.mp4 is no video"),
        (at("0", "none.mp4"), "there is no .*none.mp4"),
    ):
        with pytest.raises(UserError, match=message):
            reader.picture(picture)
    with pytest.raises(UserError, match=r"mask.png is 64x48, but the index says 63x48"):
        reader.mask(at("a.png", size=(63, 48)), "mask.png")


@pytest.mark.parametrize(("suffix", "flags"), [
    (".png", []), (".jpg", []), (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    (".webp", [cv2.IMWRITE_WEBP_QUALITY, 80]), (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
])  # fmt: skip
def test_sizes_come_from_headers(suffix, flags):
    image = RNG.integers(0, 255, (37, 301, 3), np.uint8)
    content = cv2.imencode(suffix, image, flags)[1].tobytes()
    assert image_size(lambda offset, count: content[offset : offset + count]) == (301, 37)
    for length in range(40):
        cut = content[:length]
        assert image_size(lambda offset, count, cut=cut: cut[offset : offset + count]) in (None, (301, 37))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_pictures_that_viewers_turn_are_found(tmp_path, order, orientation):
    content = cv2.imencode(".jpg", np.full((30, 40, 3), 90, np.uint8))[1].tobytes()
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 2)
    tiff += struct.pack(f"{order}HHII", 0x010F, 2, 1, 0) + struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0" + tiff
    (tmp_path / "a.jpg").write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:])
    assert PictureReader(tmp_path).turned("a.jpg") == (orientation == 6)
    assert PictureReader(tmp_path).size("", "a.jpg") == (40, 30)  # as stored
    assert PictureReader(tmp_path).picture(at("a.jpg", size=(40, 30))).shape == (30, 40, 3)
    builder = IndexBuilder(tmp_path)
    builder.add(Record(tmp_path / "a.jpg", [Object((1, 1, 9, 9))], size=(40, 30)), "its size is given")
    builder.add(Record(tmp_path / "a.jpg", [Object((1, 1, 9, 9))]), "not given")
    assert len(builder.build()) == (1 if orientation == 6 else 2)


def test_columns_of_text():
    texts = ["", "a", "zwölf", "", "b/c.jpg"]
    column = Texts.of(texts)
    assert column[:] == texts
    assert column[-1] == "b/c.jpg"
    assert column.filled.tolist() == [False, True, True, False, True]
    assert column.take(np.array([4, 0, 2, 2]))[:] == ["b/c.jpg", "", "zwölf", "zwölf"]
    with pytest.raises(IndexError):
        column[5]
    many = RNG.integers(0, 5, 70_000)
    assert column.take(many)[:] == [texts[number] for number in many]


def test_an_index_is_the_same_from_disk(folder, tmp_path):
    root, _, _ = folder
    builder = IndexBuilder(root)
    box = (1.5, 2.0, 20.0, 30.0)
    for frame in range(4):
        objects = [
            Object(None if frame == 2 else box, "t", "cat", 0.5),
            Object((3, 3, 9, 9), mask=str(root / "mask.png")),
        ]
        builder.add(Record(root / "a.png", objects, "clip", frame), "one")
    builder.add(Record("in/a.png", [], shard=root / "b.tar"), "two")
    builder.add(Record("3", [Object(box)], "film", 3, shard=root / "film.mp4"), "two")
    builder.reject("two", "here", "because")
    builder.reject("two", "there", "because")
    made = builder.build()
    write_index(made, root / "made.parquet")
    read = read_index(root / "made.parquet")
    for name in ("picture", "box", "track", "visible", "absent", "size"):
        assert np.array_equal(getattr(made, name), getattr(read, name)), name
        assert getattr(made, name).dtype == getattr(read, name).dtype, name
    assert read.pictures[:] == made.pictures[:]
    assert read.pictures.image[:2] == ["a.png", "a.png"]  # relative to the index
    assert read.mask[:] == made.mask[:]
    assert read.label[:] == made.label[:]
    assert [(each.reason, each.where, each.count) for each in read.rejected] == [("because", "here", 2)]
    kept, held = read.split(["clip"])
    assert (len(kept), len(held)) == (1, 7)
    assert held.absent.tolist() == [[2, 0]]
    assert not len(kept.absent)
    with pytest.raises(UserError, match="must be written there"):
        write_index(made, tmp_path / "elsewhere.parquet")


def test_what_is_no_index_is_refused(tmp_path):
    with pytest.raises(UserError, match="siamtrack data index' makes one"):
        read_index(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_text("no parquet")
    with pytest.raises(UserError, match="is no index of siamtrack"):
        read_index(tmp_path / "bad.parquet")
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(UserError, match="is no index of siamtrack"):
        read_index(tmp_path / "other.parquet")


def test_masks_that_do_not_fit_are_dropped_and_boxes_kept(folder):
    root, _, _ = folder
    cv2.imwrite(str(root / "small.png"), np.full((10, 10), 255, np.uint8))
    builder = IndexBuilder(root)
    names = ("small.png", "none.png", "text.mp4", "mask.png#1", "a#b.png")
    cv2.imwrite(str(root / "a#b.png"), np.full((48, 64), 255, np.uint8))
    (root / "text.mp4").write_text("no film")
    things = [Object((1, 1, 9, 9), mask=str(root / name)) for name in names]
    builder.add(Record(root / "a.png", things), "s")
    index = builder.build()
    assert index.mask[:] == ["", "", "", "mask.png#1", "a#b.png"]
    assert (PictureReader(root).mask(index.pictures[0], index.mask[4]) == 255).all()
    assert sorted(each.reason.split(" (")[0] for each in index.rejected) == [
        "mask missing", "mask of another size than its picture", "mask unreadable"]  # fmt: skip
    empty = IndexBuilder(root)
    empty.add(Record(root / "none.png", [Object((1, 1, 9, 9))]), "s")
    with pytest.raises(UserError, match="no usable object: 1 picture missing"):
        empty.build()
