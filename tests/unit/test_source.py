from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from siamtrack.errors import UserError
from siamtrack.video.frame import parse_moment
from siamtrack.video.source import VideoSource
from siamtrack.video.writer import VideoWriter


def test_video_gives_every_frame_with_its_time(clip, square):
    source = VideoSource(clip)
    frames = list(source)
    assert (source.size, source.count, source.fps) == ((320, 240), 24, 25)
    assert [frame.index for frame in frames] == list(range(24))
    assert [frame.time for frame in frames] == pytest.approx([n / 25 for n in range(24)])
    # Lossy, but the same pictures.
    for number in (0, 9, 23):
        assert np.abs(frames[number].image.astype(int) - square[0][number]).mean() < 8
    assert np.abs(square[0][0].astype(int) - square[0][23]).mean() > 1
    assert source.problem is None


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, (0, 23)),
        (3, 7, (3, 6)),
        (0.2, 0.4, (5, 9)),
        (20, None, (20, 23)),
        (None, 0.04, (0, 0)),
        (5, 99, (5, 23)),
    ],
)
def test_range_by_frame_and_by_time(clip, start, end, expected):
    source = VideoSource(clip, start, end)
    indices = [frame.index for frame in source]
    assert (indices[0], indices[-1]) == expected
    assert source.count == len(indices)


def test_a_time_is_met_by_a_stamp_that_was_rounded(square, tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:  # Matroska counts milliseconds
        stream = container.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuvj420p"
        for image in square[0][:4]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    assert [frame.time for frame in VideoSource(tmp_path / "a.mkv")][1] < 1 / 30
    assert [frame.index for frame in VideoSource(tmp_path / "a.mkv", 1 / 30)] == [1, 2, 3]


def test_numbers_of_frames_may_be_numpys(clip):
    assert [frame.index for frame in VideoSource(clip, np.int64(5), np.int32(7))] == [5, 6]


def test_range_without_frames_is_refused(clip):
    with pytest.raises(UserError, match=r"no frame between start frame 50 and end \(none\)"):
        VideoSource(clip, 50)
    with pytest.raises(UserError, match="no frame between"):
        VideoSource(clip, 5, 5)


@pytest.mark.parametrize(
    ("text", "moment"),
    [("120", 120), ("4.5", 4.5), ("4.5s", 4.5), ("3s", 3.0), ("1:02.5", 62.5), ("1:00:01", 3601.0), ("0", 0)],
)
def test_parse_moment(text, moment):
    parsed = parse_moment(text)
    assert parsed == moment
    assert type(parsed) is type(moment)


@pytest.mark.parametrize("text", ["", "-3", "four", "1:2:3:4", "4.5m"])
def test_parse_moment_says_what_is_wrong(text):
    with pytest.raises(UserError, match="neither a frame number"):
        parse_moment(text)


def test_images_of_every_kind_in_natural_order(tmp_path):
    colour = np.full((20, 30, 3), (10, 100, 200), np.uint8)
    cv2.imwrite(str(tmp_path / "f10.png"), colour)
    cv2.imwrite(str(tmp_path / "f2.png"), np.full((20, 30), 77, np.uint8))  # grey
    cv2.imwrite(str(tmp_path / "f3.png"), np.dstack([colour, np.zeros((20, 30), np.uint8)]))  # transparent
    cv2.imwrite(str(tmp_path / "f4.png"), np.full((20, 30), 0x8000, np.uint16))  # 16 bits
    (tmp_path / "notes.txt").write_text("no image")
    source = VideoSource(tmp_path)
    middles = [frame.image[10, 10].tolist() for frame in source]
    assert middles == [[77] * 3, [10, 100, 200], [128] * 3, [10, 100, 200]]
    assert source.count == 4
    assert len(list(VideoSource(str(tmp_path / "f[0-9].png")))) == 3


def test_frames_of_another_size_are_scaled_to_the_first(tmp_path):
    for number, (height, width) in enumerate([(20, 30), (40, 60), (20, 30)]):
        image = np.zeros((height, width, 3), np.uint8)
        image[: height // 2, width // 2 :] = 200
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    source = VideoSource(tmp_path)
    first, scaled, _ = (frame.image for frame in source)
    assert scaled.shape == (20, 30, 3)
    assert np.array_equal(scaled[[5, 5, 15, 15], [5, 25, 5, 25]], first[[5, 5, 15, 15], [5, 25, 5, 25]])
    assert source.rescaled == 1


def test_an_unreadable_image_ends_the_source(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((20, 30, 3), np.uint8))
    (tmp_path / "1.png").write_bytes(b"no image")
    source = VideoSource(tmp_path)
    assert len(list(source)) == 1
    assert "1.png is no image" in source.problem


def test_a_video_cut_short_is_read_as_far_as_it_goes(clip, tmp_path):
    # A stream whose index comes first can be cut anywhere.
    whole = tmp_path / "whole.mp4"
    with av.open(str(clip)) as source, av.open(str(whole), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    cut = tmp_path / "cut.mp4"
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 9 // 10])
    source = VideoSource(cut)
    frames = list(source)
    assert 0 < len(frames) < 24
    assert f"after {len(frames)}" in source.problem


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "no.mp4", "there is no file"),
        (lambda folder: text_file(folder / "a.mp4"), "no video that can be read"),
        (lambda folder: text_file(folder / "a.png"), "single image"),
        (lambda folder: folder, "there are no images"),
        (lambda folder: f"{folder}/*.jpg", "there are no files"),
        (lambda folder: 97, "camera 97 cannot be opened"),
        (lambda folder: "99999999999999999999", "no camera has so high a number"),
    ],
)
def test_what_is_no_source_is_refused(tmp_path, make, said):
    with pytest.raises(UserError, match=said):
        VideoSource(make(tmp_path))


