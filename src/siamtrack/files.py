"""Output files: checked before the work starts, complete or absent afterwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

from siamtrack.errors import UserError


def writable(path: Path) -> Path:
    """Return ``path`` if a file can be written there.

    Raises:
        UserError: the folder does not exist or is not writable, or ``path`` is a folder.
    """
    folder = path.parent
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; give the name of a file")
    if not folder.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {folder}; create it first")
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise UserError(f"cannot write {path}: permission denied; choose another place")
    return path


def partial(path: Path) -> Path:
    """Return the name under which this process writes ``path`` until it is complete (same folder and suffix)."""
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it onto ``path`` if the block succeeds.

    Raises:
        UserError: the file cannot be written.
    """
    temporary = partial(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically (UTF-8).

    Raises:
        UserError: the file cannot be written.
    """
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def cache_folder() -> Path:
    """Return the user's folder for what can be made again, such as converted checkpoints; it may not exist."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "siamtrack"
    except RuntimeError:  # nobody knows where home is
        return Path(gettempdir()) / "siamtrack"
