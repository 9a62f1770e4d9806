"""Whether boxes mean what is expected: x, y, w, h from 0. Said, never guessed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from siamtrack.boxes import Boxes, iou
from siamtrack.errors import UserError

Corners = Literal["inclusive", "exclusive"]
CLOSE = 0.05
"""Pixels within which two numbers are the same; tools round to 2 decimals and more."""


@dataclass(frozen=True)
class Coordinates:
    """What the person says about the boxes; None is what is expected, and checked."""

    one_based: bool | None = None
    """Whether the first pixel is 1, 1; None for 0, 0."""
    corners: Corners | None = None
    """Whether boxes are x1, y1, x2, y2, with or without pixel x2, y2; None for x, y, w, h."""

    def convert(self, box: Boxes) -> Boxes:
        """Return a box [4] of a file as x, y, w, h from 0."""
        x, y, w, h = box
        if self.corners:
            more = self.corners == "inclusive"
            w, h = w - x + more, h - y + more
        return np.array([x - bool(self.one_based), y - bool(self.one_based), w, h])


@dataclass(frozen=True)
class FirstBox:
    """A box of a file in the frame whose truth the tracker was given."""

    path: Path
    found: Boxes
    """[4] as it is in the file."""
    truth: Boxes
    """[4] x, y, w, h."""


def check_first_boxes(firsts: Sequence[FirstBox], told: Coordinates) -> None:
    """Check that the first boxes are the truth's.

    Raises:
        UserError: they look like corners, or like counted from 1, and nobody said so; they are said to count from 1
            but do not; or they are elsewhere.
    """
    for first in firsts:
        form = _corners(first)
        if told.corners is None and form:
            raise UserError(
                f"{_both(first)}, so the boxes seem to be corners x1,y1,x2,y2 ({form} of x2,y2); "
                f"give --corners {form} if so"
            )
    if told.one_based is None:
        shifted = [first for first in firsts if _shift(first, told) == 1]
        if shifted:
            raise UserError(
                f"{_both(shifted[0])}, off by exactly 1,1 (so in {len(shifted)} of {len(firsts)} files): do they count "
                "pixels from 1? give --one-based, or --zero-based to take them as they are"
            )
    if told.one_based:
        for first in firsts:
            if _shift(first, told) == 0:
                raise UserError(f"{_both(first)}: that is the same, so it does not count from 1; leave --one-based out")
    for first in firsts:
        if iou(told.convert(first.found), first.truth) < 0.5:
            raise UserError(
                f"{_both(first)}: the tracker was not started there; is it another data set, or another version of it?"
            )


def looks_like_corners(boxes: Boxes, size: tuple[int, int]) -> bool:
    """Return whether most boxes [T, 4] leave the image, but nearly all would be in it if they were corners."""
    x, y, w, h = boxes.T
    width, height = size
    leaves = (x + w > width + 1) | (y + h > height + 1)
    fits = (w > x) & (h > y) & (w <= width + 1) & (h <= height + 1)
    return bool(leaves.mean() > 0.5 and fits.mean() > 0.95)


def _corners(first: FirstBox) -> Corners | None:
    """Return whether a box is the truth's corners, counted from 0 or 1."""
    x, y, w, h = first.truth
    for start in (0, 1):
        for form, less in (("exclusive", 0), ("inclusive", 1)):
            corners = np.array([x, y, x + w - less, y + h - less]) + start
            if np.abs(first.found - corners).max() < CLOSE and np.abs(corners[2:] - (w, h)).max() > 1 + CLOSE:
                return "inclusive" if form == "inclusive" else "exclusive"
    return None


def _shift(first: FirstBox, told: Coordinates) -> int | None:
    """Return by how much, 0 or 1, both x and y are greater than the truth's; None for anything else."""
    difference = Coordinates(None, told.corners).convert(first.found) - first.truth
    for shift in (0, 1):
        if np.abs(difference - (shift, shift, 0, 0)).max() < CLOSE:
            return shift
    return None


def _both(first: FirstBox) -> str:
    found, truth = (",".join(f"{value:g}" for value in np.round(box, 2)) for box in (first.found, first.truth))
    return f"{first.path} starts with the box {found} where the truth (x,y,w,h) is {truth}"
