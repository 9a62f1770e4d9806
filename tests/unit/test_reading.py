"""How sources are read: ahead in a thread, from the middle of a video, from cameras and streams."""

import gc
import json
import socket
import sys
import threading
import time
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer

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


@pytest.fixture
def decoded(monkeypatch):
    """The numbers of the frames that are decoded."""
    numbers = []
    plain = decode.Film._decoded

    def counted(self, origin):
        for each in plain(self, origin):
            numbers.append(each[0])
            yield each

    monkeypatch.setattr(decode.Film, "_decoded", counted)
    return numbers


@pytest.mark.parametrize("name", FILMS)
def test_a_video_entered_in_the_middle_is_the_same_as_one_read_from_the_start(name, tmp_path, decoded):
    path = film(tmp_path / name, **FILMS[name])
    whole = list(VideoSource(path))
    assert [frame.index for frame in whole] == list(range(FRAMES))
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


def copied(source, path, skip=0, last=None):
    """Copy a film's packets, without decoding them, from the one numbered ``skip`` on; the last one stands so long."""
    with av.open(str(source)) as whole, av.open(str(path), "w") as part:
        stream = part.add_stream_from_template(whole.streams.video[0])
        for number, packet in enumerate(whole.demux(video=0)):
            if packet.dts is not None and number >= skip:
                packet.stream = stream
                if last and number == FRAMES - 1:
                    packet.duration = last
                part.mux(packet)
    return path


def add_silence(container, stream, count):
    for number in range(count):
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        silence.sample_rate, silence.pts = 44100, 1024 * number
        container.mux(stream.encode(silence))
    container.mux(stream.encode(None))


def packets(path):
    with av.open(str(path)) as container:
        return [packet.is_keyframe for packet in container.demux(video=0) if packet.dts is not None]


@pytest.mark.parametrize("behind", [0, 3], ids=["at a keyframe", "between two"])
def test_a_recording_that_begins_amid_a_group_is_entered_at_the_right_frame(behind, tmp_path, decoded):
    """What precedes the first keyframe in it, or needs what came before, is never shown, and has no number."""
    options = B_FRAMES | {"x264-params": "open-gop=1:keyint=14:min-keyint=14:b-adapt=0"}
    whole = film(tmp_path / "whole.ts", options=options)
    second = [number for number, key in enumerate(packets(whole)) if key][1]
    path = copied(whole, tmp_path / "part.ts", second + behind)
    source = VideoSource(path)
    frames = list(source)
    assert 50 < len(frames) < len(packets(path))  # some of them are not shown
    assert source.problem is None
    for start in (1, 20, 45, len(frames) - 1):
        decoded.clear()
        entered = next(iter(VideoSource(path, start)))
        assert (entered.index, entered.time) == (start, pytest.approx(frames[start].time))
        assert np.array_equal(entered.image, frames[start].image)
    assert len(decoded) < 40, "frames before the last keyframes were decoded"


def test_numbers_are_right_behind_a_packet_that_shows_nothing(tmp_path):
    """MPEG-4 says "as before" by a packet without a picture; it has a time stamp, but is no frame."""
    path = film(tmp_path / "a.mp4", "mpeg4", {"g": "12"})
    with av.open(str(path)) as container:
        place, size = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size][40]
    data = bytearray(path.read_bytes())
    # A header (ISO/IEC 14496-2, 6.2.5): type P, marker, 5 bits of time, marker, vop_coded 0.
    data[place : place + size] = (b"\0\0\1\xb6" + b"\x50\xdf" + bytes(size))[:size]
    path.write_bytes(data)
    frames = list(VideoSource(path))
    assert len(frames) == FRAMES - 1
    for start in (38, 60):
        entered = next(iter(VideoSource(path, start)))
        assert (entered.index, entered.time) == (start, frames[start].time)
        assert np.array_equal(entered.image, frames[start].image)


def test_a_recording_may_begin_with_what_cannot_be_decoded(tmp_path):
    whole = film(tmp_path / "whole.webm", "libvpx-vp9", {"g": "20", "deadline": "realtime", "cpu-used": "8"})
    source = VideoSource(copied(whole, tmp_path / "part.webm", 7))
    frames = list(source)
    assert 60 < len(frames) < FRAMES - 7
    assert (frames[0].index, frames[0].time, source.problem) == (0, 0, None)
    assert abs(int(frames[0].image[-1, -1, 0]) - (20 + 2 * (FRAMES - len(frames)))) < 8


