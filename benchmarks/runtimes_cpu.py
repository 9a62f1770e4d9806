"""One search with each runtime on a CPU, networks of made-up weights: the table in docs/export.md.

python benchmarks/runtimes_cpu.py siamrpn_alexnet_dw siamrpnpp_mobilenetv2 [--threads 2] [--calls 12]

The runtimes take turns; a row is a model, with the milliseconds of plain eager torch (nothing folded or packed) and how
many times faster the others are.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from siamtrack.models import zoo
from siamtrack.models.prediction import Prediction
from siamtrack.models.siamese import SiameseRPN
from siamtrack.runtimes.export import export_onnx
from siamtrack.runtimes.onnx_runtime import OnnxNetwork
from siamtrack.runtimes.openvino_runtime import OpenVinoNetwork
from siamtrack.runtimes.torch_runtime import TorchNetwork
from siamtrack.tracking.core import to_numpy
from siamtrack.tracking.network import Array, Patches


class Eager:
    """The modules as they are trained."""

    def __init__(self, model: SiameseRPN) -> None:
        self._model = model

    @torch.inference_mode()
    def template(self, patches: Patches) -> tuple[Array, ...]:
        """Shape: patches [1, T, T, 3]."""
        return self._model.template(torch.from_numpy(patches).permute(0, 3, 1, 2).float())

    @torch.inference_mode()
    def search(self, patches: Patches, kernels: tuple[Array, ...]) -> Prediction:
        """Shape: patches [1, S, S, 3]."""
        return self._model.search(torch.from_numpy(patches).permute(0, 3, 1, 2).float(), kernels)


def main() -> None:
    """Export and time each model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--calls", type=int, default=12)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rng = np.random.default_rng(0)
    for name in given.models:
        preset = zoo.load(name)
        torch.manual_seed(0)
        model, config = SiameseRPN(preset.model).eval(), preset.model
        z, x = (
            rng.integers(0, 255, (1, side, side, 3), np.uint8) for side in (config.template_size, config.search_size)
        )
        with TemporaryDirectory() as folder:
            stem = Path(folder) / name
            began = time.perf_counter()
            export_onnx(model, preset, stem)
            exporting = time.perf_counter() - began
            networks = {
                "eager": Eager(model),
                "torch": TorchNetwork(model),
                "onnx": OnnxNetwork(stem, given.threads),
                "openvino": OpenVinoNetwork(stem, given.threads, ".onnx"),
            }
        kernels = {key: network.template(z) for key, network in networks.items()}
        seconds: dict[str, list[float]] = {key: [] for key in networks}
        for _ in range(given.calls):
            for key, network in networks.items():
                time.sleep(0.02)  # the threads of the one before it stop waiting for work
                to_numpy(network.search(x, kernels[key]).cls)  # the caches are its own now
                began = time.perf_counter()
                to_numpy(network.search(x, kernels[key]).cls)
                seconds[key].append(time.perf_counter() - began)
        for what, summary in (("median", np.median), ("fastest", np.min)):
            best = {key: float(summary(values)) for key, values in seconds.items()}
            ratios = ", ".join(f"{key} {best['eager'] / value:.2f}x" for key, value in best.items() if key != "eager")
            print(f"{name}: eager torch {best['eager'] * 1e3:.1f} ms ({what}); {ratios}; exported in {exporting:.0f} s")


if __name__ == "__main__":
    main()
