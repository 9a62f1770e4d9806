"""The roof: how fast a device multiplies at best, and how many products a network needs."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from math import prod
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from siamtrack.benchmark import probe
from siamtrack.config import read_yaml
from siamtrack.models import zoo
from siamtrack.tracking.config import tracking_config
from siamtrack.workers import cores

_SECONDS = 0.2  # that each kind of work is repeated


class Work(NamedTuple):
    """A convolution with padding, of as many channels in as out; with a kernel of 1 a product of matrices."""

    channels: int
    pixels: int
    """A side of what is convolved."""
    kernel: int

    @property
    def products(self) -> int:
        """Multiply-accumulate operations."""
        return (self.channels * self.kernel * self.pixels) ** 2


# What a core holds in its caches is done fastest, and short work is least disturbed by what else a machine does.
_ON_CPU = (Work(128, 32, 3), Work(256, 32, 3), Work(256, 32, 1), Work(512, 32, 1))
_ON_GPU = (Work(512, 256, 3), Work(4096, 128, 1))


def search_gmac(preset: zoo.Preset) -> float | None:
    """Return the billions of multiply-accumulate operations of a search crop; None if that cannot be counted."""
    if find_spec("torch"):
        from siamtrack.models.siamese import check_network, count_gmac

        return count_gmac(check_network(preset.model, preset.origin), _search_size(preset))[1]
    card = zoo.weights(preset.name, ".card.yaml")
    return float(read_yaml(card)["gmac"]["search"]) if card else None


def packed_gmac(model: Any, preset: zoo.Preset) -> float:
    """Return the same for torch's network on a CPU, which computes wide convolutions with fewer products.

    Args:
        model: as :func:`siamtrack.runtimes.onednn.pack` returns it; it runs once.
        preset: of the network.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def count(*shapes: Any, out_shape: Sequence[int], **_: object) -> int:
        """Two operations a product, as torch counts; in the form with a sum its shape stands before the weights'."""
        weight = next(shape for shape in shapes[2:0:-1] if shape is not None and len(shape) == 4)
        return 2 * prod(out_shape) * int(prod(weight[1:]))

    known = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
    z, x = (torch.zeros(1, 3, side, side) for side in (preset.model.template_size, _search_size(preset)))
    with torch.no_grad():
        kernels = model.template(z)
        with FlopCounterMode(display=False, custom_mapping={known: count} if known else {}) as counter:
            model.search(x, kernels)
    return float(counter.get_total_flops()) / 2e9


def _search_size(preset: zoo.Preset) -> int:
    return tracking_config(preset).search_size or preset.model.search_size


def peak_gmac(device: str, precision: str = "fp32", threads: int | None = None) -> dict[str, float]:
    """Return the billions of multiply-accumulate operations a second of dense work on ``device``, by what does it.

    That is the fastest of many calls of convolutions and products of matrices of several sizes. On a CPU ONNX Runtime,
    OpenVINO and torch do them, those that are installed; on a GPU torch. Empty if nothing can.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32`` (without TF32), ``fp16`` (on a CPU bfloat16 where it has that) or, on a CPU, ``int8``.
        threads: of the CPU; None for one a core.
    """
    if device != "cpu":
        return {"torch": _fastest(_by_torch(device, precision), _ON_GPU)} if find_spec("torch") else {}
    count = threads or cores()
    peak = {}
    if precision != "fp16":  # which ONNX Runtime turns into fp32 on a CPU
        peak["onnx"] = _fastest(_by_onnx(precision, count), _ON_CPU)
    if find_spec("openvino"):
        peak["openvino"] = _fastest(_by_openvino(precision, count), _ON_CPU)
    if find_spec("torch") and precision != "int8":
        with _torch_threads(count):
            peak["torch"] = _fastest(_by_torch(device, precision), _ON_CPU)
    return peak


def _by_onnx(precision: str, threads: int) -> Callable[[Work], Callable[[], object]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only

    def prepare(work: Work) -> Callable[[], object]:
        file = probe.convolution(*work, int8=precision == "int8")
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        x = _input(work, precision)
        return lambda: session.run(None, {"x": x})

    return prepare


def _by_openvino(precision: str, threads: int) -> Callable[[Work], Callable[[], object]]:
    import openvino

    core = openvino.Core()
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
    options["INFERENCE_NUM_THREADS"] = threads
    if precision != "fp16":
        options["INFERENCE_PRECISION_HINT"] = "f32"

    def prepare(work: Work) -> Callable[[], object]:
        model = core.read_model(probe.convolution(*work, int8=precision == "int8"))
        request = core.compile_model(model, "CPU", options).create_infer_request()
        x = _input(work, precision)
        return lambda: request.infer([x], share_inputs=True)

    return prepare


def _by_torch(device: str, precision: str) -> Callable[[Work], Callable[[], object]]:
    import torch

    place = torch.device(device)
    half = torch.bfloat16 if device == "cpu" else torch.float16
    kind = half if precision == "fp16" else torch.float32

    def prepare(work: Work) -> Callable[[], object]:
        channels, pixels, kernel = work
        layer = torch.nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False).to(place, kind)
        layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = torch.rand(1, channels, pixels, pixels, device=place, dtype=kind)
        x = x.contiguous(memory_format=torch.channels_last)
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
        matrix = layer.weight.reshape(channels, -1)

        def run() -> None:
            with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
                rows @ matrix if kernel == 1 else layer(x)
                if place.type == "cuda":
                    torch.cuda.synchronize(place)

        return run

    return prepare


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _input(work: Work, precision: str) -> Any:
    return np.ones((1, work.channels, work.pixels, work.pixels), np.uint8 if precision == "int8" else np.float32)


def _fastest(prepare: Callable[[Work], Callable[[], object]], works: Sequence[Work]) -> float:
    """Return the billions of products a second of the fastest of many calls."""
    return max(work.products / _shortest(prepare(work)) / 1e9 for work in works)


def _shortest(run: Callable[[], object]) -> float:
    """Return the seconds of the fastest call."""
    run()  # what is chosen and loaded in a first call
    fastest, until = np.inf, time.perf_counter() + _SECONDS
    while True:
        began = time.perf_counter()
        run()
        ended = time.perf_counter()
        fastest = min(fastest, ended - began)
        if ended > until:
            return fastest
