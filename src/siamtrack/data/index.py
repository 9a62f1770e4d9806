"""The index of training data: pictures, the objects in them, and which objects are the same.

In memory an index is numpy columns, so that millions of objects are light and processes can share them. On disk it is
a Parquet file (:func:`write_index`) with a row a picture.
"""

import json
from array import array
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from siamtrack import files
from siamtrack.data.columns import Names, Texts
from siamtrack.data.pictures import PictureReader, split_mask
from siamtrack.data.records import Object, Picture, Record, Rejection
from siamtrack.errors import UserError, nearest

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pictures(Sequence[Picture]):
    """N pictures by column; a single one is a :class:`siamtrack.data.records.Picture`."""

    image: Texts
    """A file, the name in a tar file, or the number of a frame in a video file."""
    shard: Names
    """The tar or video file, empty for none."""
    source: Names
    """Data set they come from."""
    video: Names
    """Sequence they belong to, empty for a still."""
    frame: Ints
    """[N] number in the sequence."""
    size: Ints
    """[N, 2] width and height."""

    def __len__(self) -> int:
        return len(self.frame)

    @overload
    def __getitem__(self, number: int) -> Picture: ...
    @overload
    def __getitem__(self, number: slice) -> list[Picture]: ...
    def __getitem__(self, number: int | slice) -> Picture | list[Picture]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        width, height = self.size[number].tolist()
        return Picture(
            self.image[number],
            self.shard[number],
            self.source[number],
            self.video[number] or None,
            int(self.frame[number]),
            (width, height),
        )

    def take(self, numbers: NDArray[np.intp]) -> "Pictures":
        """Return the pictures of these numbers."""
        columns = (self.image, self.shard, self.source, self.video)
        image, shard, source, video = (column.take(numbers) for column in columns)
        assert isinstance(image, Texts)
        assert isinstance(shard, Names)
        assert isinstance(source, Names)
        assert isinstance(video, Names)
        return Pictures(image, shard, source, video, self.frame[numbers], self.size[numbers])


@dataclass(frozen=True)
class Index:
    """N pictures and M objects. Objects with the same ``track`` >= 0 are one object in several frames."""

    root: Path
    """What the references in ``pictures`` and ``mask`` are relative to."""
    pictures: Pictures
    picture: Ints
    """[M] which picture an object is in."""
    box: NDArray[np.float32]
    """[M, 4] x, y, w, h in pixels of the picture, 0-based, inside the picture."""
    track: Ints
    """[M] number of the track, -1 for an object of a still."""
    label: Names
    """[M] class of the object, empty where the source does not say."""
    visible: NDArray[np.float32]
    """[M] share of the object that can be seen; 1 where the source does not say, 0.5 where it says "occluded"."""
    mask: Texts
    """[M] where the object's mask is (:mod:`siamtrack.data.pictures`), empty for none."""
    absent: Ints
    """[A, 2] numbers of a picture and of a track that is known to be absent in it."""
    rejected: list[Rejection] = field(default_factory=list)
    """Why records were left out."""

    def __len__(self) -> int:
        return len(self.picture)

    @property
    def size(self) -> Ints:
        """[N, 2] width and height of each picture."""
        return self.pictures.size

    def sources(self) -> list[str]:
        """Return the source of each object."""
        return self.pictures.source.take(self.picture)[:]

    def split(self, held: Sequence[str]) -> tuple["Index", "Index"]:
        """Return the index without, and with only, the sources and videos named in ``held``.

        Raises:
            UserError: a name is neither a source nor a video.
        """
        known = {*self.pictures.source.values, *self.pictures.video.values} - {""}
        for name in held:
            if name not in known:
                raise UserError(f"holdout: there is no source or video {name!r}{nearest(name, known)}")
        named = [name for name in held if name]
        out = (self.pictures.source.among(named) | self.pictures.video.among(named))[self.picture]
        return self.take(np.flatnonzero(~out)), self.take(np.flatnonzero(out))

    def take(self, objects: NDArray[np.intp]) -> "Index":
        """Return the index of these objects alone, with the pictures that they are in."""
        used, picture = np.unique(self.picture[objects], return_inverse=True)
        place = np.full(len(self.pictures), -1)
        place[used] = np.arange(len(used))
        absent = self.absent[(place[self.absent[:, 0]] >= 0) & np.isin(self.absent[:, 1], self.track[objects])]
        return Index(
            self.root,
            self.pictures.take(used),
            picture,
            self.box[objects],
            self.track[objects],
            self.label.take(objects),
            self.visible[objects],
            self.mask.take(objects),
            np.stack([place[absent[:, 0]], absent[:, 1]], 1),
            self.rejected,
        )


