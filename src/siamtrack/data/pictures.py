"""Pictures and masks of an index, wherever they lie: files, members of tar files, frames of video files.

A mask is given by a text:

- ``Annotations/dog/00000.png``: an image, any pixel that is not 0 is the object's; in the tar file if its picture is;
- ``Annotations/dog/00000.png#2``: an image of numbers (the indices of a palette PNG), the object's is 2;
- ``polygon:1,2,30,2,30,40;5,5,9,9,5,9``: polygons x1,y1,x2,y2,..., filled, separated by semicolons;
- ``rle:m10,20,3,4,0,12``: runs of pixels (:func:`siamtrack.regions.encode_mask`).
"""

import os
import tarfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from siamtrack.data.headers import image_size, turned
from siamtrack.data.records import Picture
from siamtrack.errors import UserError
from siamtrack.regions import decode_mask
from siamtrack.video.decode import to_bgr
from siamtrack.video.image import Image, decode_labels

MaskImage = NDArray[np.uint8]
"""[H, W], 255 where the object is, 0 elsewhere."""

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg")

_OPEN = 64
"""Tar and video files that are kept open."""
_NEAR = 12
"""Frames further on that are reached by decoding what is between; beyond, a key frame is likely."""
_TRIES = 3
"""Key frames that are tried: frames shown before the last one may need an earlier one."""


class PictureReader:
    """Reads pictures and masks below a root folder; any number of threads may do so at the same time.

    Files stay open between calls. A copy in another process opens its own.

    Args:
        root: what references are relative to: ``index.root``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._opened: OrderedDict[Path, _Tar | _Video] = OrderedDict()
        self._owner = os.getpid()
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["root"])  # type: ignore[misc]

    def picture(self, picture: Picture) -> Image:
        """Return a picture as [H, W, 3] uint8 BGR, as it is stored: the orientation that EXIF gives is not applied,
        since boxes are in stored pixels.

        Raises:
            UserError: it is missing, unreadable, or not of the size that the index gives; boxes would be wrong if it
                were scaled.
        """
        shard = self._shard(picture.shard)
        if isinstance(shard, _Video):
            image = shard.frame(int(picture.image))
        else:
            found = _decode(self._bytes(shard, picture.image), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
            if found is None:
                raise UserError(f"{_shown(picture.shard, picture.image)} is no image that can be read")
            image = found
        _same_size(image, picture, picture.image)
        return image

    def mask(self, picture: Picture, mask: str) -> MaskImage:
        """Return the mask of an object in ``picture`` as [H, W] uint8, 255 where the object is and 0 elsewhere.

        Grey masks with soft edges keep their levels.

        Raises:
            UserError: it is missing, unreadable, or not of the picture's size.
        """
        width, height = picture.size
        if mask.startswith("polygon:"):
            return fill_polygons(mask.removeprefix("polygon:"), width, height)
        if mask.startswith("rle:"):
            region = decode_mask(mask.removeprefix("rle:"))
            result = np.zeros((height, width), np.uint8)
            h, w = region.pixels.shape
            if region.x < 0 or region.y < 0 or region.x + w > width or region.y + h > height:
                raise UserError(f"a mask of {_shown(picture.shard, picture.image)} reaches over its {width}x{height}")
            result[region.y : region.y + h, region.x : region.x + w] = region.pixels * np.uint8(255)
            return result
        name, number = split_mask(mask)
        shard = self._shard(picture.shard)
        content = self._bytes(None if isinstance(shard, _Video) else shard, name)
        if number:
            image: MaskImage = (decode_labels(content, name) == int(number)) * np.uint8(255)
        else:
            found = _decode(content, cv2.IMREAD_GRAYSCALE)
            if found is None:
                raise UserError(f"{_shown(picture.shard, name)} is no image that can be read")
            # Black and another level is a mask whatever that level is; more levels are soft edges.
            top = int(found.max())
            image = found if top == 255 else (found > 0) * np.uint8(255)
        _same_size(image, picture, name)
        return image

    def size(self, shard: str, image: str) -> tuple[int, int] | None:
        """Return width and height of a picture or mask image from its header; None if it is no image.

        Raises:
            UserError: there is no such file, tar or video.
        """
        opened = self._shard(shard)
        if isinstance(opened, _Video):
            return opened.size if 0 <= int(image) < len(opened) else None
        read, close = self._reading(opened, image)
        try:
            found = image_size(read)
            if found is None:  # a format whose header is not known here
                content = _decode(read(0, -1), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
                found = None if content is None else (content.shape[1], content.shape[0])
        finally:
            close()
        return found

    def turned(self, image: str) -> bool:
        """Return whether a picture file asks viewers to turn or mirror it (EXIF); boxes are in stored pixels.

        Raises:
            UserError: it cannot be read.
        """
        read, close = self._reading(None, image)
        try:
            return turned(read)
        finally:
            close()

    def frames(self, video: str) -> int:
        """Return how many frames a video file has.

        Raises:
            UserError: it cannot be read.
        """
        opened = self._shard(video)
        return len(opened) if isinstance(opened, _Video) else 0

    def _shard(self, name: str) -> "_Tar | _Video | None":
        if not name:
            return None
        path = self.root / name
        with self._lock:
            if self._owner != os.getpid():  # a forked process shares positions in open files with its parent
                self._opened, self._owner = OrderedDict(), os.getpid()
            shard = self._opened.get(path)
            if shard is None:
                if not path.is_file():
                    raise UserError(f"there is no {path}, which the index names")
                shard = _Tar(path) if path.suffix.lower() == ".tar" else _Video(path)
                self._opened[path] = shard
                if len(self._opened) > _OPEN:
                    self._opened.popitem(last=False)
            self._opened.move_to_end(path)
        return shard

    def _reading(self, tar: "_Tar | None", name: str) -> tuple[Callable[[int, int], bytes], Callable[[], None]]:
        """Return how parts of a file are read (-1 for all that is left), and how it is closed."""
        if tar is not None:
            return tar.member(name), lambda: None
        try:
            file = (self.root / name).open("rb")
        except OSError as error:
            raise UserError(f"{self.root / name} cannot be read ({error.strerror or error})") from None

        def read(offset: int, count: int) -> bytes:
            file.seek(offset)
            return file.read(count)

        return read, file.close

    def _bytes(self, tar: "_Tar | None", name: str) -> bytes:
        read, close = self._reading(tar, name)
        try:
            return read(0, -1)
        finally:
            close()


class _Tar:
    """A tar file, its members by name."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        try:
            with tarfile.open(path, "r:") as tar:
                self._members = {member.name: (member.offset_data, member.size) for member in tar}
        except tarfile.TarError as error:
            raise UserError(f"{path} is no tar file that can be read ({error}); it may not be compressed") from None
        self._file = path.open("rb")

    def member(self, name: str) -> Callable[[int, int], bytes]:
        if name not in self._members:
            raise UserError(f"{self._path} lacks {name}, which the index names")
        start, size = self._members[name]

        def read(offset: int, count: int) -> bytes:
            left = max(0, size - offset)
            with self._lock:
                self._file.seek(start + offset)
                return self._file.read(left if count < 0 else min(count, left))

        return read


