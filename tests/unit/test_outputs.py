import json
from fractions import Fraction

import numpy as np
import pytest

from siamtrack.annotate.table import TableWriter
from siamtrack.errors import UserError
from siamtrack.video.overlay import colour_of, contact_sheet, draw_box, draw_boxes, draw_mask
from siamtrack.video.source import VideoSource
from siamtrack.video.writer import VideoWriter


def test_jsonl_and_csv_hold_the_same(tmp_path):
    for suffix in ("jsonl", "csv"):
        writer = TableWriter(tmp_path / f"a.{suffix}")
        writer.write(3, 0.12, (1.23456, 2, 3, 4), 0.987654)
        assert not (tmp_path / f"a.{suffix}").exists()
        writer.close()
    row = {"frame": 3, "time": 0.12, "x": 1.235, "y": 2.0, "w": 3.0, "h": 4.0, "score": 0.98765}
    assert json.loads((tmp_path / "a.jsonl").read_text()) == row
    assert (tmp_path / "a.csv").read_text() == "frame,time,x,y,w,h,score\n3,0.12,1.235,2.0,3.0,4.0,0.98765\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.jsonl"]


def test_losses_have_a_column_of_their_own(tmp_path):
    for suffix in ("jsonl", "csv"):
        writer = TableWriter(tmp_path / f"a.{suffix}", lost=True)
        writer.write(0, 0.0, (1, 2, 3, 4), 0.5, lost=True)
        writer.close()
    assert json.loads((tmp_path / "a.jsonl").read_text())["lost"] is True
    assert (tmp_path / "a.csv").read_text() == "frame,time,x,y,w,h,score,lost\n0,0.0,1.0,2.0,3.0,4.0,0.5,1\n"


def test_rotated_rectangles_have_a_column_of_their_own(tmp_path):
    corners = [1.5, 2, 3, 4, 5, 6, 7, 8.25]
    for suffix in ("jsonl", "csv"):
        writer = TableWriter(tmp_path / f"a.{suffix}", polygon=True)
        writer.write(0, 0.0, (1, 2, 3, 4), 1)
        writer.write(1, 0.1, (1, 2, 3, 4), 0.5, polygon=corners)
        writer.close()
    first, second = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert first["polygon"] == [1, 2, 4, 2, 4, 6, 1, 6]  # the corners of the given box
    assert second["polygon"] == corners
    assert (tmp_path / "a.csv").read_text().splitlines()[2].endswith(",0.5,1.5 2.0 3.0 4.0 5.0 6.0 7.0 8.25")


def test_ids_have_a_column_of_their_own(tmp_path):
    for suffix in ("jsonl", "csv"):
        writer = TableWriter(tmp_path / f"a.{suffix}", ids=True)
        writer.write(0, 0.5, (1, 2, 3, 4), 0.5, id=7)
        writer.close()
    assert (tmp_path / "a.csv").read_text() == "frame,time,id,x,y,w,h,score\n0,0.5,7,1.0,2.0,3.0,4.0,0.5\n"
    row = {"frame": 0, "time": 0.5, "id": 7, "x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0, "score": 0.5}
    assert json.loads((tmp_path / "a.jsonl").read_text()) == row


def test_mot_challenge_counts_from_one(tmp_path):
    writer = TableWriter(tmp_path / "a.txt", ids=True, lost=True)
    writer.write(4, 0.5, (10.25, 0, 3, 4), 0.5, id=7)
    writer.close()
    assert (tmp_path / "a.txt").read_text() == "5,7,11.25,1.0,3.0,4.0,0.5,-1,-1,-1\n"


def test_nothing_is_left_when_nothing_was_written(tmp_path):
    TableWriter(tmp_path / "a.csv").close()
    VideoWriter(tmp_path / "a.mp4", (32, 32), Fraction(25)).close()
    assert not list(tmp_path.iterdir())


def test_wrong_suffixes_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"must end in .jsonl, .csv or .txt"):
        TableWriter(tmp_path / "a.xml")
    with pytest.raises(UserError, match=r"must end in .mp4"):
        VideoWriter(tmp_path / "a.avi", (32, 32), Fraction(25))


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_video_comes_back(tmp_path, size):
    width, height = size
    images = [np.full((height, width, 3), level, np.uint8) for level in (40, 120, 200)]
    writer = VideoWriter(tmp_path / "a.mp4", size, Fraction(10))
    for number, image in enumerate(images):
        writer.write(image, 5 + number / 10)  # a source that was entered after 5 seconds
    writer.close()
    source = VideoSource(tmp_path / "a.mp4")
    frames = list(source)
    assert source.size == (64, 48)
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2])
    assert [frame.image.mean() for frame in frames] == pytest.approx([40, 120, 200], abs=3)


def test_frames_too_large_for_h264_are_refused(tmp_path):
    with pytest.raises(UserError, match="too large for H.264 video; add --no-video"):
        VideoWriter(tmp_path / "a.mp4", (20000, 32), Fraction(25))


def test_draw_mask_tints_its_pixels():
    image, mask = np.full((4, 4, 3), 100, np.uint8), np.eye(4, dtype=bool)
    drawn = draw_mask(image, mask, (200, 0, 100))
    assert drawn[0, 0].tolist() == [150, 50, 100]
    assert drawn[0, 1].tolist() == [100, 100, 100]


def test_draw_box_leaves_the_frame_alone():
    image = np.zeros((100, 100, 3), np.uint8)
    drawn = draw_box(image, (20, 30, 40, 20), "7")
    assert not image.any()
    assert drawn[30, 40].any()
    assert drawn[50, 40].any()
    assert not drawn[40, 40].any()


def test_boxes_of_several_targets_have_their_colours():
    image = np.zeros((100, 100, 3), np.uint8)
    drawn = draw_boxes(image, [((10, 30, 20, 20), "", colour_of(1)), ((60, 30, 20, 20), "", colour_of(2))])
    assert drawn[30, 20].tolist() == list(colour_of(1))
    assert drawn[30, 70].tolist() == list(colour_of(2))
    colours = np.array([colour_of(target) for target in range(8)])
    apart = np.abs(colours[:, None] - colours[None]).sum(-1)[~np.eye(8, dtype=bool)]
    assert apart.min() > 60


def test_contact_sheet_lays_out_rows():
    images = [np.full((50, 100, 3), level, np.uint8) for level in (10, 20, 30)]
    sheet = contact_sheet(images, columns=2, width=40)
    assert sheet.shape == (40, 80, 3)
    assert [sheet[10, 20, 0], sheet[10, 60, 0], sheet[30, 20, 0], sheet[30, 60, 0]] == [10, 20, 30, 0]
