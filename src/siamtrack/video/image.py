"""Image files."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def read_image(path: Path) -> NDArray[np.uint8] | None:
    """Return an image file as [H, W, 3] uint8 BGR, None if it is none.

    Grey becomes BGR, transparency is dropped, 16 bits are divided by 256, EXIF orientation is applied.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:
        return None
    return image
