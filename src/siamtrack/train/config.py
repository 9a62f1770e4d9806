"""Parameters of training: the keys of a preset's ``train`` section."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from siamtrack.config import Config
from siamtrack.data.loader import Cache
from siamtrack.data.pairs import SamplingConfig
from siamtrack.data.targets import TargetConfig
from siamtrack.models.losses import LossConfig


class DataConfig(Config):
    """Where the pictures are."""

    root: str = ""
    """The training data: an index made by ``siamtrack data index``, or a folder of index.jsonl and tar files."""
    canvas: PositiveInt = 384
    """A picture is kept whole if its sides have at most this many pixels. Of a larger one a window about each object is
    kept, scaled down to this size where it is larger."""
    cache: Cache = "auto"
    """Where decoded windows are kept: ``device`` (the GPU's memory), ``memory``, ``disk``, ``none`` (decoded for each
    batch), or ``auto``, the first of these that has room. The batches are the same."""
    cache_folder: str = ""
    """Where windows on disk are; ``~/.cache/siamtrack`` unless given."""
    workers: PositiveInt = 4
    """Threads that prepare batches."""
    holdout: tuple[str, ...] = ()
    """Sources and videos that are left out of training; their tracks validate it."""


class OptimizerConfig(Config):
    """How weights are changed."""

    name: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, as SiamRPN++ uses, or AdamW."""
    lr: float = Field(0.005, gt=0)
    """Learning rate of neck and head after the warm-up."""
    lr_end: float = Field(0.0005, gt=0)
    """Learning rate of neck and head at the end; it falls there exponentially."""
    warmup_steps: NonNegativeInt = 500
    """Steps over which the rate rises exponentially to ``lr``."""
    warmup_from: float = Field(0.2, gt=0, le=1)
    """The rate of the first step, as a share of ``lr``."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD."""
    weight_decay: float = Field(1e-4, ge=0)
    """Weight decay of all trained weights."""
    clip: float = Field(10.0, gt=0)
    """Largest norm of the gradient."""
    backbone_lr: float = Field(0.1, ge=0)
    """The trunk's rate as a share of the head's."""
    backbone_stages: tuple[NonNegativeInt, ...] = (4, 5)
    """Stages of the trunk that are trained."""
    backbone_from: float = Field(0.5, ge=0, le=1)
    """Share of the steps after which the trunk is trained; before that it is frozen."""
    backbone_batch_norm: bool = False
    """Whether the trunk's batch norm goes on collecting statistics in the trained stages."""


class ValidationConfig(Config):
    """How training is watched: tracking runs with the averaged weights. May change within a run."""

    every: PositiveInt = 1000
    """Steps between validations."""
    sequences: str = ""
    """A folder of sequences (img/ and groundtruth.txt each) to track; used besides the held-out tracks."""
    names: tuple[str, ...] = ()
    """Which of these sequences; empty for all."""
    frames: PositiveInt = 150
    """At most so many frames of a sequence."""


class TrainConfig(Config):
    """One training run."""

    data: DataConfig = DataConfig()
    sampling: SamplingConfig = SamplingConfig()
    targets: TargetConfig = TargetConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    validation: ValidationConfig = ValidationConfig()
    stage: Literal["all", "refine"] = "all"
    """``all``: boxes and, with a mask branch, its coarse masks. ``refine``: only the mask branch, by its refined masks
    (SiamMask's second stage); everything else keeps the weights of ``start``."""
    start: str = ""
    """A .safetensors file to start from, instead of random weights and ``pretrained``."""
    pretrained: str = ""
    """Weights that the trunk starts from: ``imagenet`` (efficientnet_lite0 only, from a package), or a file: a state
    dict in torchvision's layout (ResNet), or with the trunk's own names (AlexNet, MobileNetV2)."""
    steps: PositiveInt = 4000
    """Steps of the optimizer."""
    batch: PositiveInt = 128
    """Pairs a step, of all processes together."""
    accumulate: PositiveInt = 1
    """Parts that a process computes its pairs of a step in, one after the other, where memory is short. Their gradients
    are averaged like those of processes."""
    masks_per_pair: PositiveInt = 4
    """At most so many cells of a pair, on average, give a mask loss."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Decides all that is random."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Precision of convolutions on a GPU (autocast); a CPU always computes in fp32."""
    channels_last: bool = False
    """Keep images with the channels innermost, which tensor cores prefer."""
    compile: bool = False
    """Compile the network with torch.compile."""
    sync_batch_norm: bool = False
    """Let batch norm see the pairs of all GPUs together."""
    guard: PositiveInt = 10
    """So many steps in a row whose gradient is not finite end the run; fewer are skipped and counted."""
    average: float = Field(0.998, ge=0, lt=1)
    """Decay of the moving average of weights that is validated and saved; 0 for none."""
    log_every: PositiveInt = 50
    """Steps between lines of the log."""
    checkpoint_every: PositiveInt = 1000
    """Steps between checkpoints."""
