"""Pairs as batches: every crop of a batch is one warp on the training device."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from siamtrack.data.index import Index
from siamtrack.data.pack import Pack
from siamtrack.data.pairs import Pairs, Side


@dataclass(frozen=True)
class Batch:
    """B pairs, ready for the network."""

    template: Tensor
    """[B, 3, T, T] float BGR 0..255."""
    search: Tensor
    """[B, 3, S, S] float BGR 0..255."""
    box: Tensor
    """[B, 4] cx, cy, w, h of the search region's object, in pixels of the search region about its centre."""
    negative: Tensor
    """[B] bool: the object is not the template's."""
    mask: Tensor
    """[B, S, S] 0..1, the object's pixels in the search region; 0 where there is no mask. [0] unless asked for."""
    has_mask: Tensor
    """[B] bool: the object has a mask."""


class Augmenter:
    """Turns drawn pairs into crops.

    Geometry is the tracker's: pixel u of a crop of S pixels shows the point
    center + (u + 0.5 - S / 2) pixel of the picture, sampled bilinearly; outside the picture is its mean colour.
    """

    def __init__(
        self, index: Index, pack: Pack, template_size: int, search_size: int, with_masks: bool = False
    ) -> None:
        self.index, self.pack, self.with_masks = index, pack, with_masks
        self.template_size, self.search_size = template_size, search_size
        self.device = pack.images.device

    def batch(self, pairs: Pairs) -> Batch:
        """Return the crops of ``pairs``."""
        template = self._crop(pairs.template, self.template_size)
        search = self._crop(pairs.search, self.search_size)
        box = pairs.search.box
        center = (box[:, :2] + box[:, 2:] / 2 - pairs.search.center) / pairs.search.pixel
        target = np.concatenate([center, box[:, 2:] / pairs.search.pixel], 1)  # [B, 4]
        mask = self._masks(pairs.search) if self.with_masks else torch.zeros(0, device=self.device)
        search, mask = self._paste(search, mask, pairs, target)
        template = self._finish(template, pairs.template, pairs.flip)
        search = self._finish(search, pairs.search, pairs.flip)
        target[pairs.flip, 0] *= -1
        if self.with_masks:
            mask = torch.where(self._flags(pairs.flip)[:, None, None], mask.flip(-1), mask)
        has_mask = self._flags(pairs.search.mask >= 0)
        return Batch(template, search, self._tensor(target), self._flags(pairs.negative), mask, has_mask)

    def _flags(self, values: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, non_blocking=True)

    def _masks(self, side: Side) -> Tensor:
        """Return the masks of the search regions' objects, 0 where there is none. Shape: [B, S, S]."""
        masks = torch.zeros(len(side.mask), self.search_size, self.search_size, device=self.device)
        rows = np.flatnonzero(side.mask >= 0)
        if len(rows):
            points = self._grid(self._tensor(side.center[rows]), self._tensor(side.pixel[rows]), self.search_size)
            canvases = self.pack.masks[self._numbers(self.pack.mask_of[side.mask[rows]])]
            masks[self._numbers(rows)] = self._sample(canvases.float() / 255, points)[:, 0]
        return masks

    def _tensor(self, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self.device, non_blocking=True)

    def _numbers(self, values: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, non_blocking=True)

    def _grid(self, center: Tensor, pixel: Tensor, size: int) -> Tensor:
        """Return the points of the picture that a crop shows. Shapes: center, pixel [B, 2]; result [B, S, S, 2]."""
        steps = torch.arange(size, device=self.device) + 0.5 - size / 2
        x = center[:, 0, None] + steps * pixel[:, 0, None]  # [B, S]
        y = center[:, 1, None] + steps * pixel[:, 1, None]
        return torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], -1)

    def _sample(self, canvases: Tensor, points: Tensor) -> Tensor:
        """Sample canvases [B, C, N, N] at points [B, S, S, 2] (pixels, continuous), 0 outside; [B, C, S, S]."""
        normal = points * (2 / canvases.shape[-1]) - 1
        return functional.grid_sample(canvases, normal, "bilinear", "zeros", align_corners=False)

    def _picture(self, numbers: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return pictures at points, and where points lie inside: [B, 3, S, S] and [B, 1, S, S] (0 or 1)."""
        fill = self.pack.fills[numbers][..., None, None]
        image = self._sample(self.pack.images[numbers].float() - fill, points) + fill
        inside = ((points >= 0) & (points < self.pack.sizes[numbers][:, None, None])).all(-1)  # [B, S, S]
        return image, inside[:, None].float()

    def _crop(self, side: Side, size: int) -> Tensor:
        """Return the windows of ``side`` with what stands behind them. Shape: [B, 3, S, S]."""
        points = self._grid(self._tensor(side.center), self._tensor(side.pixel), size)
        image, alpha = self._picture(self._numbers(side.picture), points)
        behind = np.flatnonzero(side.background >= 0)
        if len(behind):
            rows = self._numbers(behind)
            numbers = self._numbers(side.background[behind])
            middle = self._tensor(side.background_center[behind]) * self.pack.sizes[numbers]
            # The window is 0.6 of the other picture's shorter side, and so inside it wherever its middle is drawn.
            pixel = 0.6 * self.pack.sizes[numbers].amin(1, keepdim=True).expand(-1, 2) / size
            other, _ = self._picture(numbers, self._grid(middle, pixel, size))
            cut = alpha[rows]
            masked = np.flatnonzero(side.mask[behind] >= 0)
            if len(masked):
                masks = self.pack.masks[self._numbers(self.pack.mask_of[side.mask[behind[masked]]])]
                cut[self._numbers(masked)] = self._sample(masks.float() / 255, points[self._numbers(behind[masked])])
            image[rows] = image[rows] * cut + other * (1 - cut)
        return image

    def _paste(
        self,
        search: Tensor,
        mask: Tensor,
        pairs: Pairs,
        target: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    ) -> tuple[Tensor, Tensor]:
        """Paste the donors into the search regions, over the targets and their masks.

        Shapes: search [B, 3, S, S]; mask [B, S, S] or [0]; target [B, 4] cx, cy, w, h.
        """
        donors, rows = pairs.donors, pairs.donors.pair
        if not len(rows):
            return search, mask
        box = self.index.box[donors.object].astype(float)
        root = np.sqrt(target[rows, 2] * target[rows, 3])  # pixels of the search region
        place = target[rows, :2] + donors.offset * root[:, None]
        pixel = np.sqrt(box[:, 2] * box[:, 3]) / (root * donors.scale)
        center = box[:, :2] + box[:, 2:] / 2 - place * pixel[:, None]
        points = self._grid(self._tensor(center), self._tensor(np.stack([pixel, pixel], 1)), self.search_size)
        image, _ = self._picture(self._numbers(self.index.picture[donors.object]), points)
        alpha = self._sample(self.pack.masks[self._numbers(self.pack.mask_of[donors.object])].float() / 255, points)
        numbers = self._numbers(rows)
        search[numbers] = image * alpha + search[numbers] * (1 - alpha)
        if self.with_masks:
            mask[numbers] *= 1 - alpha[:, 0]
        return search, mask

    def _finish(self, crops: Tensor, side: Side, flip: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Tensor:
        """Apply colour, blur and mirroring. Shape: crops [B, 3, S, S]."""
        color = self._tensor(side.color)
        crops = torch.einsum("bij,bjhw->bihw", color[..., :3], crops) + color[..., 3, None, None]
        blurred = np.flatnonzero(side.blur)
        if len(blurred):
            rows = self._numbers(blurred)
            crops[rows] = self._blur(crops[rows], side.blur[blurred], self._tensor(side.blur_split[blurred]))
        mirrored = np.flatnonzero(flip)
        if len(mirrored):
            rows = self._numbers(mirrored)
            crops[rows] = crops[rows].flip(-1)
        return crops.clamp(0, 255)

    def _blur(self, crops: Tensor, lengths: np.ndarray[tuple[int, ...], np.dtype[np.int64]], split: Tensor) -> Tensor:
        """Blur along a vertical and a horizontal line. Shapes: crops [K, 3, S, S]; lengths, split [K]."""
        reach = int(lengths.max()) // 2
        taps = torch.arange(-reach, reach + 1, device=self.device)
        size = self._numbers(lengths)[:, None]
        line = (taps.abs() <= size // 2) / size  # [K, taps], sums to 1
        count, channels, side, _ = crops.shape
        flat = crops.reshape(1, count * channels, side, side)
        kernel = line.repeat_interleave(channels, 0)[:, None]  # [3 K, 1, taps]
        padded = functional.pad(flat, (reach,) * 4, mode="reflect")
        middle = slice(reach, reach + side)
        down = functional.conv2d(padded[..., middle], kernel[..., None], groups=count * channels)
        across = functional.conv2d(padded[..., middle, :], kernel[:, :, None], groups=count * channels)
        share = split[:, None, None, None]
        return down.view_as(crops) * share + across.view_as(crops) * (1 - share)
