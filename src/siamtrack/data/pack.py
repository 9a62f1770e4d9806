"""Pictures decoded once and kept as uint8 on the training device."""

import tarfile
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siamtrack.data.index import Index
from siamtrack.errors import UserError


@dataclass(frozen=True)
class Pack:
    """N pictures and K masks, each in the top left corner of a square canvas of S pixels."""

    images: Tensor
    """[N, 3, S, S] uint8 BGR; beyond the picture 0."""
    fills: Tensor
    """[N, 3] float, mean colour of each picture, in whole steps."""
    sizes: Tensor
    """[N, 2] float, width and height of each picture in its canvas."""
    masks: Tensor
    """[K, 1, S, S] uint8, 255 where the object is."""
    mask_of: NDArray[np.int64]
    """[M] number of an object's mask, -1 for none."""
    picture_of: NDArray[np.int64]
    """[M] number of an object's picture."""
    outlines: NDArray[np.float64]
    """[K, P, 2] points of each mask's convex hull, as shares of the hull's upright box."""


def load_pack(index: Index, canvas: int, device: str) -> Pack:
    """Decode all pictures and masks of ``index`` onto ``device``.

    Raises:
        UserError: a shard or picture is missing, unreadable, larger than ``canvas``, or not of the size that the index
            gives; boxes would be wrong if it were scaled.
    """
    # Files by shard: what each is for, and the size it must have.
    pictures: dict[str, dict[str, int]] = defaultdict(dict)
    masks: dict[str, dict[str, int]] = defaultdict(dict)
    expected: dict[tuple[str, str], tuple[int, int]] = {}
    for number, picture in enumerate(index.pictures):
        pictures[picture.shard][picture.image] = number
        expected[picture.shard, picture.image] = tuple(index.size[number].tolist())
    mask_of, count = np.full(len(index), -1), 0
    for number, name in enumerate(index.mask):
        if name:
            owner = index.picture[number]
            shard = index.pictures[owner].shard
            if name not in masks[shard]:
                masks[shard][name] = count
                expected[shard, name] = tuple(index.size[owner].tolist())
                count += 1
            mask_of[number] = masks[shard][name]

    pack = Pack(
        images=torch.zeros((len(index.pictures), 3, canvas, canvas), dtype=torch.uint8, device=device),
        fills=torch.zeros((len(index.pictures), 3), device=device),
        sizes=torch.from_numpy(index.size).float().to(device),
        masks=torch.zeros((count, 1, canvas, canvas), dtype=torch.uint8, device=device),
        mask_of=mask_of,
        picture_of=index.picture,
        outlines=np.empty((count, len(ELLIPSE), 2)),
    )
    for shard, named in pictures.items():
        for name, image in _decoded(index.root / shard, {*named, *masks[shard]}, set(masks[shard])):
            height, width = image.shape[:2]
            if (width, height) != expected[shard, name]:
                wanted = "{}x{}".format(*expected[shard, name])
                raise UserError(f"{shard}: {name} is {width}x{height}, but the index says {wanted}")
            if max(height, width) > canvas:
                raise UserError(f"{shard}: {name} is {width}x{height}; set train.data.canvas to {max(height, width)}")
            content = torch.from_numpy(image).to(device)
            if name in masks[shard]:
                pack.masks[masks[shard][name], 0, :height, :width] = content
                pack.outlines[masks[shard][name]] = outline(image)
            else:
                number = named[name]
                pack.fills[number] = torch.tensor(cv2.mean(image)[:3]).floor()
                pack.images[number, :, :height, :width] = content.permute(2, 0, 1)
    return pack


_ANGLES = np.arange(32) * (np.pi / 16)
_DIRECTIONS = np.round(np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], -1), 15)
ELLIPSE = 0.5 + _DIRECTIONS / 2
"""[P, 2] points of the ellipse in the unit square."""


def outline(mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the points of a mask that lie farthest in each of P directions, as shares of their upright box.

    An empty mask has the outline of an ellipse. Shapes: mask [H, W], result [P, 2].
    """
    points = cv2.findNonZero((mask > 127).astype(np.uint8))
    if points is None:
        return ELLIPSE
    hull = cv2.convexHull(points)[:, 0]
    farthest = hull[(hull @ _DIRECTIONS.T).argmax(0)] + _DIRECTIONS / 2  # pixels have a size
    low, high = farthest.min(0), farthest.max(0)
    return np.asarray((farthest - low) / (high - low))


def _decoded(shard: Path, names: set[str], grey: set[str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the images of a tar file, decoded in threads; those in ``grey`` as [H, W], others as [H, W, 3]."""
    if not shard.is_file():
        raise UserError(f"there is no {shard}, which the index names")
    try:
        with tarfile.open(shard) as tar:
            encoded = {m.name: tar.extractfile(m).read() for m in tar if m.name in names}  # type: ignore[union-attr]
    except tarfile.TarError as error:
        raise UserError(f"{shard} is no tar file that can be read ({error})") from None
    missing = names - encoded.keys()
    if missing:
        raise UserError(f"{shard} lacks {len(missing)} files that the index names, such as {min(missing)}")

    def decode(name: str) -> tuple[str, NDArray[np.uint8]]:
        flags = cv2.IMREAD_GRAYSCALE if name in grey else cv2.IMREAD_COLOR
        image = cv2.imdecode(np.frombuffer(encoded[name], np.uint8), flags)
        if image is None:
            raise UserError(f"{shard}: {name} is no image that can be read")
        return name, image

    with ThreadPoolExecutor() as pool:
        yield from pool.map(decode, encoded)