class IndexBuilder:
    """Collects the records of sources into an index.

    Boxes are cut to their picture. What cannot be used is left out and listed: pictures that are missing, no images, or
    of another size than their source says; boxes that are empty or outside; masks of another size than their picture. A
    track of one frame becomes an object of a still.

    Args:
        root: folder that references are relative to, where they lie below it.
        check: look at the header of every picture and mask. Without, records must give sizes.
    """

    def __init__(self, root: Path, check: bool = True) -> None:
        self._root, self._check = root, check
        self._reader = PictureReader(root)
        self._header = lru_cache(4096)(self._reader.size)
        self._relative = lru_cache(4096)(self._relative_folder)
        self.rejected: list[Rejection] = []
        self._image, self._mask = _TextList(), _TextList()
        self._shard, self._source, self._video, self._label = (_NameList() for _ in range(4))
        self._frame, self._size = array("q"), array("q")
        self._picture, self._track, self._absent = array("q"), array("q"), array("q")
        self._box, self._visible = array("f"), array("f")
        self._tracks: dict[tuple[str, str, Hashable], int] = {}

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return len(self._frame)

    def reject(self, source: str, where: object, reason: str) -> None:
        """Note that something was left out."""
        self.rejected.append(Rejection(source, str(where), reason))

    def add(self, record: Record, source: str) -> None:
        """Add a picture and its objects."""
        source = record.source or source
        shard = self._reference(record.shard) if record.shard else ""
        image = record.image if isinstance(record.image, str) else self._reference(record.image)
        where = f"{shard}: {image}" if shard else image
        size = self._sized(source, where, shard, image, record.size)
        if size is None:
            return
        number = len(self)
        self._image.append(image)
        self._shard.append(shard)
        self._source.append(source)
        self._video.append(record.video or "")
        self._frame.append(record.frame)
        self._size.extend(size)
        for thing in record.objects:
            if record.shares:
                thing = _in_pixels(thing, size)
            self._add_object(thing, number, size, source, record.video, shard, where)

    def _add_object(
        self, thing: Object, number: int, size: tuple[int, int], source: str, video: str | None, shard: str, where: str
    ) -> None:
        track = -1
        box = None if thing.box is None else _cut(thing.box, size)
        if thing.box is not None and box is None:
            shown = ",".join(f"{value:g}" for value in thing.box)
            self.reject(source, f"{where} {shown}", "box outside the picture, empty or not finite")
            return
        if video and thing.track is not None:
            track = self._tracks.setdefault((source, video, thing.track), len(self._tracks))
        if box is None:
            self._absent.extend((number, track))
            return
        self._picture.append(number)
        self._box.extend(box)
        self._track.append(track)
        self._label.append(thing.label)
        self._visible.append(thing.visible)
        self._mask.append(self._checked_mask(thing.mask, source, where, shard, size))

    def _sized(
        self, source: str, where: str, shard: str, image: str, given: tuple[int, int] | None
    ) -> tuple[int, int] | None:
        """Return the picture's size, None if it cannot be used."""
        if not self._check:
            assert given is not None
            return given
        try:
            size = self._header(shard, image)
            unclear = given is None and not shard and self._reader.turned(image)
        except UserError as error:
            self.reject(source, f"{where} ({error})", "picture missing")
            return None
        if size is None:
            self.reject(source, where, "picture unreadable")
        elif unclear:  # whether boxes were drawn on it as it is stored or as it is shown
            self.reject(source, where, "picture with an EXIF orientation (save it upright)")
        elif given is not None and size != given:
            shown = "{}x{} instead of {}x{}".format(*size, *given)
            self.reject(source, f"{where} ({shown})", "picture of another size than its annotation says")
        else:
            return size
        return None

    def _checked_mask(self, mask: str, source: str, where: str, shard: str, size: tuple[int, int]) -> str:
        """Return the reference to a mask, empty if it cannot be used."""
        if not mask or mask.startswith(("polygon:", "rle:")):
            return mask
        in_tar = shard.endswith(".tar")
        name, number = split_mask(mask)
        name = name if in_tar else self._reference(Path(name))
        if self._check:
            try:
                found = self._header(shard if in_tar else "", name)
            except UserError:
                self.reject(source, f"{where}: {name}", "mask missing (the box is kept)")
                return ""
            if found is None:
                self.reject(source, f"{where}: {name}", "mask unreadable (the box is kept)")
                return ""
            if found != size:
                self.reject(source, f"{where}: {name}", "mask of another size than its picture (the box is kept)")
                return ""
        return f"{name}#{number}" if number else name

    def _reference(self, path: Path) -> str:
        folder = self._relative(path.parent)
        return f"{folder}/{path.name}" if folder else path.name

    def _relative_folder(self, folder: Path) -> str:
        text = (folder.relative_to(self._root) if folder.is_relative_to(self._root) else folder.absolute()).as_posix()
        return "" if text == "." else text

    def build(self) -> Index:
        """Return the index.

        Raises:
            UserError: nothing can be used.
        """
        if not self._track:
            raise UserError(f"there is no usable object{described(self.rejected)}")
        track = np.array(self._track)
        source = self._source.column()
        counts = np.bincount(track[track >= 0], minlength=len(self._tracks))
        names = {number: name for name, number in self._tracks.items()}
        single = np.flatnonzero(counts == 1)
        for number in single.tolist():
            owner, video, name = names[number]
            self.reject(owner, f"{video}/{name}", "track of one frame (kept as a still)")
        track[np.isin(track, single)] = -1
        absent = np.array(self._absent, np.int64).reshape(-1, 2)
        absent = absent[counts[absent[:, 1]] > 1] if len(counts) else absent[:0]
        return Index(
            self._root,
            Pictures(
                self._image.column(),
                self._shard.column(),
                source,
                self._video.column(),
                np.array(self._frame),
                np.array(self._size).reshape(-1, 2),
            ),
            np.array(self._picture),
            np.array(self._box, np.float32).reshape(-1, 4),
            track,
            self._label.column(),
            np.array(self._visible, np.float32),
            self._mask.column(),
            absent,
            self.rejected,
        )