def test_times_are_in_the_order_of_the_frames_where_a_file_tells_that_of_decoding(tmp_path):
    frames = list(VideoSource(film(tmp_path / "a.avi", options=B_FRAMES)))
    assert [frame.time for frame in frames] == pytest.approx([number / 25 for number in range(FRAMES)])
    late = list(VideoSource(tmp_path / "a.avi", 2.0, 2.2))
    assert [frame.index for frame in late] == [50, 51, 52, 53, 54]


def test_films_that_were_joined_go_on_in_time(tmp_path):
    part = film(tmp_path / "part.ts").read_bytes()
    (tmp_path / "joined.ts").write_bytes(part + part)
    frames = list(VideoSource(tmp_path / "joined.ts"))
    assert [frame.time for frame in frames] == pytest.approx([number / 25 for number in range(2 * FRAMES)])
    # Other stamps in the second part, so that none is there twice.
    other = film(tmp_path / "other.ts", options=B_FRAMES, times=[1 + 40 * number for number in range(FRAMES)])
    (tmp_path / "joined.ts").write_bytes(part + other.read_bytes())
    frames = list(VideoSource(tmp_path / "joined.ts"))
    for start in (24, 25, FRAMES + 12, FRAMES + 24, FRAMES + 25):
        frame = next(iter(VideoSource(tmp_path / "joined.ts", start)))
        assert (frame.index, np.array_equal(frame.image, frames[start].image)) == (start, True)


def test_a_film_whose_stamps_fall_back_is_read_from_the_start(tmp_path):
    """What was recorded later stands first: by its stamps alone, the second part would have no place."""
    for name, begin in (("late", 10_000), ("early", 0)):
        times = [begin + 40 * number for number in range(FRAMES)]
        film(tmp_path / f"{name}.ts", options=B_FRAMES, times=times)
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join((tmp_path / f"{name}.ts").read_bytes() for name in ("late", "early")))
    frames = list(VideoSource(path))
    assert len(frames) == 2 * FRAMES
    for start in (37, FRAMES + 37):
        entered = next(iter(VideoSource(path, start)))
        assert (entered.index, entered.time) == (start, frames[start].time)
        assert np.array_equal(entered.image, frames[start].image)


def test_uneven_frames_are_no_film_cut_short(tmp_path):
    """MPEG-TS then claims 90,000 frames a second, and Matroska a rate of its own."""
    slow = [40 * number for number in range(45)] + [1800 + 900 * number for number in range(45)]
    for name in ("uneven.ts", "uneven.mkv", "uneven.mp4"):
        for times in (UNEVEN, slow):
            source = VideoSource(film(tmp_path / name, options=B_FRAMES, times=times))
            assert len(list(source)) == FRAMES
            assert (source.problem, source.fps < 100) == (None, True)
    plain = film(tmp_path / "plain.mkv", options=B_FRAMES | {"bf": "0"}, times=slow)
    source = VideoSource(copied(plain, tmp_path / "stands.mkv", last=1600))
    assert (len(list(source)), source.problem) == (FRAMES, None)


