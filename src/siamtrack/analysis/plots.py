"""How the figures look, and how they are written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from siamtrack.files import atomic

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Of Okabe and Ito's palette for the colour-blind."""
_STYLE: Any = {
    "svg.hashsalt": "siamtrack",  # the same numbers give the same file
    "font.size": 9,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "grid.alpha": 0.2,
    "text.parse_math": False,
}


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of so many inches, in the style of all."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the person has set for plots of their own
        matplotlib.rcParams.update(_STYLE)
        yield Figure(figsize=(width, height), layout="constrained")


def write(drawn: Figure, stem: Path) -> None:
    """Write ``stem``.svg and ``stem``.png, atomically.

    Raises:
        UserError: a file cannot be written.
    """
    for suffix, options in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 150})):
        with matplotlib.rc_context(_STYLE), atomic(stem.with_name(stem.name + suffix)) as temporary:
            drawn.savefig(temporary, **options)
