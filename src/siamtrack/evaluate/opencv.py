"""OpenCV's own trackers, to compare with."""

from typing import Any

import cv2
import numpy as np

from siamtrack.boxes import Boxes
from siamtrack.errors import UserError
from siamtrack.tracking.state import TrackResult
from siamtrack.video.image import Image

NAMES = {"opencv-csrt": "TrackerCSRT", "opencv-kcf": "TrackerKCF", "opencv-mil": "TrackerMIL"}


class OpenCVTracker:
    """A tracker of OpenCV with siamtrack's interface. When it reports a loss, the last box is repeated.

    Args:
        name: one of ``opencv-csrt``, ``opencv-kcf`` (both in opencv-contrib only) and ``opencv-mil``.

    Raises:
        UserError: the OpenCV that is installed does not have it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._factory: Any = getattr(cv2, NAMES[name], None)
        if self._factory is None:
            raise UserError(
                f"{name} is not in the OpenCV that is installed; it comes with opencv-contrib-python-headless"
            )
        self._tracker: Any = None
        self._box = np.zeros(4)

    def init(self, frame: Image, box: Boxes) -> None:
        """Start to follow the object in ``box``; OpenCV takes whole pixels inside the frame.

        Raises:
            UserError: OpenCV refuses the box.
        """
        self._box = np.array(box, float)
        height, width = frame.shape[:2]
        left, top = np.clip(np.rint(self._box[:2]), 0, (width - 1, height - 1)).astype(int)
        right, bottom = np.clip(np.rint(self._box[:2] + self._box[2:]), (left + 1, top + 1), (width, height)).astype(
            int
        )
        self._tracker = self._factory.create()
        try:
            self._tracker.init(frame, (int(left), int(top), int(right - left), int(bottom - top)))
        except cv2.error as error:
            raise UserError(f"{self._name} cannot start with box {self._box.tolist()}: {error.err}") from None

    def update(self, frame: Image) -> TrackResult:
        """Return where the object is; the score is 1, or 0 for a reported loss."""
        try:
            found, box = self._tracker.update(frame)
        except cv2.error:  # it looked outside the frame
            found, box = False, self._box
        if found:
            self._box = np.asarray(box, float)
        return TrackResult(self._box, float(found))
