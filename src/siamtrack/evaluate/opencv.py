"""OpenCV's own trackers, to compare with."""

from typing import Any

import cv2
import numpy as np

from siamtrack.boxes import Boxes
from siamtrack.errors import UserError
from siamtrack.tracking.crop import Frame
from siamtrack.tracking.state import TrackResult

NAMES = {"opencv-csrt": "TrackerCSRT", "opencv-kcf": "TrackerKCF", "opencv-mil": "TrackerMIL"}


class OpenCVTracker:
    """A tracker of OpenCV with siamtrack's interface. When it reports a loss, the last box is repeated.

    Args:
        name: one of ``opencv-csrt``, ``opencv-kcf`` (both in opencv-contrib only) and ``opencv-mil``.

    Raises:
        UserError: the OpenCV that is installed does not have it.
    """

    def __init__(self, name: str) -> None:
        self._factory: Any = getattr(cv2, NAMES[name], None)
        if self._factory is None:
            raise UserError(
                f"{name} is not in the OpenCV that is installed; it comes with opencv-contrib-python-headless"
            )
        self._tracker: Any = None
        self._box = np.zeros(4)

    def init(self, frame: Frame, box: Boxes) -> None:
        """Start to follow the object in ``box``; OpenCV takes whole pixels."""
        self._box = np.asarray(box, float)
        x, y, w, h = (int(value) for value in np.rint(self._box))
        self._tracker = self._factory.create()
        self._tracker.init(frame, (x, y, max(w, 1), max(h, 1)))

    def update(self, frame: Frame) -> TrackResult:
        """Return where the object is; the score is 1, or 0 for a reported loss."""
        found, box = self._tracker.update(frame)
        if found:
            self._box = np.asarray(box, float)
        return TrackResult(self._box, float(found))
