"""Data sets in their published layouts: a file a family, and all of them by name.

A reader is a function from the data set's root folder to the names of its sequences and functions that read them. It
reads annotations, never images, and says which file it looked for and where when one is missing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from siamtrack.errors import UserError, nearest
from siamtrack.evaluate.datasets.dtb70 import read_dtb70
from siamtrack.evaluate.datasets.folder import read_folder
from siamtrack.evaluate.datasets.got10k import read_got10k
from siamtrack.evaluate.datasets.lasot import read_lasot, read_lasot_ext
from siamtrack.evaluate.datasets.nfs import read_nfs
from siamtrack.evaluate.datasets.otb import OTB50, OTB2013, read_otb
from siamtrack.evaluate.datasets.pysot import read_pysot
from siamtrack.evaluate.datasets.tc128 import read_tc128
from siamtrack.evaluate.datasets.trackingnet import read_trackingnet
from siamtrack.evaluate.datasets.uav import UAV20L, read_uav
from siamtrack.evaluate.datasets.vos import read_davis2016, read_davis2017, read_segtrack2, read_youtubevos
from siamtrack.evaluate.datasets.vot import read_vot, read_votlt
from siamtrack.evaluate.sequences import Readable, Sequence


@dataclass(frozen=True)
class Dataset:
    """Sequences, and how they are evaluated unless one asks for something else."""

    name: str
    sequences: tuple[Sequence, ...]
    protocol: str = "one-pass"
    """A key of ``siamtrack.evaluate.protocols.PROTOCOLS``."""


@dataclass(frozen=True)
class Reader:
    """How a data set is read."""

    read: Callable[[Path], Readable]
    """From the root folder to the name of each sequence and the function that reads it."""
    protocol: str = "one-pass"
    marks: tuple[str, ...] = ()
    """Patterns below the root, one of which matches in a complete copy of this data set and, of data sets of another
    family, in none; to tell which data set a folder holds."""


_OTB = ("CarDark/groundtruth_rect.txt",)
_LT = ("ballet/groundtruth.txt",)

READERS: dict[str, Reader] = {
    "folder": Reader(read_folder),
    "otb2013": Reader(partial(read_otb, chosen=OTB2013), marks=_OTB),
    "otb50": Reader(partial(read_otb, chosen=OTB50), marks=_OTB),
    "otb100": Reader(read_otb, marks=_OTB),
    "uav123": Reader(read_uav, marks=("anno/UAV123/*.txt",)),
    "uav20l": Reader(partial(read_uav, name="UAV20L", segments=UAV20L), marks=("anno/UAV20L/*.txt",)),
    "nfs30": Reader(partial(read_nfs, rate=30), marks=("*/30/*.txt",)),
    "nfs240": Reader(partial(read_nfs, rate=240), marks=("*/240/*.txt",)),
    "tc128": Reader(read_tc128, marks=("*/*_frames.txt",)),
    "dtb70": Reader(read_dtb70, marks=("ChasingDrones/groundtruth_rect.txt",)),
    "lasot": Reader(read_lasot, marks=("airplane/airplane-1", "airplane-1/groundtruth.txt", "testing_set.txt")),
    "lasot_ext": Reader(read_lasot_ext, marks=("atv/atv-1", "atv-1/groundtruth.txt")),
    "got10k": Reader(partial(read_got10k, split="val"), "got10k", marks=("val/list.txt", "GOT-10k_Val_*")),
    "got10k-test": Reader(partial(read_got10k, split="test"), "got10k", marks=("test/list.txt", "GOT-10k_Test_*")),
    "trackingnet": Reader(partial(read_trackingnet, split="TEST"), marks=("TEST/anno", "frames")),
    "trackingnet-train": Reader(partial(read_trackingnet, split="TRAIN_*"), marks=("TRAIN_*/anno", "frames")),
    # The data of 2015 and 2016 differ in boxes only, those of 2017 and 2018 not at all, of 2020 to 2022 in few videos.
    "vot2013": Reader(partial(read_vot, year=2013), "supervised", marks=("juice/groundtruth.txt",)),
    "vot2014": Reader(partial(read_vot, year=2014), "supervised", marks=("drunk/groundtruth.txt",)),
    "vot2015": Reader(partial(read_vot, year=2015), "supervised", marks=("octopus/groundtruth.txt",)),
    "vot2016": Reader(partial(read_vot, year=2016), "supervised", marks=("octopus/groundtruth.txt",)),
    "vot2017": Reader(partial(read_vot, year=2017), "supervised", marks=("ants3/groundtruth.txt",)),
    "vot2018": Reader(partial(read_vot, year=2018), "supervised", marks=("ants3/groundtruth.txt",)),
    "vot2019": Reader(partial(read_vot, year=2019), "supervised", marks=("agility/groundtruth.txt",)),
    "vot2020": Reader(partial(read_vot, year=2020), "multi-start", marks=("agility/anchor.value",)),
    "vot2021": Reader(partial(read_vot, year=2021), "multi-start", marks=("agility/anchor.value",)),
    "vot2022": Reader(partial(read_vot, year=2022), "multi-start", marks=("agility/anchor.value",)),
    "votlt2018": Reader(partial(read_votlt, name="votlt2018"), "long-term", marks=_LT),
    "votlt2019": Reader(partial(read_votlt, name="votlt2019"), "long-term", marks=_LT),
    "davis2016": Reader(read_davis2016, "vos", marks=("ImageSets/480p/val.txt", "ImageSets/2016/val.txt")),
    "davis2017": Reader(read_davis2017, "vos", marks=("ImageSets/2017/val.txt",)),
    "youtubevos": Reader(read_youtubevos, "vos", marks=("meta.json", "valid/meta.json")),
    "segtrack2": Reader(read_segtrack2, "vos", marks=("GroundTruth",)),
    "pysot": Reader(read_pysot),
}
"""The data sets by name, lower case."""


def read_dataset(name: str, root: Path, only: tuple[str, ...] = (), frames: int | None = None) -> Dataset:
    """Return a data set. Only the sequences asked for are read, and need to be there.

    Args:
        name: a key of :data:`READERS`, in any case.
        root: the folder that the data set was unpacked to (for pysot also the JSON file).
        only: names of sequences; empty for all.
        frames: at most so many frames of each sequence.

    Raises:
        UserError: the name is unknown, the folder is not such a data set, or it has no sequence of a name in ``only``.
    """
    reader = READERS.get(name.lower())
    if reader is None:
        raise UserError(f"unknown data set {name!r}{nearest(name, READERS)}; known are {', '.join(READERS)}")
    if not root.is_dir() and not (reader.read is read_pysot and root.is_file()):
        raise UserError(f"there is no folder {root}")
    others = [] if _marked(reader, root) else [other for other, each in READERS.items() if _marked(each, root)]
    looks = f"it looks like {' or '.join(others)}"
    if reader.marks and others:
        looked = " or ".join(str(root / mark) for mark in reader.marks)
        raise UserError(f"{root} is not {name.lower()}: {looks} (looked for {looked})")
    try:
        readable = reader.read(root)
        missing = set(only) - set(readable)
        if missing:
            raise UserError(f"{root} has no sequence {min(missing)!r}{nearest(min(missing), readable)}")
        chosen = [read().first(frames) for each, read in readable.items() if not only or each in only]
    except UserError as error:
        raise UserError(f"{error}; {looks}" if others else str(error)) from None
    return Dataset(name.lower(), tuple(chosen), reader.protocol)


def _marked(reader: Reader, root: Path) -> bool:
    return any(next(root.glob(mark), None) is not None for mark in reader.marks)


__all__ = ["READERS", "Dataset", "Reader", "read_dataset"]
