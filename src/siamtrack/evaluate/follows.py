"""What evaluation needs of a tracker."""

from typing import Protocol

from siamtrack.boxes import Boxes
from siamtrack.tracking.state import TrackResult
from siamtrack.video.image import Image


class FollowsOne(Protocol):
    """A tracker of one object: siamtrack's and OpenCV's have this form."""

    def init(self, frame: Image, box: Boxes) -> None:
        """Start to follow the object in ``box`` [4]."""
        ...

    def update(self, frame: Image) -> TrackResult:
        """Return where the object is in the next frame."""
        ...
