"""Pairs as batches: every layer of every crop of a batch is one warp on the training device."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from siamtrack.data.pack import ELLIPSE, Pixels
from siamtrack.data.pairs import Layers, Pairs, Side
from siamtrack.data.windows import Ints, Windows


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

    Geometry is the tracker's: the middle of pixel i of a crop of S pixels is the point i + 0.5 - S / 2 about its
    middle, and shows the point of the picture where the layer's view takes it, sampled bilinearly; outside the picture
    is its mean colour.
    """

    def __init__(self, windows: Windows, template_size: int, search_size: int, with_masks: bool = False) -> None:
        self._windows, self._with_masks = windows, with_masks
        self._template_size, self._search_size = template_size, search_size

    def needs(self, pairs: Pairs) -> tuple[Ints, Ints]:
        """Return the numbers of the windows and of the masks that show ``pairs``, ascending."""
        shown = [pairs.template.layers, pairs.search.layers]
        windows = np.concatenate([self._windows.of_object[layers.object] for layers in shown])
        masks = np.concatenate([self._windows.mask_of[layers.object[layers.masked]] for layers in shown])
        return np.unique(windows), np.unique(masks)

    def batch(self, pairs: Pairs, pixels: Pixels, loaded: tuple[Ints, Ints] | None = None) -> Batch:
        """Return the crops of ``pairs``, on the device of ``pixels``.

        Args:
            pairs: what to show.
            pixels: windows and masks.
            loaded: their numbers, as :meth:`needs` gives them; all unless given.
        """
        if loaded is None:
            loaded = np.arange(len(pixels.images)), np.arange(len(pixels.masks))
        return _Drawing(self._windows, pixels, *loaded).batch(
            pairs, self._template_size, self._search_size, self._with_masks
        )


