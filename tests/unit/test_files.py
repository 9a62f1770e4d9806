import pytest

from siamtrack.errors import UserError
from siamtrack.files import atomic, writable


def test_atomic_leaves_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writable_says_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        writable(tmp_path / "no" / "a.txt")
    with pytest.raises(UserError, match="it is a folder"):
        writable(tmp_path)
