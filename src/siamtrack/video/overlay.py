"""Drawing: a box with a caption on a frame, a contact sheet of frames."""

from collections.abc import Iterable, Sequence
from colorsys import hsv_to_rgb

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from siamtrack.video.image import Image

GREEN = (80, 220, 60)
GREY = (160, 160, 160)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


Colour = tuple[int, int, int]


def colour_of(target: int) -> Colour:
    """Return a bright colour, B, G, R, that tells a target from others; neighbouring numbers differ most."""
    red, green, blue = hsv_to_rgb(target * 0.618034 % 1, 0.75, 0.95)  # steps of the golden ratio never come back
    return round(255 * blue), round(255 * green), round(255 * red)


def draw_box(image: Image, box: ArrayLike, caption: str = "", colour: Colour = GREEN) -> Image:
    """Return a copy of ``image`` with ``box`` drawn on it.

    Shapes: image [H, W, 3] uint8 BGR; box [4] as x, y, w, h in pixels; result like image.
    """
    return draw_boxes(image, [(box, caption, colour)])


def draw_boxes(image: Image, boxes: Iterable[tuple[ArrayLike, str, Colour]]) -> Image:
    """Return a copy of ``image`` with boxes drawn on it, each with its caption and colour.

    Shapes: image [H, W, 3] uint8 BGR; each box [4] as x, y, w, h in pixels; result like image.
    """
    drawn = image.copy()
    unit = max(1, round(min(image.shape[:2]) / 360))  # line width that suits the frame's size
    for box, caption, colour in boxes:
        x, y, w, h = np.asarray(box, float)
        corner = (round(x), round(y))
        cv2.rectangle(drawn, corner, (round(x + w), round(y + h)), colour, 2 * unit, cv2.LINE_AA)
        if caption:
            scale = 0.45 * unit
            (width, height), _ = cv2.getTextSize(caption, _FONT, scale, unit)
            left = int(np.clip(corner[0], 0, max(0, image.shape[1] - width - 6 * unit)))
            bottom = int(np.clip(corner[1] - 2 * unit, height + 6 * unit, image.shape[0]))
            cv2.rectangle(drawn, (left, bottom - height - 6 * unit), (left + width + 6 * unit, bottom), colour, -1)
            place = (left + 3 * unit, bottom - 3 * unit)
            cv2.putText(drawn, caption, place, _FONT, scale, (0, 0, 0), unit, cv2.LINE_AA)
    return drawn


def draw_mask(image: Image, mask: NDArray[np.bool_], colour: Colour = GREEN) -> Image:
    """Return a copy of ``image`` with the mask's pixels tinted. Shapes: image [H, W, 3] uint8 BGR; mask [H, W]."""
    drawn = image.copy()
    drawn[mask] = (drawn[mask] * 0.5 + np.array(colour) * 0.5).astype(np.uint8)
    return drawn


def contact_sheet(images: Sequence[Image], columns: int, width: int) -> Image:
    """Return the images as rows of ``columns``, each scaled to ``width`` pixels.

    Shapes: images [H, W, 3] uint8 BGR, all of one size, at least one; result [rows H', columns width, 3].
    """
    height = max(1, round(images[0].shape[0] * width / images[0].shape[1]))
    rows = -(-len(images) // columns)
    sheet: Image = np.zeros((rows * height, columns * width, 3), np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + height, left : left + width] = cv2.resize(
            image, (width, height), interpolation=cv2.INTER_AREA
        )
    return sheet
