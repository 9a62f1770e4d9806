"""How sources are read: ahead in a thread, from the middle of a video, from cameras and streams."""

import gc
import json
import socket
import sys
import threading
import time
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import cv2
import numpy as np
import pytest

from siamtrack.cli.main import run
from siamtrack.errors import UserError
from siamtrack.video import decode, source
from siamtrack.video.ahead import ReadAhead
from siamtrack.video.source import VideoSource


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    gc.collect()
    assert not readers()


# Entering a video in the middle

FRAMES = 90


def film(path, codec="libx264", options=(), times=None):
    """Write 64x48 frames, each with its number as grey level, at ``times`` (in ticks of 1/1000 s)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if codec == "mjpeg":
            stream.pix_fmt = "yuvj420p"
        stream.options = dict(options)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(FRAMES):
            image = np.full((48, 64, 3), 20 + 2 * number, np.uint8)
            image[number % 40 : number % 40 + 8, 10:30] = 255
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, 25) if times is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


UNEVEN = np.cumsum(np.random.default_rng(5).integers(10, 90, FRAMES)).tolist()
B_FRAMES = {"g": "12", "bf": "3", "sc_threshold": "0", "preset": "veryfast"}
FILMS = {
    "b-frames.mp4": {"options": B_FRAMES},
    "uneven.mp4": {"options": B_FRAMES, "times": UNEVEN},
    "open-groups.mkv": {"options": B_FRAMES | {"x264-params": "open-gop=1"}},
    "stream.ts": {"options": B_FRAMES},
    "old.avi": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},  # its packets have no time stamps
    "web.webm": {"codec": "libvpx", "options": {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "10"}},
    "stills.mkv": {"codec": "mjpeg"},
}


@pytest.mark.parametrize("name", FILMS)
def test_a_video_entered_in_the_middle_is_the_same_as_one_read_from_the_start(name, tmp_path, monkeypatch):
    path = film(tmp_path / name, **FILMS[name])
    whole = list(VideoSource(path))
    assert [frame.index for frame in whole] == list(range(FRAMES))
    decoded = []
    plain = decode.Film._decoded

    def counted(self, origin):
        for each in plain(self, origin):
            decoded.append(each[0])
            yield each

    monkeypatch.setattr(decode.Film, "_decoded", counted)
    starts = [1, 11, 12, 13, 37, 59, 60, 61, 88, 89]
    for start in [*starts, *(whole[number].time for number in (13, 47))]:
        decoded.clear()
        frames = list(VideoSource(path, start, whole[-1].index if start == 60 else None))
        first = start if isinstance(start, int) else [frame.time for frame in whole].index(start)
        expected = whole[first : -1 if start == 60 else None]
        assert [(frame.index, frame.time) for frame in frames] == [(frame.index, frame.time) for frame in expected]
        for frame, same in zip(frames, expected, strict=True):
            assert np.array_equal(frame.image, same.image)
        if first > 24 and name.endswith(("mp4", "ts", "mkv")):
            assert len(decoded) < FRAMES - first + 30, "frames before the last keyframes were decoded"
    with pytest.raises(UserError, match=f"no frame between start frame {FRAMES}"):
        VideoSource(path, FRAMES)


def test_images_before_the_start_are_not_read(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "4.png"), np.zeros((20, 30, 3), np.uint8))
    images = VideoSource(tmp_path, 4)
    assert [frame.index for frame in images] == [4]
    assert images.problem is None


# The thread


def test_frames_wait_in_a_bounded_queue():
    made = []

    def numbers():
        for number in range(100):
            made.append(number)
            yield number

    ahead = ReadAhead(numbers(), room=3)
    assert ahead.take() == 0
    time.sleep(0.05)
    assert len(made) <= 5  # one taken, three waiting, one in hand
    assert [ahead.take() for _ in range(100)] == [*range(1, 100), None]
    assert ahead.take() is None


def test_what_goes_wrong_in_the_thread_is_raised_to_the_caller():
    def broken():
        yield 1
        raise KeyboardInterrupt

    ahead = ReadAhead(broken(), room=2)
    assert ahead.take() == 1
    with pytest.raises(KeyboardInterrupt):
        ahead.take()
    assert ahead.take() is None


def test_closing_ends_the_thread_and_the_generator():
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    ahead = ReadAhead(endless(), room=2)
    assert ahead.take() == 0
    ahead.close()
    assert closed.is_set()
    assert ahead.take() is None


def test_a_source_that_is_forgotten_ends_its_thread(clip):
    frames = iter(VideoSource(clip))
    next(frames)
    assert readers()
    del frames
    gc.collect()
    assert not readers()


# Cameras and streams


class Camera:
    """Stands in for OpenCV's: a frame every ``pause`` seconds, whose grey level is its number."""

    count, pause, sizes = 30, 0.01, ((40, 30),)
    released = False

    def __init__(self, number):
        self.number = 0

    def isOpened(self):
        return True

    def get(self, key):
        return 100.0

    def read(self):
        time.sleep(self.pause if self.number < self.count else 1.0)
        if self.number >= self.count:
            return False, None
        width, height = self.sizes[self.number % len(self.sizes)]
        image = np.full((height, width, 3), self.number, np.uint8)
        self.number += 1
        return True, image

    def release(self):
        type(self).released = True


