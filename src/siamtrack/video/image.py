"""Images and image files."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""[H, W, 3] BGR, as OpenCV reads it."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def image_files(folder: Path) -> list[Path]:
    """Return the image files in a folder, unsorted; hidden ones are left out."""
    return [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]


def read_image(path: Path) -> Image | None:
    """Return an image file as [H, W, 3] uint8 BGR, None if it is none.

    Grey becomes BGR, transparency is dropped, 16 bits are divided by 256, EXIF orientation is applied.

    Raises:
        OSError: the file cannot be opened.
    """
    data = np.fromfile(path, np.uint8)
    try:
        return cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:
        return None
