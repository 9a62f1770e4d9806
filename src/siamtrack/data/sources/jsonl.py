"""A folder of ``index.jsonl`` and the tar files that it names."""

import json
from collections.abc import Iterator
from pathlib import Path

from siamtrack.data.records import Object, Record, Rejection
from siamtrack.errors import UserError


def read_jsonl(root: Path) -> Iterator[Record | Rejection]:
    """Yield the pictures of ``index.jsonl``, a line each.

    ``{"image", "shard", "source", "video", "frame", "size": [w, h], "objects": [..]}`` with objects
    ``{"box": [x, y, w, h], "track", "label", "mask"}``; ``image`` and ``mask`` are names in the tar file ``shard``.

    Raises:
        UserError: there is no such file.
    """
    path = root / "index.jsonl"
    if not path.is_file():
        raise UserError(
            f"there is no {path}; training data is a folder of index.jsonl and the tar files that it names, or an "
            ".parquet index that 'siamtrack data index' made"
        )
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(path.open(encoding="utf-8"), 1):
        where, source = f"{path.name} line {number}", root.name
        try:
            values = json.loads(line)
            width, height = values["size"]
            source = str(values["source"])
            record = Record(
                str(values["image"]),
                [_object(each) for each in values["objects"]],
                values.get("video"),
                int(values.get("frame") or 0),
                (int(width), int(height)),
                root / values["shard"],
                source=source,
            )
        except (ValueError, KeyError, TypeError) as error:
            yield Rejection(source, f"{where} ({type(error).__name__} {error})", "damaged line")
            continue
        name = values["shard"], values["image"]
        if name in seen:
            yield Rejection(source, f"{where}: {values['image']}", "listed before")
            continue
        seen.add(name)
        yield record


def _object(values: dict[str, object]) -> Object:
    x, y, w, h = map(float, values["box"])  # type: ignore[call-overload]
    track, label, mask = (values.get(key) for key in ("track", "label", "mask"))
    return Object((x, y, w, h), None if track is None else str(track), str(label or ""), mask=str(mask or ""))
