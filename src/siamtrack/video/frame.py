"""A frame of a source, and points in a source: frame numbers and times."""

import re
from dataclasses import dataclass

from siamtrack.errors import UserError
from siamtrack.video.image import Image

Moment = int | float
"""A point in a source: an int is the number of a frame, a float a time in seconds."""


@dataclass(frozen=True)
class VideoFrame:
    """One frame."""

    index: int
    """Number in the source, 0-based."""
    time: float | None
    """Seconds since the source's first frame; None for frames that come from no source."""
    image: Image
    """[H, W, 3] uint8 BGR."""


def parse_moment(text: str) -> Moment:
    """Return the frame number or time in a text: ``120`` is a frame; ``4.5``, ``4.5s`` and ``1:02.5`` are times.

    Raises:
        UserError: none of these.
    """
    if text.isdecimal():
        return int(text)
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)s?", text)
    if not match:
        raise UserError(f"{text!r} is neither a frame number (120) nor a time (4.5s, 1:02.5, 1:00:00)")
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)


def reached(moment: Moment, index: int, time: float | None) -> bool:
    """Return whether a frame, by its number and its time in seconds, is at ``moment`` or after it."""
    # Half a millisecond of tolerance: time stamps are rounded to the container's time base.
    return index >= moment if isinstance(moment, int) else (time or 0) >= moment - 0.0005


def shown(moment: Moment | None) -> str:
    """Return a moment as text for a message."""
    if moment is None:
        return "(none)"
    return f"frame {moment}" if isinstance(moment, int) else f"{moment:g} s"
