"""OTB-2013, OTB-50 and OTB-100 (Wu et al., CVPR 2013, PAMI 2015): ``NAME/img/0001.jpg``, ``NAME/groundtruth_rect.txt``.

Names, frame ranges and attributes are those of the authors' benchmark code (github.com/jwlim/tracker_benchmark,
MakeSequenceConfigVer10.m and 11.m); the data set's web page lists other attributes for 14 sequences.
"""

from functools import partial
from pathlib import Path

from siamtrack.data import layout
from siamtrack.evaluate.sequences import Readable, Sequence

_ATTRIBUTES = """
Basketball: IV OPR OCC DEF BC; Biker: OPR SV OCC MB FM OV LR; Bird1: DEF FM OV; Bird2: OPR OCC DEF FM IPR; BlurBody:
SV DEF MB FM IPR; BlurCar1: MB FM; BlurCar2: SV MB FM; BlurCar3: MB FM; BlurCar4: MB FM; BlurFace: MB FM IPR;
BlurOwl: SV MB FM IPR; Board: OPR SV MB FM OV BC; Bolt: OPR OCC DEF IPR; Bolt2: DEF BC; Box: IV OPR SV OCC MB IPR OV
BC; Boy: OPR SV MB FM IPR; Car1: IV SV BC LR; Car2: IV BC; Car24: IV SV BC; Car4: IV SV; CarDark: IV BC; CarScale:
OPR SV OCC FM IPR; ClifBar: SV OCC MB FM IPR OV BC; Coke: IV OPR OCC FM IPR; Couple: OPR SV DEF FM BC; Coupon: OCC
BC; Crossing: SV DEF BC; Crowds: IV DEF BC; Dancer: OPR SV DEF IPR; Dancer2: DEF; David: IV OPR SV OCC DEF MB IPR;
David2: OPR IPR; David3: OPR OCC DEF BC; Deer: MB FM IPR BC; Diving: SV DEF IPR; Dog: OPR SV DEF; Dog1: OPR SV IPR;
Doll: IV OPR SV OCC IPR; DragonBaby: OPR SV OCC MB FM IPR OV; Dudek: OPR SV OCC DEF FM IPR OV BC; FaceOcc1: OCC;
FaceOcc2: IV OPR OCC IPR; Fish: IV; FleetFace: OPR SV DEF MB FM IPR; Football: OPR OCC IPR BC; Football1: OPR IPR
BC; Freeman1: OPR SV IPR; Freeman3: OPR SV IPR LR; Freeman4: OPR SV OCC IPR LR; Girl: OPR SV OCC IPR; Girl2: OPR SV
OCC DEF MB; Gym: OPR SV DEF IPR; Human2: IV OPR SV MB; Human3: OPR SV OCC DEF BC; Human4-2: IV SV OCC DEF; Human5:
SV OCC DEF; Human6: OPR SV OCC DEF FM OV; Human7: IV SV OCC DEF MB FM; Human8: IV SV DEF; Human9: IV SV DEF MB FM;
Ironman: IV OPR SV OCC MB FM IPR OV BC; Jogging-1: OPR OCC DEF; Jogging-2: OPR OCC DEF; Jump: OPR SV OCC DEF MB IPR;
Jumping: MB FM; KiteSurf: IV OPR OCC IPR; Lemming: IV OPR SV OCC FM OV; Liquor: IV OPR SV OCC MB FM OV BC; Man: IV;
Matrix: IV OPR SV OCC FM IPR BC; Mhyang: IV OPR DEF BC; MotorRolling: IV SV MB FM IPR BC; MountainBike: OPR IPR BC;
Panda: OPR SV OCC DEF IPR OV LR; RedTeam: OPR SV OCC IPR LR; Rubik: OPR SV OCC IPR; Shaking: IV OPR SV IPR BC;
Singer1: IV OPR SV OCC; Singer2: IV OPR DEF IPR BC; Skater: OPR SV DEF IPR; Skater2: OPR SV DEF FM IPR; Skating1: IV
OPR SV OCC DEF BC; Skating2-1: OPR SV OCC DEF FM; Skating2-2: OPR SV OCC DEF FM; Skiing: IV OPR SV DEF IPR LR;
Soccer: IV OPR SV OCC MB FM IPR BC; Subway: OCC DEF BC; Surfer: OPR SV FM IPR LR; Suv: OCC IPR OV; Sylvester: IV OPR
IPR; Tiger1: IV OPR OCC DEF MB FM IPR; Tiger2: IV OPR OCC DEF MB FM IPR OV; Toy: OPR SV FM IPR; Trans: IV SV OCC
DEF; Trellis: IV OPR SV IPR BC; Twinnings: OPR SV; Vase: SV FM IPR; Walking: SV OCC DEF LR; Walking2: SV OCC; Woman:
IV OPR SV OCC DEF MB FM
"""
"""IV illumination variation, SV scale variation, OCC occlusion, DEF deformation, MB motion blur, FM fast motion, IPR
and OPR in-plane and out-of-plane rotation, OV out of view, BC background clutter, LR low resolution."""

