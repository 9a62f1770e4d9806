"""Parameters of tracking: the keys of a preset's ``tracking`` section."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, PositiveInt, model_validator

from siamtrack.config import Config, merge, validate
from siamtrack.errors import UserError
from siamtrack.models.zoo import Preset


class LongTermConfig(Config):
    """Long-term tracking: a state "lost", with a larger search region (SiamRPN++, section 4.4; DaSiamRPN, 3.4)."""

    low: float = Field(0.85, ge=0, le=1)
    """A score below means lost: the last position is kept."""
    high: float = Field(0.998, ge=0, le=1)
    """A score above means found again."""
    search_sizes: tuple[PositiveInt, ...] = Field((831,), min_length=1)
    """Sides of the search region in the first, second ... frame of a loss, the last for all that follow: one for a
    sudden, several for a growing search (local to global)."""
    window_influence: float = Field(0.001, ge=0, le=1)
    """Takes the place of the short-term value while lost."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}; a lost target could never be found")
        return self


class AdaptiveConfig(Config):
    """A larger search region for small objects (DaSiamRPN, released code)."""

    share: float = Field(0.004, gt=0, lt=1)
    """Objects below this share of the frame's area count as small."""
    search_size: PositiveInt = 287
    """Side of their search region."""


class DistractorConfig(Config):
    """Distractor-aware re-ranking (DaSiamRPN, section 3.3)."""

    strength: float = Field(0.5, ge=0)
    """Weight of the distractors' kernels against the target's (alpha hat)."""
    threshold: float = Field(0.6, ge=0, le=1)
    """Candidates above this share of the best one's rank, and apart from it, are distractors."""
    most: PositiveInt = 3
    """At most so many distractors of a frame, the best ranked."""
    learning_rate: float = Field(0.01, gt=0, lt=0.5)
    """How much later frames weigh more than earlier ones (eta)."""


class TrackingConfig(Config):
    """How a network's responses become a track."""

    penalty_k: float = Field(0.05, ge=0)
    """Strength of the penalty on changes of size and ratio."""
    window_influence: float = Field(0.42, ge=0, le=1)
    """Share of the cosine window in the ranking of candidates: how much a jump is distrusted."""
    lr: float = Field(0.38, ge=0, le=1)
    """How fast the size follows the prediction; scaled by penalty and score."""
    search_size: PositiveInt | None = None
    """Side of the search region in pixels; the network's training size if not given."""
    smallest: float = Field(10, gt=0)
    """Pixels of the frame below which width and height do not shrink, unless the object began smaller."""
    mask_threshold: float = Field(0.3, gt=0, lt=1)
    """Probability above which a pixel belongs to the object (networks with masks)."""
    longterm: LongTermConfig | None = None
    """Recognise a loss and search more widely; without, the tracker is never lost."""
    adaptive: AdaptiveConfig | None = None
    """Choose the search region by the object's size."""
    distractors: DistractorConfig | None = None
    """Learn what looks like the object and is not."""
    legacy: bool = False
    """Calculate as PySOT does, quirks included, to reproduce its numbers (docs/family.md lists the differences)."""


def tracking_config(preset: Preset, over: Mapping[str, Any] | None = None) -> TrackingConfig:
    """Return a preset's parameters of tracking.

    Args:
        preset: its ``tracking`` section is read.
        over: values that take the place of the preset's, section by section; ``--set`` on the command line.

    Raises:
        UserError: a key is unknown, a value does not fit, or the network has no response to a size of search region;
            says whether it is the preset's or of ``over``.
    """
    values = preset.values.get("tracking") or {}
    where = f"{preset.origin}: tracking"
    if over:
        tracking_config(preset)  # what is wrong now is not the preset's
        where = "--set tracking"
    if not isinstance(values, Mapping):
        raise UserError(f"{where} holds {values!r}, expected a section of keys and values")
    config = validate(TrackingConfig, merge(values, over or {}), where)
    sizes = {"search_size": config.search_size or preset.model.search_size}
    if config.adaptive:
        sizes["adaptive.search_size"] = config.adaptive.search_size
    if config.longterm:
        sizes |= {f"longterm.search_sizes[{i}]": size for i, size in enumerate(config.longterm.search_sizes)}
    for key, size in sizes.items():
        try:
            preset.model.response_cells(size)
        except ValueError as error:
            raise UserError(f"{where}: {key}: {error}") from None
    return config
