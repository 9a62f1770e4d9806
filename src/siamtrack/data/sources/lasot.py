"""LaSOT (Fan et al., CVPR 2019): ``CLASS/CLASS-N/`` with ``img/``, ``groundtruth.txt``, ``full_occlusion.txt`` and
``out_of_view.txt``.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from siamtrack.data import layout
from siamtrack.data.records import Record, Rejection
from siamtrack.data.sources.tracks import one_object, sequences
from siamtrack.errors import UserError

_TEST = """
airplane-1,9,13,15 basketball-1,6,7,11 bear-2,4,6,17 bicycle-2,7,9,18 bird-2,3,15,17 boat-3,4,12,17 book-3,10,11,19
bottle-1,12,14,18 bus-2,5,17,19 car-2,6,9,17 cat-1,3,18,20 cattle-2,7,12,13 spider-14,16,18,20 coin-3,6,7,18
crab-3,6,12,18 surfboard-12,4,5,8 cup-1,4,7,17 deer-4,8,10,14 dog-1,7,15,19 guitar-3,8,10,16 person-1,5,10,12
pig-2,10,13,18 rubicCube-1,6,14,19 swing-10,14,17,20 drone-13,15,2,7 pool-12,15,3,7 rabbit-10,13,17,19
racing-10,15,16,20 robot-1,19,5,8 sepia-13,16,6,8 sheep-3,5,7,9 skateboard-16,19,3,8 tank-14,16,6,9 tiger-12,18,4,6
train-1,11,20,7 truck-16,3,6,7 turtle-16,5,8,9 umbrella-17,19,2,9 yoyo-15,17,19,7 zebra-10,14,16,17
elephant-1,12,16,18 goldfish-3,7,8,10 hat-1,2,5,18 kite-4,6,10,15 motorcycle-1,3,9,18 mouse-1,8,9,17 flag-3,9,5,2
frog-3,4,20,9 gametarget-1,2,7,13 hand-2,3,9,16 helmet-5,11,19,13 licenseplate-6,12,13,15 electricfan-1,10,18,20
chameleon-3,6,11,20 crocodile-3,4,10,14 gecko-1,5,16,19 fox-2,3,5,20 giraffe-2,10,13,15 gorilla-4,6,9,13
hippo-1,7,9,20 horse-1,4,12,15 kangaroo-2,5,11,14 leopard-1,7,16,20 lion-1,5,12,20 lizard-1,3,6,13
microphone-2,6,14,16 monkey-3,4,9,17 shark-2,3,5,6 squirrel-8,11,13,19 volleyball-1,13,18,19
"""
TEST = tuple(
    f"{category}-{number}"
    for category, numbers in (part.split("-") for part in _TEST.split())
    for number in numbers.split(",")
)
"""The 280 test sequences of protocol II."""


def read_lasot(root: Path) -> Iterator[Record | Rejection]:
    """Yield the frames of all sequences but those for testing: of ``testing_set.txt``, else of the published list.

    Corners count from 1. A fully occluded object, or one out of view, is absent.

    Raises:
        UserError: there are no sequences.
    """
    listed = root / "testing_set.txt"
    test = set(layout.lines(listed, "LaSOT") if listed.is_file() else TEST)
    found = [path.parent for pattern in ("*/*-*", "*-*") for path in root.glob(f"{pattern}/groundtruth.txt")]
    if not found:
        raise UserError(f"LaSOT: looked for CLASS/CLASS-1/groundtruth.txt in {root} and found none")
    folders = sorted({folder for folder in found if folder.name not in test})
    if not folders:
        raise UserError(f"LaSOT: all {len(found)} sequences in {root} are for testing and must not be trained on")
    yield from sequences("lasot", folders, _read)


def _read(folder: Path) -> Iterator[Record]:
    what = f"sequence {folder.name}"
    truth = folder / "groundtruth.txt"
    boxes = layout.table(truth, what, 4)
    paths = layout.images(folder / "img", what)
    layout.same_length(what, len(paths), len(boxes), truth)
    flags = [folder / name for name in ("full_occlusion.txt", "out_of_view.txt")]
    absent = np.any([layout.flags(path, what, len(boxes)) for path in flags], axis=0)
    label = folder.name.rpartition("-")[0]
    return one_object(folder.name, paths, layout.zero_based(boxes), absent, label)
