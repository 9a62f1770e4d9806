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
    """[N, 3, S, S] uint8 BGR."""
    fills: Tensor
    """[N, 3] float, mean colour of each picture."""
    sizes: Tensor
    """[N, 2] float, width and height of each picture in its canvas."""
    masks: Tensor
    """[K, 1, S, S] uint8, 255 where the object is."""
    mask_of: NDArray[np.int64]
    """[M] number of an object's mask, -1 for none."""


def load_pack(index: Index, canvas: int, device: str) -> Pack:
    """Decode all pictures and masks of ``index`` onto ``device``.

    Pictures larger than ``canvas`` pixels are refused rather than scaled, since the boxes are in their pixels.

    Raises:
        UserError: a shard or picture is missing, unreadable, or too large.
    """
    count = len(index.pictures)
    named = [name for name in index.mask if name]
    mask_number = {name: number for number, name in enumerate(dict.fromkeys(named))}
    images = torch.zeros((count, 3, canvas, canvas), dtype=torch.uint8, device=device)
    masks = torch.zeros((len(mask_number), 1, canvas, canvas), dtype=torch.uint8, device=device)
    fills, sizes = np.zeros((count, 3), np.float32), np.zeros((count, 2), np.float32)
    picture_number = {picture.image: number for number, picture in enumerate(index.pictures)}
    wanted: dict[str, set[str]] = defaultdict(set)
    for picture in index.pictures:
        wanted[picture.shard].add(picture.image)
    for owner, name in zip(index.picture, index.mask, strict=True):
        if name:
            wanted[index.pictures[owner].shard].add(name)
    for shard, names in wanted.items():
        for name, image in _decoded(index.root / shard, names, set(mask_number)):
            height, width = image.shape[:2]
            if max(height, width) > canvas:
                raise UserError(
                    f"{shard}: {name} is {width}x{height}, the canvas only {canvas}; set data.canvas higher"
                )
            if name in mask_number:
                masks[mask_number[name], 0, :height, :width] = torch.from_numpy(image).to(device)
            else:
                number = picture_number[name]
                images[number, :, :height, :width] = torch.from_numpy(image.transpose(2, 0, 1)).to(device)
                fills[number], sizes[number] = cv2.mean(image)[:3], (width, height)
    mask_of = np.array([mask_number[name] if name else -1 for name in index.mask])
    return Pack(images, torch.from_numpy(fills).to(device), torch.from_numpy(sizes).to(device), masks, mask_of)


def _decoded(shard: Path, names: set[str], grey: set[str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the images of a tar file, decoded in threads; those in ``grey`` as [H, W], others as [H, W, 3]."""
    if not shard.is_file():
        raise UserError(f"there is no {shard}, which the index names")
    with tarfile.open(shard) as tar, ThreadPoolExecutor() as pool:
        encoded = {m.name: tar.extractfile(m).read() for m in tar if m.name in names}  # type: ignore[union-attr]
        missing = names - encoded.keys()
        if missing:
            raise UserError(f"{shard} lacks {len(missing)} files that the index names, such as {min(missing)}")

        def decode(name: str) -> tuple[str, NDArray[np.uint8]]:
            flags = cv2.IMREAD_GRAYSCALE if name in grey else cv2.IMREAD_COLOR
            image = cv2.imdecode(np.frombuffer(encoded[name], np.uint8), flags)
            if image is None:
                raise UserError(f"{shard}: {name} is no image that can be read")
            return name, image

        yield from pool.map(decode, encoded)
