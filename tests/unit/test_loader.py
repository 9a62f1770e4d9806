"""Batches by step: the same wherever pictures are kept, whoever prepares them, and in any order."""

import errno
import os
import shutil

import pytest
import torch

from siamtrack.data import loader as loading
from siamtrack.data import pack
from siamtrack.data.index import read_index
from siamtrack.data.loader import PairLoader
from siamtrack.data.pairs import SamplingConfig, SideConfig
from siamtrack.errors import UserError

SAMPLING = SamplingConfig(
    search=SideConfig(shift=64, rotate=20, blur=0.3, noise=5, lowres=0.2),
    background=0.3, distractor=0.5, copies=0.5, occlude=0.5, flip=0.5, negative=0.3, elsewhere=0.3,
)  # fmt: skip


@pytest.fixture(scope="module")
def index(training_folder):
    return read_index(training_folder)


@pytest.fixture
def load(index, tmp_path):
    """Makes loaders and closes them."""
    made = []

    def make(**changes):
        settings = {"batch": 4, "seed": 3, "with_masks": True, "canvas": 100, "folder": tmp_path, "workers": 2}
        made.append(PairLoader(changes.pop("index", index), SAMPLING, 127, 255, **(settings | changes)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def equal(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in a.__dataclass_fields__)


@pytest.fixture
def expected(load):
    one = load(cache="device", workers=1)
    return [one.batch(step) for step in range(4)]


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_batches_are_the_same_wherever_pictures_are(load, expected, cache):
    loader = load(cache=cache)
    assert loader.cache == cache
    for step, batch in enumerate(expected):
        assert equal(loader.batch(step), batch)


def test_a_batch_depends_on_its_step_alone(load, expected):
    loader = load(cache="memory", workers=3)
    for step in (3, 1, 1, 2, 0, 3):  # so a run goes on anywhere
        assert equal(loader.batch(step), expected[step])
    assert not equal(expected[0], expected[1])


def test_processes_and_seeds_draw_other_pairs(load, expected):
    assert equal(load(cache="device", rank=0).batch(0), expected[0])
    assert not equal(load(cache="device", rank=1).batch(0), expected[0])
    assert not equal(load(cache="device", seed=4).batch(0), expected[0])


def test_processes_draw_what_one_does_in_several_batches(load):
    one = load(cache="device", accumulate=2)
    for rank in (0, 1):
        other = load(cache="device", rank=rank, ranks=2)
        for step in (0, 1):
            assert equal(other.batch(step), one.batch(2 * step + rank))


def test_a_file_of_windows_is_made_once(load, expected, index, training_folder, tmp_path, monkeypatch):
    shares = []
    load(cache="disk", tell=shares.append)
    assert shares[-1] == 1
    assert len(list(tmp_path.glob("*.pixels"))) == 1
    monkeypatch.setattr(pack.Decoder, "fetch", None)  # nothing is decoded any more
    assert equal(load(cache="disk").batch(2), expected[2])
    monkeypatch.undo()
    load(cache="disk", canvas=80)  # holds something else
    load(cache="disk", index=index.split(["clip"])[0])
    assert len(list(tmp_path.glob("*.pixels"))) == 3


def test_a_file_of_windows_is_whole_or_absent(load, training_folder, tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    shutil.copytree(training_folder, broken)
    content = bytearray((broken / "shard.tar").read_bytes())
    content[2048:6000] = bytes(3952)  # the picture's content, not the tar's headers
    (broken / "shard.tar").write_bytes(content)
    with pytest.raises(UserError, match="is no image that can be read|but the index says"):
        load(cache="disk", index=read_index(broken))
    assert not list(tmp_path.glob("*.pixels"))

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(UserError, match=r"cannot write .*\.pixels: No space left on device"):
        load(cache="disk")
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".pixels", ".part")]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the folder"):
        load(cache="disk", folder=tmp_path / "file" / "below")


def test_a_picture_that_cannot_be_read_ends_the_run(load, training_folder, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(training_folder, moved)
    loader = load(cache="none", index=read_index(moved))
    (moved / "shard.tar").unlink()
    with pytest.raises(UserError, match=r"there is no .*shard\.tar"):
        loader.batch(0)


@pytest.mark.parametrize(
    ("memory", "disk", "chosen"),
    [(2**30, 2**30, "device"), (2 * 1_100_000, 2**30, "memory"), (100_000, 2**30, "disk"), (100_000, 0, "none")],
)
def test_the_first_cache_that_has_room_is_taken(load, monkeypatch, memory, disk, chosen):
    monkeypatch.setattr(loading, "free_memory", lambda device: memory)
    monkeypatch.setattr(loading, "_free_disk", lambda folder: disk)
    loader = load(canvas=192, cache="auto")  # 11 windows and 3 masks: 1.3 MB as squares, 1.0 MB one behind the other
    assert loader.cache == chosen


def test_too_little_memory_says_what_would_fit(load, monkeypatch):
    monkeypatch.setattr(loading, "free_memory", lambda device: 10 * 2**20)
    monkeypatch.setattr(loading, "pixels_bytes", lambda windows: 20 * 2**20)
    message = (
        r"train.data.cache device needs 20 MiB for 14 windows of 100 pixels and has 5 MiB; "
        r"set it to memory or disk or none, or train.data.canvas to 50"
    )
    with pytest.raises(UserError, match=message):
        load(cache="device")


def test_free_memory_is_known():
    assert 2**20 < loading.free_memory(torch.device("cpu")) < 2**50
