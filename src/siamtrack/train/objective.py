"""What is minimised: the network and its losses as one module."""

import torch
from torch import Tensor, nn

from siamtrack.data.augment import Batch
from siamtrack.data.targets import assign
from siamtrack.models.config import ModelConfig
from siamtrack.models.losses import classification_loss, mask_loss, overlaps, regression_loss
from siamtrack.models.mask import MaskBranch, cut_targets
from siamtrack.models.prediction import Prediction
from siamtrack.models.siamese import SiameseRPN
from siamtrack.tracking.anchors import anchor_grid
from siamtrack.tracking.decode import decode
from siamtrack.train.config import TrainConfig


class Objective(nn.Module):
    """The losses of a batch (SiamRPN, section 4.2; SiamMask, equation 3).

    A forward pass does not wait for the device, and all its shapes are given by the batch's: it can be wrapped by DDP,
    and captured.

    Args:
        model: what is trained; it lies on its device already.
        config: of the model.
        train: of the run.
    """

    def __init__(self, model: SiameseRPN, config: ModelConfig, train: TrainConfig) -> None:
        super().__init__()
        self.model, self.config, self.train_config = model, config, train
        self.cells = config.response_cells(config.search_size)
        device = next(model.parameters()).device
        self.anchors = torch.from_numpy(anchor_grid(config.anchors, self.cells)).float().to(device)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the weighted sum of the losses as ``loss``, and for the log, without gradient, each of them.

        Args:
            batch: on the model's device.
            generator: draws which anchors and cells count.
        """
        weights = self.train_config.loss
        images = torch.channels_last if self.train_config.channels_last else torch.contiguous_format
        prediction = self.model(*(side.contiguous(memory_format=images) for side in (batch.template, batch.search)))
        cls, loc = prediction.cls.float(), prediction.loc.float()
        boxes, scores = decode(cls, loc, self.anchors)
        target = assign(
            batch.box,
            batch.negative,
            self.anchors,
            self.config.anchors.stride,
            scores.detach(),
            self.train_config.targets,
            generator,
        )
        iou, giou = overlaps(boxes, batch.box)  # [B, N]
        wanted = iou.detach() if weights.quality else torch.ones_like(iou)
        losses = {
            "cls": classification_loss(cls, target.label, wanted),
            "loc": regression_loss(loc, target.offset, target.weight, weights.regression),
            "giou": ((1 - giou) * target.weight).sum() / len(giou),
        }
        if self.model.mask:
            losses["mask"] = self._mask_loss(self.model.mask, prediction, batch, target.label, generator)
        counted = {"mask"} if self.train_config.stage == "refine" else losses.keys()
        parts = [getattr(weights, name) * losses[name] for name in losses if name in counted and getattr(weights, name)]
        # Not a loss: the mean overlap of the positives' boxes.
        losses["iou"] = (iou * target.weight).sum() / (target.weight.sum(1) > 0).sum().clamp(min=1)
        return {"loss": torch.stack(parts).sum(), **{name: value.detach() for name, value in losses.items()}}

    def _mask_loss(
        self, branch: MaskBranch, prediction: Prediction, batch: Batch, label: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return the loss of masks at cells with a positive anchor, of objects that have a mask.

        As many cells as may count are always taken, and those too many weigh nothing: their number is known only to
        the device. Shape: label [B, N].
        """
        count = len(batch.box)
        positive = (label == 1).view(count, -1, self.cells, self.cells).any(1)  # [B, m, m]
        possible = (positive & batch.has_mask[:, None, None]).flatten()
        lottery = torch.rand(possible.shape, generator=generator, device=possible.device)
        most = min(self.train_config.masks_per_pair * count, len(possible))
        rank, place = torch.where(possible, lottery, -1.0).topk(most)  # [K]
        owner, cell = place // self.cells**2, place % self.cells**2
        row, column = cell // self.cells, cell % self.cells
        if self.train_config.stage == "refine":
            logits = branch.draw(prediction.context, owner, row, column)
        else:
            logits = branch.coarse(prediction.context[0], owner, row, column)
        masks = cut_targets(batch.mask, owner, row, column, self.cells, self.config.anchors.stride)
        return mask_loss(logits, masks, (rank >= 0).float())
