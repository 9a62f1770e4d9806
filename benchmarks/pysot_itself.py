"""PySOT itself as a reference to time beside: its own network, tracker and parameters, from a checkout of its code.

git clone https://github.com/STVIR/pysot && pip install yacs; then --pysot pysot in eager.py and gpu_step.py.

Its code runs as it is but for two lookups of its polygon code (:func:`_mend`), which fail with the NumPy and OpenCV of
today. The weights are those of the network of the same name here, so that boxes can be compared.
"""

import sys
import types
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from siamtrack.models.pysot import our_name
from siamtrack.models.siamese import SiameseRPN

EXPERIMENTS = {
    "siamrpn_alexnet_dw": "siamrpn_alex_dwxcorr",
    "siamrpnpp_mobilenetv2": "siamrpn_mobilev2_l234_dwxcorr",
    "siamrpnpp_resnet50": "siamrpn_r50_l234_dwxcorr",
    "siammask_resnet50": "siammask_r50_l3",
}
"""PySOT's experiment of each preset that is the same network with the same parameters of tracking."""


class Pysot:
    """PySOT's tracker of one target.

    Args:
        folder: the checkout.
        name: preset, of :data:`EXPERIMENTS`.
        model: gives the weights; copied.
        device: "cpu", or "cuda": PySOT knows the current GPU alone.
        gradients: record the graph for them in every frame, as PySOT's own scripts do.

    Raises:
        SystemExit: there is no PySOT in the folder, or yacs is missing.
    """

    def __init__(self, folder: Path, name: str, model: SiameseRPN, device: str, gradients: bool) -> None:
        experiment = folder / "experiments" / EXPERIMENTS[name] / "config.yaml"
        if not experiment.is_file():
            raise SystemExit(f"{experiment} is missing; give --pysot a checkout of github.com/STVIR/pysot")
        for module in [module for module in sys.modules if module.split(".")[0] == "pysot"]:
            del sys.modules[module]  # its configuration is global: each tracker gets modules of its own
        sys.path.insert(0, str(folder.resolve()))
        try:
            config = import_module("pysot.core.config").cfg
            build_model = import_module("pysot.models.model_builder").ModelBuilder
            build_tracker = import_module("pysot.tracker.tracker_builder").build_tracker
        except ModuleNotFoundError as error:
            raise SystemExit(f"PySOT in {folder} does not load: {error}; it needs yacs") from None
        finally:
            sys.path.remove(str(folder.resolve()))
        _mend(sys.modules["pysot.tracker.siammask_tracker"])
        config.merge_from_file(str(experiment))
        config.CUDA = device != "cpu"
        network, ours = build_model(), model.state_dict()
        network.load_state_dict({key: ours[our_name(key)] for key in network.state_dict()})
        self._tracker = build_tracker(network.to(device))
        self._context: Any = nullcontext if gradients else torch.no_grad

    def init(self, image: np.ndarray, box: np.ndarray) -> None:
        """Begin anew. Shapes: image [H, W, 3], BGR; box [4] as x, y, w, h in pixels."""
        with self._context():
            self._tracker.init(image, box.tolist())

    def track(self, image: np.ndarray) -> dict[str, Any]:
        """Return what PySOT's ``track()`` does: bbox, best_score, and with masks mask and polygon in the frame."""
        with self._context():
            found: dict[str, Any] = self._tracker.track(image)
        return found


def _mend(module: Any) -> None:
    """Give a module back ``np.float``, and an OpenCV version by which it expects two values of ``findContours``."""
    module.np = types.SimpleNamespace(**(vars(np) | {"float": float}))
    module.cv2 = types.SimpleNamespace(**(vars(cv2) | {"__version__": "4.0.0"}))
