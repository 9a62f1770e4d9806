"""What a network is made of. These classes document the keys of a preset's ``model`` section."""

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from siamtrack.config import Config


class AnchorConfig(Config):
    """Anchors: one base area, several shapes, at every cell of the response (SiamRPN++, section 3.2)."""

    ratios: tuple[PositiveFloat, ...] = Field((0.33, 0.5, 1.0, 2.0, 3.0), min_length=1)
    """Height over width of each anchor."""
    scales: tuple[PositiveFloat, ...] = Field((8.0,), min_length=1)
    """Side of an anchor of ratio 1, in strides."""

    @property
    def stride(self) -> int:
        """Pixels of the search region between two cells of the response: that of every trunk here."""
        return 8

    @property
    def per_cell(self) -> int:
        """Number of anchors at a cell."""
        return len(self.ratios) * len(self.scales)


# The first stage of stride 8, and the last stage.
_STAGES = {
    "alexnet": (5, 5),
    "efficientnet_lite0": (3, 5),
    "mobilenetv2": (3, 7),
    "resnet18": (2, 4),
    "resnet34": (2, 4),
    "resnet50": (2, 4),
}


class BackboneConfig(Config):
    """The trunk, shared by template and search region."""

    name: Literal["efficientnet_lite0", "alexnet", "resnet18", "resnet34", "resnet50", "mobilenetv2", "timm"]
    """Architecture."""
    stages: tuple[NonNegativeInt, ...] = Field(min_length=1)
    """The stages whose features the head correlates, one level each (PySOT's used_layers)."""
    width: float = Field(1.0, gt=0)
    """Multiplies the channels of alexnet and mobilenetv2."""
    model: str = ""
    """Name of the model, if ``name`` is timm."""
    mean: float = 0.0
    """Subtracted from every pixel value (0..255) before the first convolution."""
    std: float = Field(1.0, gt=0)
    """Divides every pixel value after the mean was subtracted."""

    @model_validator(mode="after")
    def _stages_exist(self) -> Self:
        if (self.name == "timm") != bool(self.model):
            raise ValueError("key 'model' names timm's model: give it if name is timm, and only then")
        if list(self.stages) != sorted(set(self.stages)):
            raise ValueError(f"stages {self._shown()} must be rising")
        if self.width != 1 and self.name not in ("alexnet", "mobilenetv2"):
            raise ValueError(f"width {self.width:g}: {self.name} has no width to choose; leave it out")
        if self.width < 0.1:
            raise ValueError(f"width {self.width:g} leaves no channels; give at least 0.1")
        if self.name != "timm":
            first, last = _STAGES[self.name]
            if max(self.stages) > last or min(self.stages) < 1:
                raise ValueError(f"stages {self._shown()}: {self.name} has 1 to {last}")
            if min(self.stages) < first:
                stride = 4 if min(self.stages) == first - 1 else 2
                raise ValueError(
                    f"stage {min(self.stages)} of {self.name} has stride {stride}; the head needs 8: {first}.."
                )
        return self

    def _shown(self) -> str:
        return ", ".join(map(str, self.stages))


class HeadConfig(Config):
    """The region proposal head: correlation of template and search features for each level, fused."""

    kind: Literal["depthwise", "upchannel"] = "depthwise"
    """Depth-wise correlation (SiamRPN++, section 3.4), or up-channel correlation (SiamRPN, section 3.2)."""
    widths: tuple[PositiveInt, ...] = Field(min_length=1)
    """Channels of each level's features in the head, and of the correlation."""
    adjust: bool = True
    """Bring the trunk's levels to ``widths`` by 1x1 convolutions and cut the template to its centre; without, the
    trunk's features are used as they are."""
    weighted: bool = False
    """Fuse levels by learned weights, separate for classification and regression, instead of their mean."""
    separable: bool = False
    """Make each 3x3 convolution before the correlation a depth-wise 3x3 and a 1x1."""


class ModelConfig(Config):
    """A Siamese region proposal network."""

    backbone: BackboneConfig
    head: HeadConfig
    mask: bool = False
    """Add SiamMask's branch, refined by the trunk's finer stages (Wang et al., CVPR 2019); for ResNets and
    EfficientNet-Lite0."""
    anchors: AnchorConfig = AnchorConfig()
    template_size: PositiveInt = 127
    """Side of the template, in pixels."""
    search_size: PositiveInt = 255
    """Side of the search region in training, in pixels; tracking may use another."""
    base_size: NonNegativeInt = 8
    """Cells that padding adds to the response: 8 for padded trunks whose template is cut, 0 for AlexNet."""
    template_cells: int = Field(7, ge=3, le=15)
    """Template features are cut to this many central cells a side, against the padding's influence."""

    def response_cells(self, search_size: int) -> int:
        """Return the cells a side of the response to a search region of ``search_size`` pixels.

        Raises:
            ValueError: there is no whole, odd number of cells.
        """
        stride = self.anchors.stride
        cells, rest = divmod(search_size - self.template_size, stride)
        cells += 1 + self.base_size
        if rest or cells % 2 == 0 or cells < 1:
            raise ValueError(
                f"search_size {search_size}, template_size {self.template_size} and stride {stride} do not fit: "
                f"(search_size - template_size) / stride + 1 + base_size ({self.base_size}) must be a whole, odd "
                f"number of cells, so that one is in the middle (255, 127 and 8 do)"
            )
        return cells

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.response_cells(self.search_size)
        if self.template_cells % 2 == 0:
            raise ValueError(f"template_cells {self.template_cells} must be odd, so that one is in the middle")
        if self.head.adjust and self.base_size + self.template_cells != 15:
            raise ValueError(
                f"base_size {self.base_size} and template_cells {self.template_cells} do not fit: a template of 15 "
                "cells that is cut leaves base_size = 15 - template_cells"
            )
        levels, widths = len(self.backbone.stages), len(self.head.widths)
        if levels != widths:
            raise ValueError(f"head.widths has {widths} levels, backbone.stages {levels}; give one width a stage")
        if not self.head.adjust and self.backbone.name != "alexnet":
            raise ValueError("head.adjust: false is for alexnet, whose features are used without padding's border")
        if self.mask and not self.backbone.name.startswith(("resnet", "efficientnet")):
            raise ValueError(f"mask needs a ResNet or EfficientNet-Lite0 for its trunk, not {self.backbone.name}")
        if self.head.kind == "upchannel" and levels != 1:
            raise ValueError("head.kind upchannel works on one level of the trunk; give one stage and one width")
        return self
