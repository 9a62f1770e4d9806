"""Training data in its published layouts: a file a family, and all of them by name.

A reader is a function from a source's folder to its records (:mod:`siamtrack.data.records`). It reads annotations; the
pictures themselves are looked at by :class:`siamtrack.data.index.IndexBuilder`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from siamtrack.data.index import IndexBuilder
from siamtrack.data.records import Record, Rejection
from siamtrack.data.sources.coco import read_coco
from siamtrack.data.sources.crop511 import read_crop511
from siamtrack.data.sources.got10k import read_got10k
from siamtrack.data.sources.imagenet import read_det, read_vid
from siamtrack.data.sources.jsonl import read_jsonl
from siamtrack.data.sources.lasot import read_lasot
from siamtrack.data.sources.trackingnet import read_trackingnet
from siamtrack.data.sources.videos import read_mot, read_siamtrack
from siamtrack.data.sources.voc import read_voc
from siamtrack.data.sources.vos import read_davis, read_youtubevos
from siamtrack.data.sources.yolo import read_yolo
from siamtrack.data.sources.ytbb import read_ytbb
from siamtrack.errors import UserError, nearest


@dataclass(frozen=True)
class Source:
    """How a source is read."""

    read: Callable[[Path], Iterator[Record | Rejection]]
    """From its folder to its records. Raises UserError if the folder is laid out otherwise."""
    marks: tuple[str, ...]
    """Patterns below the folder of which one matches in this source, to tell which one a folder holds."""


SOURCES: dict[str, Source] = {
    "vid": Source(read_vid, ("Annotations/VID", "ILSVRC*/Annotations/VID")),
    "det": Source(read_det, ("Annotations/DET", "ILSVRC*/Annotations/DET")),
    "coco": Source(read_coco, ("annotations/instances_*.json", "_annotations.coco.json", "*/_annotations.coco.json")),
    "ytbb": Source(read_ytbb, ("yt_bb_detection_*.csv*",)),
    "got10k": Source(read_got10k, ("train/list.txt", "list.txt")),
    "lasot": Source(read_lasot, ("*-*/full_occlusion.txt", "*/*-*/full_occlusion.txt")),
    "trackingnet": Source(read_trackingnet, ("TRAIN_*/anno", "anno/*.txt")),
    "youtubevos": Source(read_youtubevos, ("train/meta.json", "meta.json")),
    "davis": Source(read_davis, ("ImageSets/2017/train.txt", "ImageSets/2016/train.txt", "ImageSets/480p/train.txt")),
    "voc": Source(read_voc, ("VOCdevkit/VOC*/Annotations", "VOC*/Annotations", "ImageSets/Main")),
    "crop511": Source(read_crop511, ("crop511", "*/*.x.jpg", "*/*/*.x.jpg")),
    "siamtrack": Source(read_siamtrack, ("*.boxes.jsonl", "*.boxes.csv")),
    "mot": Source(read_mot, ("gt/gt.txt", "*/gt/gt.txt", "*/*/gt/gt.txt")),
    "yolo": Source(read_yolo, ("labels", "*/labels", "obj.names")),
    "jsonl": Source(read_jsonl, ("index.jsonl",)),
}
"""The sources by name, lower case."""


@dataclass(frozen=True)
class Wanted:
    """A source that is asked for."""

    kind: str
    """A key of :data:`SOURCES`."""
    name: str
    """What it is called in the index."""
    folder: Path


def wanted(kind: str, folder: Path) -> Wanted:
    """Return the source of a kind, or of ``KIND:NAME``, in a folder.

    Raises:
        UserError: there is no such kind or folder.
    """
    kind, _, name = kind.partition(":")
    known = kind.lower()
    if known not in SOURCES:
        raise UserError(f"unknown source {kind!r}{nearest(kind, SOURCES)}; known are {', '.join(SOURCES)}")
    if not folder.is_dir():
        raise UserError(f"{known}: there is no folder {folder}")
    return Wanted(known, name or known, folder.absolute())


def add_source(builder: IndexBuilder, source: Wanted) -> Iterator[int]:
    """Add the records of a source to an index; yields the number of pictures now and then.

    Raises:
        UserError: the folder is laid out otherwise; the message says which file was looked for and, if the folder looks
            like another source, which.
    """
    known = SOURCES[source.kind]
    try:
        for item in known.read(source.folder):
            if isinstance(item, Rejection):
                builder.rejected.append(item if source.kind == "jsonl" else replace(item, source=source.name))
            else:
                builder.add(item, source.name)
                if len(builder) % 100 == 0:
                    yield len(builder)
    except UserError as error:
        others = [name for name, each in SOURCES.items() if _marked(each, source.folder)]
        looks = f"; it looks like {' or '.join(others)}" if others and source.kind not in others else ""
        raise UserError(f"{error}{looks}") from None


def _marked(source: Source, folder: Path) -> bool:
    return any(next(folder.glob(mark), None) is not None for mark in source.marks)


__all__ = ["SOURCES", "Source", "Wanted", "add_source", "wanted"]
