"""From the network's response to candidates: a box and a score for each anchor. Written for any array API."""

from typing import NamedTuple

from array_api_compat import array_namespace

from siamtrack.tracking.network import Array


class Candidates(NamedTuple):
    """One candidate for each of N anchors of B targets, in pixels of the search region about its centre."""

    boxes: Array
    """[B, N, 4] as cx, cy, w, h."""
    scores: Array
    """[B, N] probability of foreground, 0..1."""


def decode(cls: Array, loc: Array, anchors: Array) -> Candidates:
    """Return the candidates in a response (Faster R-CNN's box code; SiamRPN, section 3.2).

    Shapes: cls [B, 2 A, m, m] logits, A background channels before A foreground; loc [B, 4 A, m, m], A channels
    each of dx, dy, dw, dh; anchors [N, 4] as cx, cy, w, h with N = A m m.
    """
    xp = array_namespace(cls, loc)
    batch = cls.shape[0]
    background, foreground = _split(xp, cls, 2, batch)
    dx, dy, dw, dh = _split(xp, loc, 4, batch)
    cx, cy, w, h = (anchors[:, index] for index in range(4))
    # A wild regression must not overflow; 55 anchors, or a 55th of one, is beyond any search region or object.
    # Methods named clip, which NumPy and torch share, cost a fraction of the namespace's function.
    boxes = [dx * w + cx, dy * h + cy, xp.exp(dw.clip(-4.0, 4.0)) * w, xp.exp(dh.clip(-4.0, 4.0)) * h]
    scores = 1 / (1 + xp.exp((background - foreground).clip(-80.0, 80.0)))  # softmax over the two classes
    # Each of the four lies in one piece, for what is computed from it next.
    return Candidates(xp.moveaxis(xp.stack(boxes, axis=1), 1, -1), scores)


def _split(xp: Array, response: Array, parts: int, batch: int) -> list[Array]:
    """Split [B, parts A, m, m] into ``parts`` arrays [B, A m m]."""
    grouped = xp.reshape(response, (batch, parts, -1))  # [B, parts, A m m]
    return [grouped[:, index] for index in range(parts)]
