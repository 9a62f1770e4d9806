"""What a search may change: the keys of a preset's ``search`` section, and what they mean for a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import PositiveInt, model_validator

from siamtrack.config import Config, validate
from siamtrack.errors import UserError
from siamtrack.models.config import ModelConfig
from siamtrack.tracking.config import TrackingConfig


class Range(Config):
    """Bounds of a real number."""

    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    log: bool = False
    """Whether factors count, not differences."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g} must be above 0 where log is true")
        return self


class SizeRange(Config):
    """Bounds of a side in pixels; of the sizes between them, those that the network takes are tried."""

    low: PositiveInt
    """Smallest side."""
    high: PositiveInt
    """Largest side."""


class LongTermSearch(Config):
    """Parameters of ``tracking.longterm``; none is searched unless given."""

    low: Range | None = None
    """Score below which the object counts as lost."""
    high: Range | None = None
    """Score above which it counts as found again."""
    window_influence: Range | None = None
    """Share of the cosine window while lost."""


class SearchConfig(Config):
    """The parameters that ``siamtrack search`` tries; null for one that keeps its value.

    The defaults hold the grids of PySOT's hp_search (penalty_k .05-.45, window_influence .1-.75, lr .35-.5) and of
    DaSiamRPN's and SiamMask's tuning scripts (0-.25, .36-.51, .25-.55), and the published values of all presets.
    """

    penalty_k: Range | None = Range(low=0, high=0.5)
    """Strength of the penalty on changes of size and ratio."""
    window_influence: Range | None = Range(low=0.1, high=0.8)
    """Share of the cosine window in the ranking of candidates."""
    lr: Range | None = Range(low=0.2, high=0.6)
    """How fast the size follows the prediction."""
    search_size: SizeRange | None = SizeRange(low=239, high=303)
    """Side of the search region; left out where the network runs as ONNX graphs, which take one size."""
    mask_threshold: Range | None = None
    """Probability above which a pixel belongs to the object (networks with masks)."""
    longterm: LongTermSearch | None = None
    """Parameters of the long-term tracker, where the preset has it."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a search."""

    key: str
    """Where it is in the ``tracking`` section, such as lr or longterm.low."""
    low: float
    high: float
    own: float
    """The preset's value."""
    log: bool = False
    step: int | None = None
    """Distance of whole numbers; None for real ones."""

    def __str__(self) -> str:
        kind = f" step {self.step}" if self.step else " log" if self.log else ""
        return f"{self.key} {self.low:g} to {self.high:g}{kind}"


def parameters(config: SearchConfig, tracking: TrackingConfig, model: ModelConfig) -> tuple[Parameter, ...]:
    """Return what is searched of a model.

    Args:
        config: the preset's ``search`` section.
        tracking: the preset's own parameters, from which the search starts.
        model: the network, which decides the sizes of search regions that there are.

    Raises:
        UserError: nothing is left to search, a bound is no valid value, or the preset's own value is out of bounds.
    """
    found = []
    for key in ("penalty_k", "window_influence", "lr", "mask_threshold"):
        bounds = getattr(config, key)
        if bounds:
            found.append(Parameter(key, bounds.low, bounds.high, getattr(tracking, key), bounds.log))
    if config.search_size:
        found += _size(config.search_size, tracking.search_size or model.search_size, model)
    if config.longterm:
        if not tracking.longterm:
            raise UserError("search.longterm is given, but the preset's tracking has no longterm; set both or neither")
        for key in ("low", "high", "window_influence"):
            bounds = getattr(config.longterm, key)
            if bounds:
                own = getattr(tracking.longterm, key)
                found.append(Parameter(f"longterm.{key}", bounds.low, bounds.high, own, bounds.log))
    if not found:
        raise UserError("the preset's search section leaves nothing to search; give at least one parameter bounds")
    for parameter in found:
        for bound in (parameter.low, parameter.high):
            with_values(tracking, {parameter.key: bound})
        if not parameter.low <= parameter.own <= parameter.high:
            raise UserError(
                f"search: {parameter} does not hold the preset's own value {parameter.own:g}, from which the search "
                "starts; widen the bounds, or set tracking to a value inside"
            )
    return tuple(found)


def _size(bounds: SizeRange, own: int, model: ModelConfig) -> list[Parameter]:
    """Return the search region's side as a parameter; nothing if the network takes but one size in the bounds."""
    sizes = [size for size in range(bounds.low, bounds.high + 1) if _fits(model, size)]
    if not sizes:
        raise UserError(f"search.search_size: the network takes no side from {bounds.low} to {bounds.high} pixels")
    if sizes == [own]:
        return []
    step = sizes[1] - sizes[0] if len(sizes) > 1 else 1
    return [Parameter("search_size", sizes[0], sizes[-1], own, step=step)]


def _fits(model: ModelConfig, size: int) -> bool:
    try:
        model.response_cells(size)
    except ValueError:
        return False
    return True


def with_values(tracking: TrackingConfig, values: Mapping[str, float]) -> TrackingConfig:
    """Return the parameters of tracking with some changed; ``values`` by :attr:`Parameter.key`.

    Raises:
        UserError: a value is not allowed.
    """
    merged: dict[str, Any] = tracking.model_dump()
    for key, value in values.items():
        node = merged
        *parents, last = key.split(".")
        for parent in parents:
            node = node[parent]
        node[last] = value
    return validate(TrackingConfig, merged, "search")


def settings(values: Mapping[str, float]) -> list[str]:
    """Return parameters as ``tracking.key=value``, for the command line's --set."""
    return [f"tracking.{key}={value:g}" for key, value in values.items()]
