"""``siamtrack track`` with several objects, ``siamtrack track-many``, and the lists that they read."""

import csv
import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from siamtrack import track_many
from siamtrack.boxes import iou
from siamtrack.cli.follow import follow
from siamtrack.cli.main import run
from siamtrack.errors import UserError
from siamtrack.manifest import read_targets
from siamtrack.models import zoo
from siamtrack.multi import Target
from siamtrack.tracking.config import TrackingConfig
from siamtrack.tracking.state import TrackResult
from siamtrack.video.overlay import colour_of
from siamtrack.video.source import VideoSource

FAST = ("--threads", "1")


@pytest.fixture
def siamtrack(tmp_path, monkeypatch, capsys):
    """Run a command in this process and in ``tmp_path``; return its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["siamtrack", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            run()
        printed = capsys.readouterr()
        return stopped.value.code or 0, " ".join((printed.out + printed.err).split())

    return command


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_track_follows_several_objects(siamtrack, clip, square, tmp_path):
    boxes = ("--box", "100,90,40,40", "--box", "20,20,50,50")
    code, said = siamtrack("track", clip, *boxes, "--end", 6, "--out", "a.csv", "--video", "a.mp4", *FAST)
    assert (code, "tracked 2 targets in 6 frames" in said) == (0, True)
    rows = table(tmp_path / "a.csv")
    assert list(rows[0]) == ["frame", "time", "id", "x", "y", "w", "h", "score", "lost"]
    assert [(row["frame"], row["id"]) for row in rows] == [(str(f), i) for f in range(6) for i in "12"]
    found = np.array([[float(row[key]) for key in "xywh"] for row in rows]).reshape(6, 2, 4)
    assert iou(found[:, 0], square[1][:6]).min() > 0.6
    assert iou(found[:, 1], (20, 20, 50, 50)).min() > 0.6
    film = [frame.image.astype(int) for frame in VideoSource(tmp_path / "a.mp4")]
    for target in (0, 1):  # each box is drawn
        x, y, w, h = np.rint(found[5, target]).astype(int)
        edge = np.abs(film[5] - square[0][5])[y + h - 1 : y + h + 2, x + w // 4 : x + w // 2]
        assert edge.max(-1).max(0).mean() > 60


def test_masks_are_tinted_in_the_film(square, tmp_path):
    """In the colours of the targets' boxes; what is beside them stays as it was."""
    for number, image in enumerate(square[0][:2]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    masks = np.zeros((2, *square[0][0].shape[:2]), bool)
    masks[0, 150:200, 20:60] = masks[1, 150:200, 200:260] = True

    def track(source, targets, stopped):
        for frame in source:
            yield (
                frame,
                {each: TrackResult(np.array([9.0, 40, 30, 30]), 0.5, mask=mask) for each, mask in enumerate(masks, 1)},
            )

    made_up = SimpleNamespace(
        track=track, drop_after=None, tracking=TrackingConfig(), preset=zoo.load("siammask_lite")
    )  # fmt: skip
    drawn, targets = [], [Target((9, 40, 30, 30))] * 2
    film = tmp_path / "a.mp4"
    follow(made_up, VideoSource(tmp_path), targets, tmp_path / "a.csv", film, lambda _, image: drawn.append(image))
    for mask, target in zip(masks, (1, 2), strict=True):
        tinted = square[0][0][mask] * 0.5 + np.array(colour_of(target)) * 0.5
        assert np.abs(drawn[0][mask] - tinted).max() <= 1
        shown = next(iter(VideoSource(film))).image
        assert shown[mask].mean(0) == pytest.approx(tinted.mean(0), abs=8)
    beside = ~masks.any(0)
    beside[:90] = False  # where the boxes are
    assert (drawn[0][beside] == square[0][0][beside]).all()


def test_objects_of_a_list_begin_and_end_when_it_says(siamtrack, clip, tmp_path):
    late = {"id": 9, "box": "20,20,50,50", "start": "0.28s", "end": 9}
    (tmp_path / "boxes.json").write_text(json.dumps([{"box": [115, 100, 40, 40], "start": 5}, late]))
    code, said = siamtrack("track", clip, "--boxes", "boxes.json", "--end", "10", "--out", "a.txt", "--no-video", *FAST)
    assert code == 0, said
    rows = [line.split(",") for line in (tmp_path / "a.txt").read_text().splitlines()]
    assert [(row[0], row[1]) for row in rows] == [
        ("6", "1"), ("7", "1"), ("8", "1"), ("8", "9"), ("9", "1"), ("9", "9"), ("10", "1")
    ]  # fmt: skip
    assert rows[0][2:] == ["116.0", "101.0", "40.0", "40.0", "1.0", "-1", "-1", "-1"]


def test_an_object_that_stays_lost_is_dropped(siamtrack, clip, tmp_path):
    (tmp_path / "boxes.csv").write_text("x,y,w,h,start\n100,90,40,40,0\n115,100,40,40,5\n")
    never_sure = ("--set", "tracking.longterm.low=0.999", "--set", "tracking.longterm.high=0.999")
    options = ("--drop-after", 2, *never_sure, "--end", 7, "--out", "a.csv", "--no-video")
    code, said = siamtrack("track", clip, "--boxes", "boxes.csv", *options, *FAST)
    assert (code, "dropped because they stayed lost: 1 " in f"{said} ") == (0, True), said
    rows = [(row["frame"], row["id"], row["lost"]) for row in table(tmp_path / "a.csv")]
    assert rows == [("0", "1", "0"), ("1", "1", "1"), ("2", "1", "1"), ("5", "2", "0"), ("6", "2", "1")]


def test_an_object_that_never_comes_is_named(siamtrack, clip, tmp_path):
    (tmp_path / "boxes.csv").write_text("x,y,w,h,start\n100,90,40,40,0\n20,20,50,50,99\n")
    code, said = siamtrack("track", clip, "--boxes", "boxes.csv", "--end", "2", "--no-video", *FAST)
    assert code == 0
    assert "the first frame of these targets did not come: 2" in said


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "x,y,w,h,start,id\n1,2,3,4,,\n5,6,7,8,1:02,3\n"),
        ("a.csv", '\ufeffbox,start,id\n"1,2,3,4",,\n5 6 7 8,62s,3\n'),
        ("a.jsonl", '{"box": [1, 2, 3, 4]}\n\n{"x": 5, "y": 6, "w": 7, "h": 8, "start": 62.0, "id": 3}\n'),
        ("a.json", '[{"box": [1, 2, 3, 4]}, {"box": "5,6,7,8", "start": "62s", "id": 3}]'),
        ("a.yaml", "- box: [1, 2, 3, 4]\n- {box: '5,6,7,8', start: 62.0, id: 3}\n"),
    ],
)
def test_lists_of_every_kind(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_targets(tmp_path / name) == [Target((1, 2, 3, 4)), Target((5, 6, 7, 8), start=62.0, id=3)]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "x,y,w\n1,2,3\n", r"a.csv, row 1: there is no box; give x, y, w and h"),
        ("a.csv", "x,y,w,h,strat\n1,2,3,4,5\n", r"row 1: unknown key 'strat'; did you mean 'start'\?"),
        ("a.csv", "x,y,w,h\n1,2,3,4\n1,2,three,4\n", r"row 2: box.2: 'three' should be a valid number"),
        ("a.csv", "x,y,w,h,start\n1,2,3,4,soon\n", r"row 1: 'soon' is neither a frame number"),
        ("a.csv", "box\n1;2;3;4\n", r"row 1: box '1;2;3;4' is not four numbers"),
        ("a.csv", "x,y,w,h\n1,2,3,4\n1,2,3,4,5\n", r"row 2 has more values than the first line has names"),
        ("a.csv", "x,y,w,h,start,end\n1,2,3,4,5,5\n", r"row 1: end frame 5 is not after start frame 5"),
        ("a.csv", "x,y,w,h\n", r"holds no rows"),
        ("a.json", '{"box": [1, 2, 3, 4]}', r"holds dict, expected a list of rows"),
        ("a.json", "[1, 2, 3, 4]", r"row 1 holds int"),
        ("a.json", '[{"box": [1, 2, 3, 4], "start": -1}]', r"row 1: start -1 is below 0"),
        ("a.jsonl", "{", r"a.jsonl is no jsonl file"),
        ("a.yaml", "- [", r"a.yaml is no yaml file"),
        ("a.xml", "", r"must end in .csv, .json, .jsonl or .yaml"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        read_targets(tmp_path / name)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["track", "CLIP", "--boxes", "no.csv"], "there is no file no.csv"),
        (["track", "CLIP", "--boxes", "no.csv", "--box", "1,2,3,4"], "and not both"),
        (
            ["track", "CLIP", "--box", "1,2,30,40", "--drop-after", "5", "--model", "siamrpnpp_nano"],
            "needs a tracker that knows when it has lost",
        ),
        (["track", "CLIP", "--box", "1,2,30,40", "--box", "400,2,30,40"], "target 2: box 400,2,30,40 lies outside"),
        (["track", "CLIP", "--boxes", "late.csv"], "target 2: box 400,2,30,40 lies outside"),
        (["track", "", "--box", "1,2,30,40"], "the source has an empty name"),
        (["track-many", "no.csv"], "there is no file no.csv"),
        (["track-many", "list.csv", "--out", "list.csv"], "--out list.csv is a file; give the name of a folder"),
        (["track-many", "list.csv", "--format", "xml"], "--format xml: expected one of jsonl, csv, txt"),
        (["track-many", "twice.csv"], "would both be written to tracks/square.boxes.jsonl; give each its 'out'"),
        (["track-many", "list.csv", "--cluster", "localhost:1"], "cluster"),
        (["track-many", "list.csv", "--model", "no"], "there is no model 'no'"),
        (["track-many", "list.csv", "--pipelined"], "latency 'pipelined' is for the runtimes"),
    ],
)
def test_bad_input_is_one_sentence(arguments, said, siamtrack, clip, tmp_path):
    (tmp_path / "list.csv").write_text(f'video,box\n{clip},"1,2,30,40"\n')
    (tmp_path / "twice.csv").write_text(f'video,box\n{clip},"1,2,30,40"\na/{clip.name},"1,2,30,40"\n')
    (tmp_path / "late.csv").write_text("x,y,w,h,start\n1,2,30,40,0\n400,2,30,40,20\n")  # which is told at once
    before = sorted(tmp_path.iterdir())
    code, printed = siamtrack(*(clip if each == "CLIP" else each for each in arguments))
    assert code == 2
    assert said in printed
    assert sorted(path for path in tmp_path.iterdir() if path.name != "tracks") == before