@pytest.fixture
def camera(monkeypatch):
    class Mine(Camera):
        pass

    monkeypatch.setattr(source.cv2, "VideoCapture", Mine)
    return Mine


def test_a_camera_drops_old_frames_instead_of_lagging(camera):
    camera.pause = 0.02
    frames, seen = VideoSource(0), []
    for frame in frames:
        assert frame.image[0, 0, 0] == frame.index
        seen.append(frame.index)
        time.sleep(0.1)
    assert seen == sorted(seen)
    assert seen[-1] == 29
    assert len(seen) < 15
    assert frames.dropped == 30 - len(seen)
    assert (frames.name, frames.fps) == ("camera0", 100)
    assert "camera 0 gave no frame after 30" in frames.problem
    assert camera.released


def test_a_camera_that_stalls_ends_with_a_sentence(camera, monkeypatch):
    camera.count = 3
    monkeypatch.setattr(source, "PATIENCE", 0.1)
    frames = VideoSource(0)
    seen = [frame.index for frame in frames]
    assert seen[-1] == 2
    assert frames.problem == "camera0 gave no frame for 0.1 s"


def test_a_camera_that_changes_its_size(camera):
    camera.sizes = ((40, 30), (80, 60))
    frames = VideoSource(0)
    assert {frame.image.shape for frame in frames} == {(30, 40, 3)}
    assert frames.rescaled > 0


def test_what_was_tracked_before_a_camera_stalled_is_kept(camera, tmp_path, monkeypatch, capsys):
    camera.count = 3
    monkeypatch.setattr(source, "PATIENCE", 0.1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["siamtrack", "track", "0", "--box", "5,5,12,12", "--threads", "1"])
    with pytest.raises(SystemExit) as stopped:
        run()
    assert stopped.value.code == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "gave no frame" in said
    assert "; the frames before that were kept" in said
    rows = [json.loads(line) for line in (tmp_path / "camera0.boxes.jsonl").read_text().splitlines()]
    assert rows[-1]["frame"] == 2
    assert len(list(VideoSource(tmp_path / "camera0.tracked.mp4"))) == len(rows)


@pytest.fixture
def address():
    """Serve the pictures 0 to 9 as Motion JPEG, as network cameras do, and then be silent."""
    silence = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
            self.end_headers()
            for number in range(10):
                picture = cv2.imencode(".jpg", np.full((48, 64, 3), 20 * number, np.uint8))[1].tobytes()
                head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                self.wfile.write(head.encode() + picture + b"\r\n")
                self.wfile.flush()
                time.sleep(0.02)
            silence.wait(5)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/camera.mjpg"
    silence.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_network_camera_that_falls_silent(address, monkeypatch):
    monkeypatch.setattr(source, "PATIENCE", 0.5)
    frames = VideoSource(address)
    seen = [frame.index for frame in frames]
    assert seen == sorted(seen)
    assert seen
    assert "gave no frame for 0.5 s" in frames.problem


def test_a_server_that_never_answers(monkeypatch):
    monkeypatch.setattr(source, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/camera.mjpg"
        with pytest.raises(UserError, match=r"did not answer for 0.2 s"):
            VideoSource(address)
