"""The roof: how fast a device multiplies at best, and how many products a network needs."""

import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from siamtrack.config import read_yaml
from siamtrack.models import zoo
from siamtrack.tracking.config import tracking_config

_SECONDS = 0.5  # that each kind of work is repeated
_SIDE = 1024  # of the matrices
_CHANNELS, _PIXELS = 256, 64  # of the convolution


def search_gmac(preset: zoo.Preset) -> float | None:
    """Return the billions of multiply-accumulate operations of a search crop; None if that cannot be counted.

    They are those of the network as it is written: one that is computed by fewer products may pass the roof.
    """
    if find_spec("torch"):
        from siamtrack.models.siamese import check_network, count_gmac

        size = tracking_config(preset).search_size or preset.model.search_size
        return count_gmac(check_network(preset.model, preset.origin), size)[1]
    card = zoo.weights(preset.name, ".card.yaml")
    return float(read_yaml(card)["gmac"]["search"]) if card else None


def peak_gmac(device: str, half: bool = False) -> dict[str, float]:
    """Return the billions of multiply-accumulate operations a second of dense work on ``device``, by kind of work.

    Products of square matrices, and a 3x3 convolution with packed weights, in float32 without TF32, or float16. Without
    torch, NumPy's product of matrices.
    """
    if not find_spec("torch"):
        matrix = np.random.default_rng(0).random((_SIDE, _SIDE), np.float32)
        return {"matrices (numpy)": _rate(lambda: matrix @ matrix, _SIDE**3)}
    import torch

    place = torch.device(device)
    kind = torch.float16 if half else torch.float32
    scale = 8 if place.type == "cuda" else 1  # more work at once
    side, batch = _SIDE * (4 if scale > 1 else 1), scale * scale
    a = torch.rand(side, side, device=place, dtype=kind)
    layer = torch.nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, bias=False).to(place, kind)
    pixels = torch.rand(batch, _CHANNELS, _PIXELS, _PIXELS, device=place, dtype=kind)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def wait() -> None:
        if place.type == "cuda":
            torch.cuda.synchronize(place)

    def multiply() -> None:
        a @ a
        wait()

    def convolve() -> None:
        layer(pixels)
        wait()

    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return {
            "matrices": _rate(multiply, side**3),
            "convolution": _rate(convolve, batch * _PIXELS**2 * _CHANNELS**2 * 9),
        }


def _rate(work: Callable[[], object], products: int) -> float:
    """Return the billions of products a second of the fastest of several calls."""
    fastest = np.inf
    until = time.perf_counter() + _SECONDS
    while True:
        began = time.perf_counter()
        work()
        ended = time.perf_counter()
        fastest = min(fastest, ended - began)
        if ended > until:
            return products / fastest / 1e9