class _TextList:
    """A growing column of strings."""

    def __init__(self) -> None:
        self._content, self._ends = bytearray(), array("q", [0])

    def append(self, text: str) -> None:
        self._content += text.encode()
        self._ends.append(len(self._content))

    def column(self) -> Texts:
        return Texts(np.frombuffer(bytes(self._content), np.uint8), np.array(self._ends))


class _NameList:
    """A growing column of strings of which there are few different ones."""

    def __init__(self) -> None:
        self._codes, self._values = array("i"), dict[str, int]()

    def append(self, text: str) -> None:
        self._codes.append(self._values.setdefault(text, len(self._values)))

    def column(self) -> Names:
        return Names(np.array(self._codes, np.int32), tuple(self._values))


def _cut(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Return the part of ``box`` inside the picture, None if that is less than a pixel or not finite."""
    x, y, w, h = map(float, box)
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, size[0]), min(y + h, size[1])
    usable = np.isfinite((x, y, w, h)).all() and right - left >= 1 and bottom - top >= 1
    return (left, top, right - left, bottom - top) if usable else None


def _in_pixels(thing: Object, size: tuple[int, int]) -> Object:
    """Return an object whose box and polygons are shares of a picture's size in pixels of the picture."""
    width, height = size
    box = thing.box and (thing.box[0] * width, thing.box[1] * height, thing.box[2] * width, thing.box[3] * height)
    mask = thing.mask
    if mask.startswith("polygon:"):
        values = [float(value) for value in mask.removeprefix("polygon:").split(",")]
        corners = [f"{value * (height if number % 2 else width):.6g}" for number, value in enumerate(values)]
        mask = "polygon:" + ",".join(corners)
    return replace(thing, box=box, mask=mask)


def described(rejected: Iterable[Rejection]) -> str:
    """Return the reasons with their numbers as ``: 3 of one, 2 of another``; an empty string for none."""
    counts = Counter[str]()
    for each in rejected:
        counts[each.reason] += each.count
    return "".join([": ", ", ".join(f"{number} {reason}" for reason, number in counts.most_common())]) if counts else ""


def read_index(path: Path) -> Index:
    """Read an index: a Parquet file (``siamtrack data index``), or a folder of ``index.jsonl`` and tar files.

    Raises:
        UserError: there is no such index, it is damaged, or nothing in it can be used.
    """
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    from siamtrack.data.sources.jsonl import read_jsonl

    builder = IndexBuilder(path, check=False)
    for item in read_jsonl(path):
        if isinstance(item, Rejection):
            builder.rejected.append(item)
        else:
            builder.add(item, "")
    try:
        return builder.build()
    except UserError as error:
        raise UserError(f"{path / 'index.jsonl'}: {error}") from None


_VERSION = 1


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError("an index in Parquet needs pyarrow; pip install 'siamtrack[train]'") from None
    return pyarrow, parquet


def write_index(index: Index, path: Path) -> None:
    """Write an index as a Parquet file, atomically.

    A row is a picture: image, shard, source, video (dictionaries), frame, width, height, and ``objects``, a list of
    track (-1 in a still), label, x, y, w, h (all null where the track is known to be absent), visible, mask. References
    are relative to the file's folder where they lie below it.

    Raises:
        UserError: pyarrow is not installed, or the file cannot be written.
    """
    pa, parquet = _parquet()
    if path.parent.absolute() != index.root.absolute():
        raise UserError(f"an index of {index.root} must be written there, not to {path}: references are relative to it")
    pictures = index.pictures

    def texts(column: Texts) -> Any:
        buffers = [None, pa.py_buffer(column.ends), pa.py_buffer(column.content)]
        return pa.Array.from_buffers(pa.large_utf8(), len(column), buffers)

    def names(column: Names) -> Any:
        return pa.DictionaryArray.from_arrays(pa.array(column.codes), pa.array(list(column.values), pa.utf8()))

    # Objects and absences in the order of their pictures.
    owner = np.concatenate([index.picture, index.absent[:, 0]])
    order = np.argsort(owner, kind="stable")
    gone = order >= len(index)
    present = np.where(gone, 0, order)
    track = np.concatenate([index.track, index.absent[:, 1]])[order]
    columns = {
        "track": pa.array(track),
        "label": names(index.label.take(present)),
        **{axis: pa.array(index.box[present, number], mask=gone) for number, axis in enumerate("xywh")},
        "visible": pa.array(index.visible[present], mask=gone),
        "mask": texts(index.mask.take(present)),
    }
    objects = pa.StructArray.from_arrays(list(columns.values()), list(columns))
    offsets = np.searchsorted(owner[order], np.arange(len(pictures) + 1))
    table = pa.table(
        {
            "image": texts(pictures.image),
            "shard": names(pictures.shard),
            "source": names(pictures.source),
            "video": names(pictures.video),
            "frame": pictures.frame,
            "width": pictures.size[:, 0].astype(np.int32),
            "height": pictures.size[:, 1].astype(np.int32),
            "objects": pa.LargeListArray.from_arrays(pa.array(offsets), objects),
        }
    )
    facts = {"version": _VERSION, "rejected": [astuple(each) for each in summed(index.rejected)]}
    table = table.replace_schema_metadata({"siamtrack": json.dumps(facts)})
    with files.atomic(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd")


def summed(rejected: Iterable[Rejection]) -> list[Rejection]:
    """Return one of each source and reason, with their number."""
    summed: dict[tuple[str, str], Rejection] = {}
    for each in rejected:
        key = each.source, each.reason
        found = summed.get(key)
        summed[key] = each if found is None else replace(found, count=found.count + each.count)
    return list(summed.values())


def _read_parquet(path: Path) -> Index:
    pa, parquet = _parquet()
    if not path.is_file():
        raise UserError(f"there is no {path}; 'siamtrack data index' makes one")
    try:
        table = parquet.read_table(path).combine_chunks()
        facts = json.loads((table.schema.metadata or {})[b"siamtrack"])
        if facts["version"] != _VERSION:
            raise UserError(f"{path} has version {facts['version']} and this siamtrack reads {_VERSION}; index again")
        columns = {name: table[name].chunk(0) for name in table.column_names}
        lists = columns["objects"]
        things = dict(zip((each.name for each in lists.type.value_type), lists.flatten().flatten(), strict=True))
        return _index(path, columns, things, np.asarray(lists.offsets), [Rejection(*r) for r in facts["rejected"]])
    except (pa.ArrowException, KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is no index of siamtrack ({type(error).__name__} {error})") from None


def _index(path: Path, columns: dict[str, Any], things: dict[str, Any], ends: Ints, rejected: list[Rejection]) -> Index:
    def texts(column: Any) -> Texts:
        column = column.cast("large_string")
        _, ends, content = column.buffers()
        where = np.frombuffer(ends, np.int64)[column.offset : column.offset + len(column) + 1]
        return Texts(np.frombuffer(content or b"", np.uint8), where)

    def names(column: Any) -> Names:
        encoded = column.dictionary_encode() if not hasattr(column, "dictionary") else column
        return Names(np.asarray(encoded.indices, np.int32), tuple(encoded.dictionary.to_pylist()))

    owner = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    boxes = np.stack([things[axis].fill_null(np.nan).to_numpy(zero_copy_only=False) for axis in "xywh"], 1)
    track = things["track"].to_numpy()
    here = np.flatnonzero(np.isfinite(boxes[:, 0]))
    gone = np.flatnonzero(np.isnan(boxes[:, 0]))
    return Index(
        path.parent,
        Pictures(
            texts(columns["image"]),
            names(columns["shard"]),
            names(columns["source"]),
            names(columns["video"]),
            columns["frame"].to_numpy(),
            np.stack([columns["width"], columns["height"]], 1).astype(np.int64),
        ),
        owner[here],
        boxes[here].astype(np.float32),
        track[here],
        names(things["label"]).take(here),
        things["visible"].fill_null(1).to_numpy(zero_copy_only=False)[here].astype(np.float32),
        texts(things["mask"]).take(here),
        np.stack([owner[gone], track[gone]], 1),
        rejected,
    )