class _Video:
    """A video file whose frames are read by number, upright, as :class:`siamtrack.video.source.VideoSource` counts and
    shows them. Frames that follow each other are decoded once.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        try:
            self._container = av.open(str(path))
            self._stream = self._container.streams.video[0]
            packets = [packet for packet in self._container.demux(self._stream) if packet.pts is not None]
        except (av.FFmpegError, IndexError) as error:
            raise UserError(f"{path} is no video that can be read ({error})") from None
        # Times of the frames in the order in which they are shown, and where decoding can start: a key frame's time,
        # and the time by which it is found.
        self._times = sorted(packet.pts or 0 for packet in packets if not packet.is_discard)
        keys = [packet for packet in packets if packet.is_keyframe]
        self._keys = sorted((key.pts or 0, key.pts or 0 if key.dts is None else key.dts) for key in keys)
        self._frames: Iterator[Any] = iter(())
        self._next = -_NEAR - 1  # number of the frame that comes next in _frames
        if not self._times or not self._keys:
            raise UserError(f"{path} holds no frame")
        height, width = self.frame(0).shape[:2]
        self.size = (width, height)

    def __len__(self) -> int:
        return len(self._times)

    def frame(self, number: int) -> Image:
        """Return a frame as [H, W, 3] uint8 BGR."""
        if not 0 <= number < len(self):
            raise UserError(f"{self._path} has {len(self)} frames, but the index names number {number}")
        wanted = self._times[number]
        with self._lock:
            try:
                if 0 <= number - self._next <= _NEAR and (image := self._reach(wanted)) is not None:
                    self._next = number + 1
                    return image
                before = [key for key in self._keys if key[0] <= wanted] or self._keys[:1]
                for _, found_by in before[: -_TRIES - 1 : -1]:
                    self._container.seek(found_by, stream=self._stream)
                    self._frames = self._container.decode(self._stream)
                    if (image := self._reach(wanted)) is not None:
                        self._next = number + 1
                        return image
                reason = "it does not follow its key frame"
            except av.FFmpegError as error:
                reason = str(error.strerror)
            self._next = -_NEAR - 1
        raise UserError(f"{self._path}: frame {number} cannot be decoded ({reason})")

    def _reach(self, wanted: int) -> Image | None:
        """Decode on to the frame of this time; None if it does not come."""
        for frame in self._frames:
            if frame.pts is not None and frame.pts >= wanted:
                return to_bgr(frame) if frame.pts == wanted else None
        return None


def split_mask(mask: str) -> tuple[str, str]:
    """Return the file that a mask is in, and its number there, empty for none."""
    name, _, number = mask.rpartition("#")
    return (name, number) if number.isdecimal() else (mask, "")


def fill_polygons(text: str, width: int, height: int) -> MaskImage:
    """Return polygons (``x1,y1,x2,y2,...;...``) filled, each by itself: [height, width] uint8, 0 and 255.

    A corner at x = 10 is the left edge of pixel 10, as in COCO.
    """
    mask = np.zeros((height, width), np.uint8)
    for polygon in text.split(";"):
        points = np.array(polygon.split(","), float).reshape(-1, 2)
        fixed = np.rint((points - 0.5) * 256).astype(np.int32)  # OpenCV counts from the middle of a pixel
        cv2.fillPoly(mask, [fixed], 255, shift=8)
    return mask


def _decode(content: bytes, flags: int) -> NDArray[np.uint8] | None:
    if not content:
        return None
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        return None


def _same_size(image: NDArray[np.uint8], picture: Picture, name: str) -> None:
    height, width = image.shape[:2]
    if (width, height) != picture.size:
        wanted = "{}x{}".format(*picture.size)
        raise UserError(f"{_shown(picture.shard, name)} is {width}x{height}, but the index says {wanted}")


def _shown(shard: str, name: str) -> str:
    return f"{shard}: {name}" if shard else name