@pytest.fixture
def manifest(clip, tmp_path):
    """Three videos, one of which breaks at once, another with two targets."""
    (tmp_path / "broken.mp4").write_bytes(clip.read_bytes()[:500])
    path = tmp_path / "list.csv"
    path.write_text(
        "video,box,start,end,out\n"
        f'{clip},"100,90,40,40",,4,\n'
        f'{clip},"20,20,50,50",2,5,two/b.csv\n'
        f'{clip},"115,100,40,40",5,7,two/b.csv\n'
        'broken.mp4,"1,2,30,40",,,\n'
    )
    return path


def outputs(folder):
    return {path.name: path.read_text() for path in folder.rglob("*boxes*") if path.is_file()} | {
        path.name: path.read_text() for path in folder.rglob("b.csv")
    }


def test_many_videos_are_finished_once(siamtrack, manifest, tmp_path):
    code, said = siamtrack("track-many", manifest, *FAST)
    assert code == 2
    assert re.search("tracked 9 frames of 2 videos with .* into tracks", said)
    assert f"1 of 3 videos went wrong: {tmp_path}/broken.mp4 is no video that can be read" in said
    first = outputs(tmp_path / "tracks")
    assert sorted(first) == ["b.csv", "square.boxes.jsonl"]
    rows = [json.loads(line) for line in first["square.boxes.jsonl"].splitlines()]
    assert [(row["frame"], "id" in row) for row in rows] == [(number, False) for number in range(4)]
    assert [(row["frame"], row["id"]) for row in table(tmp_path / "tracks" / "two" / "b.csv")] == [
        ("2", "1"), ("3", "1"), ("4", "1"), ("5", "2"), ("6", "2")
    ]  # fmt: skip

    # What is finished is not touched; what is missing or was changed is done again, what broke is tried again.
    (tmp_path / "tracks" / "two" / "b.csv").write_text("mine")
    manifest.write_text(manifest.read_text().replace(",,4,", ",,3,"))
    code, said = siamtrack("track-many", manifest, *FAST)
    assert code == 2
    assert re.search("tracked 3 frames of 1 videos with .* into tracks; 1 were finished before", said)
    assert outputs(tmp_path / "tracks")["b.csv"] == "mine"
    (tmp_path / "tracks" / "two" / "b.csv").unlink()
    with (tmp_path / "tracks" / "track-many.jsonl").open("a") as ledger:
        ledger.write('{"out": "two')  # the machine went down
    code, said = siamtrack("track-many", manifest, *FAST)
    assert "tracked 5 frames of 1 videos" in said
    assert outputs(tmp_path / "tracks")["b.csv"] == first["b.csv"]