def text_file(path):
    path.write_text("this is no video")
    return path


def test_a_phones_rotation_is_undone(clip, square, tmp_path):
    # The track header's matrix says: turn by 90 degrees clockwise to display.
    data = clip.read_bytes()
    one = 0x10000
    upright = np.array([one, 0, 0, 0, one, 0, 0, 0, 0x40000000], ">i4").tobytes()
    turned = np.array([0, one, 0, -one, 0, 0, 240 * one, 0, 0x40000000], ">i4").tobytes()
    place = data.index(upright, data.index(b"tkhd"))
    path = tmp_path / "turned.mp4"
    path.write_bytes(data[:place] + turned + data[place + len(turned) :])
    source = VideoSource(path)
    assert source.size == (240, 320)
    first = next(iter(source)).image.astype(int)
    assert np.abs(first - np.rot90(square[0][0], -1)).mean() < 8
    assert np.abs(first - np.rot90(square[0][0], 1)).mean() > 30


def test_a_folder_may_be_named_like_a_camera(tmp_path, monkeypatch):
    (tmp_path / "0001").mkdir()
    cv2.imwrite(str(tmp_path / "0001" / "a.png"), np.zeros((20, 30, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "0001" / "._a.png"), np.zeros((20, 30, 3), np.uint8))  # macOS leaves such files
    monkeypatch.chdir(tmp_path)
    assert VideoSource("0001").count == 1


def test_globs_over_folders_keep_folders_together(tmp_path):
    for name in ("b/0", "a/10", "a/2", "b/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(
            str(tmp_path / f"{name}.png"), np.full((4, 4, 3), len(name) + ord(name[0]) + int(name[2:]), np.uint8)
        )
    values = [int(frame.image[0, 0, 0]) for frame in VideoSource(f"{tmp_path}/*/*.png")]
    assert values == [ord("a") + 3 + 2, ord("a") + 4 + 10, ord("b") + 3, ord("b") + 3 + 1]


def test_names_may_hold_colons(square, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = VideoWriter(Path("2024-05-01T12:30:00.mp4"), (320, 240), Fraction(25))
    for number in range(3):
        writer.write(square[0][number], number / 25)
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["2024-05-01T12:30:00.mp4"]
    assert len(list(VideoSource("2024-05-01T12:30:00.mp4"))) == 3


def test_a_trimmed_video_is_whole(clip, tmp_path):
    """An edit list hides frames that the container still counts."""
    path = tmp_path / "trimmed.mp4"
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                packet.pts -= round(8 / 25 / packet.time_base)  # the first 8 frames come before the start
                packet.dts -= round(8 / 25 / packet.time_base)
                target.mux(packet)
    source = VideoSource(path)
    assert len(list(source)) < 24
    assert source.problem is None


def test_one_damaged_packet_ends_a_video_with_its_times_right(clip, tmp_path):
    with av.open(str(clip)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(clip.read_bytes())
    start, size = packets[15]
    data[start : start + size] = b"\xff" * size
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    source = VideoSource(path)
    frames = list(source)
    assert len(frames) < 24
    assert f"broke after {len(frames)} frames" in source.problem
    # Their own times: where the damage took a frame, there is a gap.
    ticks = [frame.time * 25 for frame in frames]
    assert ticks == pytest.approx(np.round(ticks))
    assert np.round(ticks[:15]).tolist() == list(range(15)), "what the decoder held back when it met the damage is kept"
    assert (np.diff(np.round(ticks)) >= 1).all()
