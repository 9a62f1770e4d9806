"""Any convolutional model of timm as a trunk of stride 8 (extra ``siamtrack[timm]``)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from siamtrack.errors import UserError


class TimmBackbone(nn.Module):
    """A model of timm, dilated to stride 8.

    timm's strided layers see pixel 8 i, PySOT's pixel 8 i + 7; a border of one pixel at the left and top, and the first
    row and column of cells left out, make the two the same.

    Args:
        model: timm's name of the model.
        stages: which of its features are returned, counted as timm does; all must have stride 8.

    Raises:
        UserError: timm is not installed, does not know the model, or cannot dilate it to stride 8.
    """

    def __init__(self, model: str, stages: Sequence[int]) -> None:
        super().__init__()
        try:
            import timm
        except ImportError:
            raise UserError("backbone timm needs the package timm; pip install 'siamtrack[timm]'") from None
        try:
            self.model = timm.create_model(model, features_only=True, output_stride=8, out_indices=tuple(stages))
        except (RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"timm cannot make {model!r} with stride 8: {error}") from None
        strides = self.model.feature_info.reduction()
        if set(strides) != {8}:
            raise UserError(f"stages {tuple(stages)} of {model} have strides {strides}; choose stages of stride 8")
        self.channels = tuple(self.model.feature_info.channels())

    def stages(self) -> dict[int, nn.Module]:
        """Return the whole model as stage 1, for timm's models have no common structure."""
        return {1: self.model}

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of the chosen stages.

        Shapes: x [B, 3, S, S] with S = 8 n + 7; result: [B, channels, n, n] each.
        """
        features = self.model(functional.pad(x, (1, 0, 1, 0)))
        return [feature[..., 1:, 1:] for feature in features]