class _Drawing:
    """One batch being made."""

    def __init__(self, windows: Windows, pixels: Pixels, loaded: Ints, loaded_masks: Ints) -> None:
        self._windows, self._pixels = windows, pixels
        self._loaded, self._loaded_masks = loaded, loaded_masks
        self.device = pixels.images.device

    def _rows(self, objects: Ints) -> Ints:
        return np.searchsorted(self._loaded, self._windows.of_object[objects])

    def _mask_rows(self, objects: Ints) -> Ints:
        return np.searchsorted(self._loaded_masks, self._windows.mask_of[objects])

    def batch(self, pairs: Pairs, template_size: int, search_size: int, with_masks: bool) -> Batch:
        noise = torch.Generator(self.device).manual_seed(pairs.seed)
        template, _ = self._crops(pairs.template, template_size, False, noise)
        search, mask = self._crops(pairs.search, search_size, with_masks, noise)
        box, negative, has_mask = self._send(self._boxes(pairs.search), pairs.negative, pairs.search.has_mask)
        return Batch(template, search, box, negative > 0, mask, has_mask > 0)

    def _boxes(self, side: Side) -> NDArray[np.float64]:
        """Return the upright boxes of what crops are about: of its mask's hull, or of the ellipse in its box.

        Shape: [B, 4], cx, cy, w, h in pixels of the crop about its middle.
        """
        outline = side.box[:, None, :2] + self._outlines(side) * side.box[:, None, 2:]  # [B, P, 2]
        inverse = np.linalg.inv(side.layers.view[: len(side.box)])
        points = outline @ inverse[:, :, :2].transpose(0, 2, 1) + inverse[:, None, :, 2]  # [B, P, 3]
        points = points[..., :2] / points[..., 2:]
        low, high = points.min(1), points.max(1)
        return np.concatenate([(low + high) / 2, high - low], 1)

    def _outlines(self, side: Side) -> NDArray[np.float64]:
        outlines = np.broadcast_to(ELLIPSE, (len(side.box), *ELLIPSE.shape)).copy()
        outlines[side.has_mask] = self._pixels.outlines[self._mask_rows(side.object[side.has_mask])]
        return outlines

    def _crops(self, side: Side, size: int, with_masks: bool, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the crops of ``side``, and the masks of what they are about: [B, 3, S, S] and [B, S, S] (or [0])."""
        layers = side.layers
        count, behind, *pasted = layers.counts
        # The mask of a crop's own picture is of use only if something stands behind, or if it is asked for.
        masked = layers.masked.copy()
        if not with_masks:
            backed = np.zeros(count, bool)
            backed[layers.crop[count : count + behind]] = True
            masked[:count] &= backed
        color, alpha = self._warp(layers, masked, size)
        (rows,) = self._send(layers.crop)
        (crops, below, *above), (own, _, *covers), (_, under, *over) = (
            torch.split_with_sizes(values, layers.counts) for values in (color, alpha, rows.long())
        )
        if behind:
            crops[under] = below.lerp(crops[under], own[under])
        (has_mask,) = self._send(side.has_mask)
        mask = own[:, 0] * has_mask[:, None, None] if with_masks else own.new_zeros(0)
        for number, image, cover, onto in zip(pasted, above, covers, over, strict=True):
            if number:
                crops[onto] = crops[onto].lerp(image, cover)
                if with_masks:
                    mask[onto] *= 1 - cover[:, 0]
        return self._degrade(crops, side, noise), mask

    def _warp(self, layers: Layers, masked: NDArray[np.bool_], size: int) -> tuple[Tensor, Tensor]:
        """Return what R layers show, and how opaque they are: [R, 3, S, S] and [R, 1, S, S]."""
        own = layers.counts[0] + layers.counts[1]
        pixels, cut = self._pixels, np.flatnonzero(masked)
        placed = self._windows.placed(layers.object, layers.view, layers.window)
        numbers = self._rows(layers.object), cut, self._mask_rows(layers.object[cut])
        view, window, color, *sent = self._send(*placed, layers.color, *numbers)
        pictures, rows, masks = (each.long() for each in sent)
        x, y = sample_points(view, size)
        points = torch.stack([x, y], -1)
        inside = _ramp(x, window[:, 0], window[:, 2]) * _ramp(y, window[:, 1], window[:, 3])
        image = _sample(pixels.images[pictures].float(), points)
        # Beyond its border a picture has its mean colour; what is pasted ends there.
        image[:own] += pixels.fills[pictures[:own]][..., None, None] * (1 - inside[:own, None])
        if len(rows):
            inside[rows] = _sample(pixels.masks[masks].float(), points[rows])[:, 0] / 255
        image = torch.baddbmm(color[..., 3:], color[..., :3], image.flatten(2)).view_as(image)
        return image, inside[:, None]

    def _send(self, *arrays: NDArray[np.generic]) -> list[Tensor]:
        """Return arrays as float tensors on the device, in one copy. Whole numbers below 2^24 stay exact."""
        flat = torch.from_numpy(np.concatenate([np.asarray(array, np.float32).ravel() for array in arrays]))
        if self.device.type == "cuda":
            flat = flat.pin_memory()
        parts = torch.split_with_sizes(flat.to(self.device, non_blocking=True), [array.size for array in arrays])
        return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]

    def _degrade(self, crops: Tensor, side: Side, noise: torch.Generator) -> Tensor:
        """Apply blur, lower resolution and noise. Shape: crops [B, 3, S, S]."""
        blurred, noisy = np.flatnonzero(side.blur), np.flatnonzero(side.noise)
        if len(blurred):
            rows, lengths, split = self._send(blurred, side.blur[blurred], side.blur_split[blurred])
            crops[rows.long()] = _blur(crops[rows.long()], int(side.blur.max()), lengths, split)
        for factor in np.unique(side.lowres[side.lowres > 1]).tolist():
            (rows,) = self._send(np.flatnonzero(side.lowres == factor))
            crops[rows.long()] = _lower(crops[rows.long()], factor)
        if len(noisy):
            rows, level = self._send(noisy, side.noise[noisy])
            grain = torch.randn((len(noisy), *crops.shape[1:]), generator=noise, device=self.device)
            crops[rows.long()] += grain * level[:, None, None, None]
        return crops.clamp(0, 255)


def sample_points(view: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return where the pixels of crops lie in their pictures: x and y, [R, S, S].

    In the order of these operations the result is the same, bit for bit, on every device and in numpy.

    Shape: view [R, 3, 3].
    """
    steps = torch.arange(size, device=view.device, dtype=view.dtype) + (0.5 - size / 2)
    view = view[..., None, None]  # [R, 3, 3, 1, 1]
    x, y, depth = (view[:, row, 0] * steps + view[:, row, 1] * steps[:, None] + view[:, row, 2] for row in range(3))
    return x / depth, y / depth


def _sample(canvases: Tensor, points: Tensor) -> Tensor:
    """Sample canvases [R, C, N, N] at points [R, S, S, 2] (pixels, continuous), 0 outside; [R, C, S, S]."""
    normal = points * (2 / canvases.shape[-1]) - 1
    return functional.grid_sample(canvases, normal, "bilinear", "zeros", align_corners=False)


def _ramp(points: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the weight that bilinear sampling gives to [low, high]. Shapes: points [R, S, S]; low, high [R]."""
    return torch.minimum(points - low[:, None, None], high[:, None, None] - points).add_(0.5).clamp_(0, 1)


def _blur(crops: Tensor, longest: int, lengths: Tensor, split: Tensor) -> Tensor:
    """Blur along a vertical and a horizontal line. Shapes: crops [K, 3, S, S]; lengths, split [K]."""
    middle = longest // 2
    taps = torch.arange(-middle, middle + 1, device=crops.device)
    line = (taps.abs() <= lengths[:, None] // 2) / lengths[:, None]  # [K, taps], sums to 1
    count, channels, side, _ = crops.shape
    flat = crops.reshape(1, count * channels, side, side)
    kernel = line.repeat_interleave(channels, 0)[:, None]  # [3 K, 1, taps]
    padded = functional.pad(flat, (middle,) * 4, mode="reflect")
    inner = slice(middle, middle + side)
    down = functional.conv2d(padded[..., inner], kernel[..., None], groups=count * channels)
    across = functional.conv2d(padded[..., inner, :], kernel[:, :, None], groups=count * channels)
    share = split[:, None, None, None]
    return down.view_as(crops) * share + across.view_as(crops) * (1 - share)


def _lower(crops: Tensor, factor: int) -> Tensor:
    """Return crops [K, 3, S, S] as they look at a lower resolution: means of squares, interpolated bilinearly."""
    size = crops.shape[-1]
    small = functional.avg_pool2d(crops, factor, ceil_mode=True)
    return functional.interpolate(small, scale_factor=factor, mode="bilinear")[..., :size, :size]