ATTRIBUTES = {
    name: frozenset(labels.split())
    for name, labels in (cell.split(":") for cell in " ".join(_ATTRIBUTES.split()).split("; "))
}
"""OTB-100 in order; the name of one of several objects ends in its number."""

_OTB2013 = """
Basketball Bolt Boy Car4 CarDark CarScale Coke Couple Crossing David David2 David3 Deer Dog1 Doll Dudek FaceOcc1
FaceOcc2 Fish FleetFace Football Football1 Freeman1 Freeman3 Freeman4 Girl Ironman Jogging-1 Jogging-2 Jumping
Lemming Liquor Matrix Mhyang MotorRolling MountainBike Shaking Singer1 Singer2 Skating1 Skiing Soccer Subway Suv
Sylvester Tiger1 Tiger2 Trellis Walking Walking2 Woman
"""
_OTB50 = """
Basketball Biker Bird1 BlurBody BlurCar2 BlurFace BlurOwl Bolt Box Car1 Car4 CarDark CarScale ClifBar Couple Crowds
David Deer Diving DragonBaby Dudek Football Freeman4 Girl Human3 Human4-2 Human6 Human9 Ironman Jump Jumping Liquor
Matrix MotorRolling Panda RedTeam Shaking Singer2 Skating1 Skating2-1 Skating2-2 Skiing Soccer Surfer Sylvester
Tiger2 Trellis Walking Walking2 Woman
"""
OTB2013, OTB50 = frozenset(_OTB2013.split()), frozenset(_OTB50.split())

OBJECTS = {"Jogging-1", "Jogging-2", "Skating2-1", "Skating2-2", "Human4-2"}
"""Sequences whose truth is ``groundtruth_rect.N.txt`` in the folder of their name without ``-N``."""

RANGES = {
    "David": (300, 770),
    "Diving": (1, 215),
    "Football1": (1, 74),
    "Freeman3": (1, 460),
    "Freeman4": (1, 283),
}
"""First and last image of the sequences with images that are not annotated. The images of BlurCar1, 3 and 4 begin at
number 247, 3 and 18, and are all annotated."""


def read_otb(root: Path, chosen: frozenset[str] = frozenset(ATTRIBUTES)) -> Readable:
    """Return the sequences of OTB-100 in ``chosen``."""
    return {name: partial(_read, root, name) for name in ATTRIBUTES if name in chosen}


def _read(root: Path, name: str) -> Sequence:
    what = f"sequence {name}"
    video, _, target = name.rpartition("-") if name in OBJECTS else (name, "", "")
    folder = layout.folder(root / video, what)
    truth = folder / ("groundtruth_rect." + (f"{target}.txt" if target else "txt"))
    boxes = layout.table(truth, what, 4)
    paths = layout.images(folder / "img", what)
    if name in RANGES:
        first, last = RANGES[name]
        paths = [path for path in paths if first <= layout.number(path) <= last]
    layout.same_length(what, len(paths), len(boxes), truth)
    return Sequence(
        name, tuple(paths), layout.zero_based(layout.started(what, boxes, truth)), attributes=ATTRIBUTES[name]
    )