def test_videos_in_step_and_in_processes_give_the_same_boxes(siamtrack, manifest, tmp_path):
    siamtrack("track-many", manifest, *FAST)
    plain = outputs(tmp_path / "tracks")
    for name, options in (("step", ("--batch", "3")), ("processes", ("--workers", "2"))):
        code, said = siamtrack("track-many", manifest, "--out", name, *options, *FAST)
        assert (code, "1 of 3 videos went wrong" in said) == (2, True)
        found = outputs(tmp_path / name)
        assert sorted(found) == sorted(plain)
        for file, text in plain.items():
            numbers = [
                np.array([[float(row[key]) for key in "xywh"] for row in rows])
                for rows in (
                    csv.DictReader(each.splitlines()) if file.endswith("csv") else map(json.loads, each.splitlines())
                    for each in (text, found[file])
                )
            ]
            assert numbers[0] == pytest.approx(numbers[1], abs=0.01)


def test_files_are_named_after_their_videos(tmp_path):
    (tmp_path / "walk.1").mkdir()
    path = tmp_path / "list.csv"
    path.write_text('video,box\nwalk.1,"1,2,3,4"\nstills/*.png,"1,2,3,4"\nhttp://host/cam.mp4,"1,2,3,4"\n')
    names = [video.out.name for video in track_many.read_manifest(path, tmp_path)]
    assert names == ["walk.1.boxes.jsonl", "frames.boxes.jsonl", "cam.boxes.jsonl"]


