"""From the mask of a cell to a mask and a rotated rectangle in the frame (SiamMask, section 3.2)."""

import cv2
import numpy as np
from numpy.typing import NDArray

_SMALLEST = 100  # pixels a contour needs to be taken for the object, as in PySOT


def paste(
    logits: NDArray[np.float32],
    center: NDArray[np.float64],
    side: float,
    frame: tuple[int, int],
    legacy: bool = False,
) -> NDArray[np.float32]:
    """Return the probability of each pixel of the frame to belong to the object, 0 outside the mask.

    Shapes: logits [M, M]; center [2], the middle of the mask in the frame; side: pixels of the frame that the mask's
    side covers; frame: width and height; result [height, width].
    """
    width, height = frame
    probability = 1 / (1 + np.exp(np.clip(-logits, -80, 80)))
    cells = logits.shape[0]
    left, top = center - side / 2
    if legacy:  # PySOT maps corners to corners: off by a factor of (width - 1) / width
        a, b = (width - 1) / width * side / cells, (height - 1) / height * side / cells
        matrix = np.array([[a, 0, left * (width - 1) / width], [0, b, top * (height - 1) / height]])
    else:
        a = side / cells
        matrix = np.array([[a, 0, left + a / 2 - 0.5], [0, a, top + a / 2 - 0.5]])
    drawn: NDArray[np.float32] = cv2.warpAffine(probability, matrix, frame, flags=cv2.INTER_LINEAR)
    return drawn


def rotated_rectangle(mask: NDArray[np.bool_], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the corners of the smallest rectangle around the mask's largest part.

    If that part is 100 pixels or less, the corners of ``box``. Shapes: mask [H, W]; box [4] as x, y, w, h; result
    [4, 2] as x, y.
    """
    columns = np.flatnonzero(mask.any(0))
    if len(columns):
        across = slice(columns[0], columns[-1] + 1)
        rows = np.flatnonzero(mask[:, across].any(1))
        part = mask[rows[0] : rows[-1] + 1, across].astype(np.uint8)  # to search the frame takes longer
        offset = int(columns[0]), int(rows[0])
        contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=offset)
        areas = [cv2.contourArea(contour) for contour in contours]
        if max(areas) > _SMALLEST:
            corners: NDArray[np.float64] = cv2.boxPoints(cv2.minAreaRect(contours[int(np.argmax(areas))])).astype(float)
            return corners
    x, y, w, h = box
    return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
