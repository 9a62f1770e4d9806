"""A workspace of the VOT toolkit in which siamtrack's models are trackers.

The toolkit (GPL, with an OpenCV of its own) is never imported: it lives in a virtual environment of its own and starts
``siamtrack trax`` in this one.
"""

import configparser
import io
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from siamtrack.errors import UserError
from siamtrack.files import write_text


def write_workspace(folder: Path, stack: str, sequences: Path | None, trackers: Mapping[str, list[str]]) -> None:
    """Create a workspace, or add trackers to one; a tracker that it had under the same name is replaced.

    Args:
        folder: where it will be.
        stack: name of a stack of the toolkit, such as ``vot2022/shortterm``, or a YAML file.
        sequences: the folder of sequences in VOT's layout (with ``list.txt``); None for ``sequences`` in the
            workspace, to which the toolkit downloads the stack's data set.
        trackers: name to the arguments of ``siamtrack trax``.

    Raises:
        UserError: the workspace has another stack or other sequences, the folder of sequences is none, or a file
            cannot be written.
    """
    if sequences and not (sequences / "list.txt").is_file():
        raise UserError(f"{sequences} holds no sequences in VOT's layout: there is no file {sequences / 'list.txt'}")
    if stack.endswith((".yaml", ".yml")):
        if not Path(stack).is_file():
            raise UserError(f"there is no stack {stack}")
        stack = str(Path(stack).resolve())
    values = {
        "registry": ["./trackers.ini"],
        "stack": stack,
        "sequences": str(sequences.resolve()) if sequences else "sequences",
    }
    config, registry = folder / "config.yaml", folder / "trackers.ini"
    try:
        for name in ("sequences", "results"):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create {folder}: {error.strerror}") from None
    if config.is_file():
        before = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
        for key in ("stack", "sequences"):
            if before.get(key, "sequences") != values[key]:
                raise UserError(
                    f"{config} has {key} {before.get(key)!r}, but {values[key]!r} was asked for; choose another folder"
                )
    else:
        write_text(config, yaml.safe_dump(values, sort_keys=False))
    parser = configparser.ConfigParser()
    parser.read(registry, encoding="utf-8")
    for name, arguments in trackers.items():
        parser[name] = {
            "label": name,
            "protocol": "trax",
            "command": _command(arguments).replace("%", "%%"),
            "timeout": "300",  # a frame may load the model first
        }
    text = io.StringIO()
    parser.write(text)
    write_text(registry, text.getvalue())


def tracker_name(model: str) -> str:
    """Return what a model, or a file of weights, is called in a workspace: letters, digits, _ and - only."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", Path(model).stem if "/" in model or "." in model else model)


def _command(arguments: Iterable[str]) -> str:
    return shlex.join([sys.executable, "-m", "siamtrack", "trax", *arguments])