def test_what_was_stopped_goes_on(manifest, tmp_path):
    settings, out = track_many.Settings(threads=1), tmp_path
    (out / "two").mkdir()
    videos = track_many.read_manifest(manifest, out)
    ended = []
    failures = track_many.execute(videos, settings, out, on_video=ended.append, stopped=lambda: bool(ended))
    assert (len(ended), failures) == (1, [])
    left = track_many.unfinished(videos, settings, out)
    assert [video.out.name for video in left] == ["b.csv", "broken.boxes.jsonl"]
    for changed in ({"tracking": {"lr": 0.2}}, {"drop_after": 3}, {"model": "siamrpnpp_nano"}):
        assert len(track_many.unfinished(videos, track_many.Settings(threads=1, **changed), out)) == 3
    moved = [replace(video, targets=(Target((1, 2, 30, 40)),)) for video in videos]
    assert len(track_many.unfinished(moved, settings, out)) == 3


def test_a_video_that_was_recorded_anew_is_followed_anew(tmp_path):
    video, settings = track_many.Video(str(tmp_path / "a.mp4"), (), tmp_path / "a.csv"), track_many.Settings()
    digests = []
    for content in (b"one", b"another"):
        (tmp_path / "a.mp4").write_bytes(content)
        digests += [video.digest(settings), video.digest(settings)]
    assert digests[0] == digests[1] != digests[2] == digests[3]


@pytest.mark.parametrize(("cores", "together", "threads"), [(64, 1, 16), (64, 16, 4), (2, 16, 1)])
def test_films_that_go_in_step_share_the_cores(manifest, tmp_path, monkeypatch, cores, together, threads):
    given = []

    class Source(VideoSource):
        def __init__(self, *_, threads):
            given.append(threads)
            raise UserError("enough is known")

    monkeypatch.setattr(track_many, "VideoSource", Source)
    monkeypatch.setattr(track_many, "cores", lambda: cores)
    videos = track_many.read_manifest(manifest, tmp_path)[:2]
    outcomes = dict(track_many.Job(track_many.Settings(threads=1), videos, together).perform({}, lambda: None))
    assert [outcome.problem for outcome in outcomes.values()] == ["enough is known"] * 2
    assert given == [threads] * 2


def test_a_worker_that_dies_costs_its_videos_only(manifest, tmp_path):
    (video, *_) = track_many.read_manifest(manifest, tmp_path)
    job = track_many.Job(track_many.Settings(), (video, video))
    assert len(job) == 2
    outcome = job.failed("its worker was killed by SIGKILL")
    assert (outcome.frames, outcome.problem) == (0, "its worker was killed by SIGKILL")


def test_a_video_that_breaks_in_the_middle_keeps_its_boxes(siamtrack, clip, tmp_path):
    with av.open(str(clip)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(clip.read_bytes())
    place, size = packets[12]
    data[place : place + size] = b"\xff" * size
    (tmp_path / "broken.mp4").write_bytes(data)
    (tmp_path / "list.yaml").write_text("- {video: broken.mp4, box: '100,90,40,40'}\n")
    code, said = siamtrack("track-many", "list.yaml", *FAST)
    assert (code, "1 of 1 videos went wrong" in said, "broke after" in said) == (2, True, True)
    assert 0 < len((tmp_path / "tracks" / "broken.boxes.jsonl").read_text().splitlines()) < 24
    assert "finished before" not in siamtrack("track-many", "list.yaml", *FAST)[1]


def test_a_ray_cluster_gives_the_same_boxes(siamtrack, manifest, tmp_path):
    pytest.importorskip("ray", reason="Ray is the extra [cluster]")
    from ray.cluster_utils import Cluster

    siamtrack("track-many", manifest, *FAST)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        for name, options in (("ray", ()), ("step", ("--batch", "3"))):
            where = ("--out", name, "--cluster", cluster.address)
            code, said = siamtrack("track-many", manifest, *where, *options, *FAST)
            assert (code, "1 of 3 videos went wrong" in said) == (2, True)
            assert sorted(outputs(tmp_path / name)) == sorted(outputs(tmp_path / "tracks"))
    finally:
        cluster.shutdown()
    assert outputs(tmp_path / "ray") == outputs(tmp_path / "tracks")
