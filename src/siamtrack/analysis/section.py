"""What a figure says of itself on the page."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Section:
    """Words and a table beside a figure."""

    title: str
    question: str
    """What the paper says, and where."""
    method: str
    """What was measured."""
    findings: list[str]
    """What the numbers say, a sentence each."""
    columns: list[str]
    rows: list[list[str]]


def spread(values: ArrayLike, digits: int = 3) -> str:
    """Return the mean, and with several values their standard deviation (of the sample); a dash for NaN."""
    each = np.asarray(values, float)
    if np.isnan(each).any():
        return "-"
    text = f"{each.mean():.{digits}f}"
    return text if each.size < 2 else f"{text} ± {each.std(ddof=1):.{digits}f}"


def deviation(values: ArrayLike) -> float:
    """Return the standard deviation of a sample, 0 of a single value."""
    each = np.asarray(values, float)
    return float(each.std(ddof=1)) if each.size > 1 else 0.0
