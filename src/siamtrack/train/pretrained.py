"""What a trunk starts from."""

from pathlib import Path

from siamtrack.errors import UserError
from siamtrack.models.backbones.efficientnet import EfficientNetLite0
from siamtrack.models.backbones.resnet import ResNet
from siamtrack.models.pysot import our_name, read_checkpoint
from siamtrack.models.siamese import Backbone


def load_backbone(backbone: Backbone, source: str) -> None:
    """Load pre-trained weights into ``backbone``.

    Args:
        backbone: changed in place.
        source: ``imagenet`` for EfficientNet-Lite0, whose weights come from a package; else a checkpoint in
            torchvision's layout (ResNet), or with PySOT's names of the trunk (the others).

    Raises:
        UserError: the file cannot be used, or its entries do not fit.
    """
    if source == "imagenet":
        if not isinstance(backbone, EfficientNetLite0):
            raise UserError(
                "train.pretrained imagenet is for efficientnet_lite0; for this trunk name a file of weights"
            )
        backbone.load_imagenet()
        return
    tensors = read_checkpoint(Path(source))
    try:
        if isinstance(backbone, ResNet):
            backbone.load_torchvision(tensors)
            return
        renamed = {our_name(f"backbone.{name}").removeprefix("backbone."): value for name, value in tensors.items()}
        wanted = backbone.state_dict()
        backbone.load_state_dict({name: renamed.get(name, value) for name, value in wanted.items()})
        missing = [name for name in wanted if name not in renamed and not name.endswith("num_batches_tracked")]
        if missing:
            raise ValueError(f"they lack {missing[0]!r}")
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{source} does not fit the trunk: {str(error).splitlines()[-1].strip()}") from None
