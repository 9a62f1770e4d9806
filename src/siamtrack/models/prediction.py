"""What a network says of a search region. Needs no torch."""

from typing import Any, NamedTuple


class Prediction(NamedTuple):
    """The response to B search regions; arrays of the namespace in which the network computes."""

    cls: Any
    """[B, 2 A, m, m] logits: A background channels, then A foreground."""
    loc: Any
    """[B, 4 A, m, m] box offsets: A channels each of dx, dy, dw, dh."""
    context: tuple[Any, ...] = ()
    """What the mask branch needs to draw a mask afterwards; empty without one."""
