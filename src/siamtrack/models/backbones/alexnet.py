"""AlexNet without padding: the trunk of SiamRPN and DaSiamRPN (SiamFC, Bertinetto et al., 2016, table 1)."""

from torch import Tensor, nn

# Stage: kernel, stride, channels, pooled, ReLU.
_STAGES = ((11, 2, 96, True, True), (5, 1, 256, True, True), (3, 1, 384, False, True), (3, 1, 384, False, True))
_LAST = (3, 1, 256, False, False)


class AlexNet(nn.Module):
    """Five convolutions of stride 8 together, each with batch norm; pooling comes before the ReLU, as in PySOT.

    Args:
        width: multiplies the channels (DaSiamRPN's big model has 2).
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        inputs = 3
        for number, (kernel, stride, outputs, pooled, activated) in enumerate((*_STAGES, _LAST), 1):
            outputs = int(outputs * width)
            layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs)]
            if pooled:
                layers.append(nn.MaxPool2d(3, 2))
            if activated:
                layers.append(nn.ReLU(inplace=True))
            self.add_module(f"layer{number}", nn.Sequential(*layers))
            inputs = outputs
        self.channels = (inputs,)

    def stages(self) -> dict[int, nn.Module]:
        """Return the stages by number."""
        return {number: getattr(self, f"layer{number}") for number in range(1, 6)}

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the last stage's features.

        Shapes: x [B, 3, S, S]; result: one [B, 256 width, n, n], n = (S - 87) / 8 + 1 rounded down (127: 6, 255: 22).
        """
        for stage in self.stages().values():
            x = stage(x)
        return [x]
