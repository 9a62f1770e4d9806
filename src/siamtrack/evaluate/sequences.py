"""A sequence: frames, the truth in each, and labels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes
from siamtrack.errors import UserError
from siamtrack.regions import Region
from siamtrack.video.image import Image, read_image


@dataclass(frozen=True)
class Sequence:
    """T frames of a video and one object in them."""

    name: str
    """Unique in its data set. For one of several objects of a video: video/object."""
    paths: tuple[Path, ...]
    """T image files."""
    boxes: Boxes
    """[T, 4] x, y, w, h in pixels, 0-based: the truth, or the box that encloses it; NaN where there is none (absent,
    or not annotated)."""
    regions: tuple[Region, ...] | None = None
    """T polygons or masks; None where the boxes are the truth."""
    masks: tuple[Path | None, ...] | None = None
    """T label images (a pixel is the number of its object), None in frames without; for video object segmentation."""
    object_number: int = 1
    """Which number in the label images is this object; any other than 0 counts if the number is 255."""
    counts: NDArray[np.bool_] | None = None
    """[T] frames that count for scores; None: those with a box."""
    attributes: frozenset[str] = frozenset()
    """The data set's labels of the whole sequence."""
    labels: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """The data set's labels of frames, [T] each."""
    group: str = ""
    """What the sequence is averaged with first, where the data set says so: its class (GOT-10k), seen or unseen."""
    anchors: tuple[int, ...] = ()
    """VOT's multi-start: frames in which the tracker is started, negative to run backwards from there (~ of the frame
    number, so that frame 0 backwards is -1)."""
    size: tuple[int, int] | None = None
    """Width and height of the frames in pixels, if the data set says so."""

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def video(self) -> str:
        """Name of the video, which several objects may share."""
        return self.name.rsplit("/", 1)[0] if self.masks else self.name

    def frame(self, index: int) -> Image:
        """Return a frame as [H, W, 3] uint8 BGR.

        Raises:
            UserError: there is no such file, or it is no image.
        """
        try:
            image = read_image(self.paths[index])
        except OSError as error:
            raise UserError(f"{self.paths[index]} cannot be read ({error.strerror or error})") from None
        if image is None:
            raise UserError(f"{self.paths[index]} is no image that can be read")
        return image

    @cached_property
    def polygons(self) -> NDArray[np.float64] | None:
        """[T, 4, 2] the regions as one array, NaN for None; None where they are not all polygons of 4 corners."""
        if self.regions is None or not all(
            region is None or (isinstance(region, np.ndarray) and region.shape == (4, 2)) for region in self.regions
        ):
            return None
        nothing = np.full((4, 2), np.nan)
        return np.array([nothing if region is None else region for region in self.regions]).reshape(-1, 4, 2)

    def truth(self, index: int) -> Region:
        """Return the region of the object in a frame, None where there is none."""
        if self.regions is not None:
            return self.regions[index]
        box = self.boxes[index]
        return box if np.isfinite(box).all() else None

    def first(self, frames: int | None) -> Self:
        """Return the first frames only; all if ``frames`` is None."""
        if frames is None or frames >= len(self):
            return self
        return replace(
            self,
            paths=self.paths[:frames],
            boxes=self.boxes[:frames],
            regions=self.regions and self.regions[:frames],
            masks=self.masks and self.masks[:frames],
            counts=None if self.counts is None else self.counts[:frames],
            labels={name: values[:frames] for name, values in self.labels.items()},
            anchors=tuple(anchor for anchor in self.anchors if (anchor if anchor >= 0 else ~anchor) < frames),
        )


Readable = Mapping[str, Callable[[], Sequence]]
"""Name of each sequence to the function that reads it, in the data set's order."""
