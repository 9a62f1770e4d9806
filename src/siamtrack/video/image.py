"""Images and image files."""

from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.errors import UserError

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


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Return a label image as [H, W] uint8: the indices of a palette PNG, not their colours, or grey levels.

    Masks of 1 bit become 0 and 255, colours become grey.

    Raises:
        UserError: the file is no PNG image.
        OSError: the file cannot be opened.
    """
    return decode_labels(path.read_bytes(), path)


def decode_labels(content: bytes, name: object) -> NDArray[np.uint8]:
    """Return the label image in the bytes of a PNG file; see :func:`read_labels`.

    Raises:
        UserError: they are no PNG image; ``name`` is what the message calls it.
    """
    decoder = av.CodecContext.create("png", "r")  # OpenCV would turn indices into colours
    try:
        (frame,) = decoder.decode(av.Packet(content))
    except (av.FFmpegError, ValueError):
        raise UserError(f"{name} is no PNG image that can be read") from None
    if frame.format.name == "pal8":
        indices, _ = frame.to_ndarray()
        return np.asarray(indices, np.uint8)
    return np.asarray(frame.to_ndarray(format="gray"), np.uint8)
