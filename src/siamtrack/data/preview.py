"""Training pairs as the network sees them, with the target and the anchors assigned to it, for a person to look at."""

from contextlib import closing

import cv2
import numpy as np
import torch

from siamtrack.data.augment import Batch
from siamtrack.data.index import Index
from siamtrack.data.loader import PairLoader
from siamtrack.data.pairs import Pairs, SamplingConfig
from siamtrack.data.targets import TargetConfig, Targets, assign
from siamtrack.models.config import ModelConfig
from siamtrack.tracking.anchors import anchor_grid
from siamtrack.video.image import Image
from siamtrack.video.overlay import GREEN, contact_sheet

_POSITIVE, _NEGATIVE, _MASK, _TEXT = (255, 200, 0), (60, 60, 255), (255, 80, 255), (230, 230, 230)  # BGR
_CAPTION = 34  # pixels of two lines of text
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def preview(
    index: Index,
    model: ModelConfig,
    sampling: SamplingConfig,
    targets: TargetConfig,
    canvas: int,
    count: int,
    seed: int,
) -> Image:
    """Return the first batch of a run as a sheet of ``count`` pairs: template, search region, and what they are.

    In the search region the target's box is green and its mask's outline magenta, boxes of positive anchors are blue,
    middles of negative ones red. Of negative pairs the box is that of the other object, in red. Negatives that a
    network would choose (``targets.hard``) are drawn by chance.

    Raises:
        UserError: pictures cannot be used, or ``sampling`` does not fit the index.
    """
    sizes = model.template_size, model.search_size
    loader = PairLoader(
        index, sampling, *sizes, batch=count, seed=seed, with_masks=True, canvas=canvas, cache="none", workers=1
    )
    with closing(loader):
        pairs, batch = loader.pairs(0), loader.batch(0)
    anchors = torch.from_numpy(anchor_grid(model.anchors, model.response_cells(model.search_size))).float()
    chance = torch.Generator().manual_seed(seed)
    scores = torch.rand(count, len(anchors), generator=chance)
    assigned = assign(batch.box, batch.negative, anchors, model.anchors.stride, scores, targets, chance)
    tiles = [_tile(batch, assigned, anchors, row, _caption(index, pairs, row)) for row in range(count)]
    return contact_sheet(tiles, min(4, count), tiles[0].shape[1])


def _tile(batch: Batch, assigned: Targets, anchors: torch.Tensor, row: int, caption: tuple[str, str]) -> Image:
    template = np.ascontiguousarray(batch.template[row].permute(1, 2, 0).numpy().astype(np.uint8))
    search = np.ascontiguousarray(batch.search[row].permute(1, 2, 0).numpy().astype(np.uint8))
    side = len(search)
    label = assigned.label[row].numpy()
    for cx, cy, w, h in anchors.numpy()[label == 1] + [side / 2, side / 2, 0, 0]:
        _rectangle(search, cx, cy, w, h, _POSITIVE, 1)
    for cx, cy, _, _ in anchors.numpy()[label == 0] + [side / 2, side / 2, 0, 0]:
        cv2.circle(search, (round(float(cx)), round(float(cy))), 2, _NEGATIVE, -1, cv2.LINE_AA)
    if batch.has_mask[row]:
        inside = (batch.mask[row].numpy() > 0.5).astype(np.uint8)
        outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(search, outlines, -1, _MASK, 1)
    cx, cy, w, h = batch.box[row].numpy()
    _rectangle(search, cx + side / 2, cy + side / 2, w, h, _NEGATIVE if batch.negative[row] else GREEN, 2)

    gap = 6
    tile = np.full((_CAPTION + side + gap, len(template) + side + 3 * gap, 3), 24, np.uint8)
    tile[_CAPTION : _CAPTION + len(template), gap : gap + len(template)] = template
    tile[_CAPTION : _CAPTION + side, len(template) + 2 * gap : -gap] = search
    for line, text in enumerate(caption):
        cv2.putText(tile, text, (gap, 13 + 15 * line), _FONT, 0.38, _TEXT, 1, cv2.LINE_AA)
    kinds = f"{int((label == 1).sum())} positive", f"{int((label == 0).sum())} negative"
    for line, text in enumerate(("anchors:", *kinds)):
        place = (gap, _CAPTION + len(template) + 18 + 15 * line)
        cv2.putText(tile, text, place, _FONT, 0.38, _TEXT, 1, cv2.LINE_AA)
    return tile


def _rectangle(image: Image, cx: float, cy: float, w: float, h: float, color: tuple[int, int, int], width: int) -> None:
    corners = (cx - w / 2, cy - h / 2), (cx + w / 2, cy + h / 2)
    first, last = ((round(float(x)), round(float(y))) for x, y in corners)
    cv2.rectangle(image, first, last, color, width, cv2.LINE_AA)


def _caption(index: Index, pairs: Pairs, row: int) -> tuple[str, str]:
    """Return where template and search region come from."""
    objects = int(pairs.template.object[row]), int(pairs.search.object[row])
    first, second = (index.pictures[int(index.picture[number])] for number in objects)
    kind = "negative" if pairs.negative[row] else "positive"
    shown = " ".join(part for part in (first.source, first.video or first.image, index.label[objects[0]]) if part)
    where = f"frames {first.frame} and {second.frame}" if first.video else "a still"
    if pairs.negative[row]:
        where = f"against {second.source} {second.video or second.image}, frame {second.frame}"
    return f"{kind}: {_plain(shown)}", _plain(where)


def _plain(text: str) -> str:
    """Return the end of a text in the letters that OpenCV can draw."""
    text = text if len(text) <= 52 else "..." + text[-49:]
    return text.encode("ascii", "replace").decode()