def test_frames_of_odd_sizes_have_their_colours(tmp_path):
    with av.open(str(tmp_path / "a.webm"), "w") as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 65, 49, "yuv420p"
        image = np.full((49, 65, 3), (200, 40, 90), np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    (frame,) = VideoSource(tmp_path / "a.webm")
    assert frame.image.shape == (49, 65, 3)
    assert np.abs(frame.image.astype(int) - image).max() < 12


def test_sound_may_be_longer_than_the_film(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream, sound = container.add_stream("libx264", rate=25), container.add_stream("aac", rate=44100)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
        add_silence(container, sound, 200)
    source = VideoSource(tmp_path / "a.mkv")
    assert (len(list(source)), source.problem) == (20, None)


@pytest.mark.parametrize("name", ["cut.mkv", "cut.flv", "cut.webm"])
def test_a_film_without_an_index_that_is_cut_short(name, tmp_path):
    path = film(tmp_path / name, **({"codec": "libvpx"} if name == "cut.webm" else {"options": B_FRAMES}))
    whole = VideoSource(path)
    assert (len(list(whole)), whole.problem) == (FRAMES, None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    source = VideoSource(path)
    count = len(list(source))
    assert 30 < count < 80
    assert f"ended after {count} frames" in source.problem
    assert "cut short" in source.problem


def test_songs_and_texts_are_no_films(tmp_path):
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        song = container.add_stream("aac", rate=44100)
        cover = container.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.start_encoding()
        picture = av.Packet(cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes())
        picture.stream, picture.pts, picture.dts, picture.is_keyframe = cover, 0, 0, True
        container.mux(picture)
        add_silence(container, song, 20)
    with av.open(str(tmp_path / "song.mp4")) as container:
        assert len(container.streams.video) == 1
    (tmp_path / "boxes.txt").write_text("10,20,30,40\n" * 99)  # FFmpeg would film it scrolling by
    for name in ("song.mp4", "boxes.txt"):
        with pytest.raises(UserError, match=f"{name} holds no video stream"):
            VideoSource(tmp_path / name)


def test_an_image_that_cannot_be_opened_ends_the_source(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((20, 30, 3), np.uint8))
    (tmp_path / "1.png").mkdir()
    images = VideoSource(tmp_path)
    assert len(list(images)) == 1
    assert "1.png cannot be opened" in images.problem


def test_few_large_frames_wait(tmp_path, monkeypatch):
    for number in range(12):
        cv2.imwrite(str(tmp_path / f"{number:02d}.png"), np.zeros((20, 30, 3), np.uint8))
    reads = []
    plain = source.read_image
    monkeypatch.setattr(source, "read_image", lambda path: reads.append(path) or plain(path))
    monkeypatch.setattr(source, "_AHEAD_BYTES", 2000)
    frames = iter(VideoSource(tmp_path))
    next(frames)
    time.sleep(0.1)
    assert len(reads) <= 3  # the one in use, one that waits, one in hand


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
    shown = 0
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
        type(self).shown = self.number
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
    frames, seen = VideoSource(0), []
    for frame in frames:
        assert frame.image[0, 0, 0] == frame.index
        seen.append(frame.index)
        while camera.shown < min(frame.index + 6, camera.count):  # whoever uses the frames is slow
            time.sleep(0.005)
    assert seen == sorted(seen)
    assert seen[-1] == 29
    assert len(seen) < 10
    assert frames.dropped == 30 - len(seen)
    assert (frames.name, frames.fps) == ("camera0", 100)
    assert "camera 0 gave no frame after 30" in frames.problem
    assert camera.released


def test_a_camera_that_stalls_ends_with_a_sentence(camera, monkeypatch):
    camera.count = 3
    monkeypatch.setattr(source, "PATIENCE", 0.4)
    frames = VideoSource(0)
    seen = [frame.index for frame in frames]
    assert seen[-1] == 2
    assert frames.problem == "camera0 gave no frame for 0.4 s"


def test_a_camera_that_changes_its_size(camera):
    camera.sizes = ((40, 30), (80, 60))
    frames = VideoSource(0)
    assert {frame.image.shape for frame in frames} == {(30, 40, 3)}
    assert frames.rescaled > 0


def test_what_was_tracked_before_a_camera_stalled_is_kept(camera, tmp_path, monkeypatch, capsys):
    camera.count = 3
    monkeypatch.setattr(source, "PATIENCE", 0.4)
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


def test_a_file_of_a_server_is_read_whole_even_if_it_does_not_tell_its_length(tmp_path):
    film(tmp_path / "a.ts", options=B_FRAMES)

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        frames = VideoSource(f"http://127.0.0.1:{server.server_port}/a.ts")
        time.sleep(0.1)  # whoever is slower than the network misses no frame
        assert [frame.index for frame in frames] == list(range(FRAMES))
        server.shutdown()


@pytest.fixture
def address():
    """Serve the pictures 0 to 9, 4 damaged, as Motion JPEG, as network cameras do, and then be silent."""
    silence = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
            self.end_headers()
            for number in range(10):
                picture = cv2.imencode(".jpg", np.full((48, 64, 3), 20 * number, np.uint8))[1].tobytes()
                if number == 4:
                    picture = b"\xff\xd8" + bytes(200) + b"\xff\xd9"  # a disturbance
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
    monkeypatch.setattr(source, "PATIENCE", 1.0)
    frames = VideoSource(address)
    seen = [(frame.index, frame.image.mean()) for frame in frames]
    assert seen == sorted(seen)
    assert seen[-1] == (8, pytest.approx(180, abs=3))
    assert "gave no frame for 1 s" in frames.problem


def test_a_server_that_never_answers(monkeypatch):
    monkeypatch.setattr(source, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/camera.mjpg"
        with pytest.raises(UserError, match=r"did not answer for 0.2 s"):
            VideoSource(address)
