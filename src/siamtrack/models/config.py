"""What a network is made of. These classes document the keys of a preset's ``model`` section."""

from typing import Literal, Self

from pydantic import PositiveInt, model_validator

from siamtrack.config import Config


class AnchorConfig(Config):
    """Anchors: one base area, several shapes, at every cell of the response (SiamRPN++, section 3.2)."""

    stride: PositiveInt = 8
    """Pixels of the search region between two cells of the response."""
    ratios: tuple[float, ...] = (0.33, 0.5, 1.0, 2.0, 3.0)
    """Height over width of each anchor."""
    scales: tuple[float, ...] = (8.0,)
    """Side of an anchor of ratio 1, in strides."""

    @property
    def per_cell(self) -> int:
        """Number of anchors at a cell."""
        return len(self.ratios) * len(self.scales)


class BackboneConfig(Config):
    """The trunk, shared by template and search region."""

    name: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    """Architecture."""
    stages: tuple[int, ...] = (3, 4, 5)
    """Which stages are used, counted from 1; one level of the head each."""
    mean: float = 127.0
    """Subtracted from every pixel value (0..255) before the first convolution."""
    std: float = 128.0
    """Divides every pixel value after the mean was subtracted."""


class HeadConfig(Config):
    """The region proposal head: one depth-wise correlation for each level and branch, fused by weights."""

    width: PositiveInt = 128
    """Channels of the adjusted features and of the correlation."""
    separable: bool = False
    """Make each 3x3 convolution before the correlation a depth-wise 3x3 and a 1x1."""


class ModelConfig(Config):
    """A SiamRPN++ network."""

    backbone: BackboneConfig = BackboneConfig()
    head: HeadConfig = HeadConfig()
    anchors: AnchorConfig = AnchorConfig()
    template_size: PositiveInt = 127
    """Side of the template, in pixels."""
    search_size: PositiveInt = 255
    """Side of the search region, in pixels."""
    template_cells: PositiveInt = 7
    """Template features are cut to this many central cells a side, against the padding's influence."""

    def response_cells(self, search_size: int) -> int:
        """Return the cells a side of the response to a search region of ``search_size`` pixels.

        The trunk makes (size - 7) / stride cells; 3x3 convolutions without padding take one cell from each
        border of both inputs, and the correlation one less than the template's remaining cells.
        """
        return (search_size - 7) // self.anchors.stride - self.template_cells + 1

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        stride = self.anchors.stride
        for name, size in (("template_size", self.template_size), ("search_size", self.search_size)):
            if (size - 7) % stride or (size - 7) // stride % 2 == 0:
                raise ValueError(
                    f"{name} {size} does not fit stride {stride}: (size - 7) / stride must be a whole, odd number, "
                    f"so that a cell lies in the middle (127 and 255 do)"
                )
        if self.response_cells(self.search_size) < 1:
            raise ValueError(f"search_size {self.search_size} is too small for template_cells {self.template_cells}")
        return self
