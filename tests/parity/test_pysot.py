"""PySOT's recorded outputs, which do not travel with the project: networks, crops, and whole runs in legacy mode."""

import os
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from siamtrack.models import pysot
from siamtrack.models.siamese import SiameseRPN
from siamtrack.runtimes.torch_runtime import TorchNetwork
from siamtrack.tracking.config import tracking_config
from siamtrack.tracking.core import TrackerCore
from siamtrack.tracking.crop import context_side, crop
from siamtrack.tracking.mask import rotated_rectangle
from tests.conftest import DATA
from tests.parity.made_up import tensor

GOLDEN = DATA.parent / "golden"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"needs PySOT's recorded outputs in {GOLDEN}")

# PySOT's configuration, our preset, and how many frames are compared (all that are recorded, where that is quick).
RUNS = [
    ("siamrpn_alex_dwxcorr", "siamrpn_alexnet_dw", 195),
    ("siamrpn_mobilev2_l234_dwxcorr", "siamrpnpp_mobilenetv2", 40),
    ("siamrpn_r50_l234_dwxcorr", "siamrpnpp_resnet50", 20),
    ("siamrpn_r50_l234_dwxcorr_lt", "siamrpnpp_resnet50_lt", 4),
    ("siamrpn_r50_l234_dwxcorr_lt_switch", "siamrpnpp_resnet50_lt", 10),
    ("siammask_r50_l3", "siammask_resnet50", 30),
]


def shapes(config: str) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes in a keys_ file."""
    found = re.findall(r"^(\S+) \(([\d, ]*)\)$", (GOLDEN / f"keys_{config}.txt").read_text(), re.M)
    return {name: tuple(int(part) for part in numbers.split(",") if part.strip()) for name, numbers in found}


def checkpoint(config: str, recorded) -> dict[str, torch.Tensor]:
    """Return the made-up checkpoint that the recorded outputs belong to."""
    values = {}
    for name, shape in shapes(config).items():
        if name.endswith("num_batches_tracked"):
            values[name] = torch.zeros(shape, dtype=torch.long)
        elif "running_" in name:
            values[name] = torch.from_numpy(recorded[f"bn::{name}"])
        else:
            values[name] = tensor(name, shape)
    return values


@pytest.fixture(scope="module")
def clip():
    capture, frames = cv2.VideoCapture(str(GOLDEN / "bag.avi")), []
    while True:
        read, frame = capture.read()
        if not read:
            return frames
        frames.append(frame)


@pytest.fixture(scope="module", params=RUNS, ids=lambda run: run[0])
def run(request):
    name, preset, frames = request.param
    if os.environ.get("SIAMTRACK_WHOLE_CLIP"):  # many minutes on a CPU
        frames = 1000
    recorded = np.load(GOLDEN / f"{name}.npz")
    converted = pysot.convert(checkpoint(name.removesuffix("_switch"), recorded), GOLDEN / name)
    assert converted.preset.name == preset
    model = SiameseRPN(converted.preset.model)
    model.load_state_dict(converted.tensors, strict=False)
    tracking = tracking_config(converted.preset).model_copy(update={"legacy": True})
    if "confidence_low_high" in recorded:
        low, high = map(float, recorded["confidence_low_high"])
        longterm = tracking.longterm.model_copy(update={"low": low, "high": high})
        tracking = tracking.model_copy(update={"longterm": longterm})
    return recorded, TorchNetwork(model), converted.preset.model, tracking, frames, model.eval()


@pytest.mark.parametrize("config", sorted(path.stem[5:] for path in GOLDEN.glob("keys_*.txt")))
def test_every_entry_has_its_place(config):
    """Names map one to one, with the same shapes, in both namings of AlexNet."""
    wanted = shapes(config)
    zeros = {name: torch.zeros(shape) for name, shape in wanted.items()}
    converted = pysot.convert(zeros, GOLDEN / config)
    with torch.device("meta"):
        model = SiameseRPN(converted.preset.model)
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    mapped = {pysot.our_name(name): shape for name, shape in wanted.items()}
    assert len(mapped) == len(wanted)
    assert mapped == {name: shape for name, shape in ours.items() if name in mapped}
    assert {name for name in ours if name not in mapped} == set()


def test_crops_are_identical(run, clip):
    recorded, _, model, *_ = run
    x, y, w, h = recorded["init"]
    center, size = np.array([[x + (w - 1) / 2, y + (h - 1) / 2]]), np.array([[w, h]])
    fill = np.array([cv2.mean(clip[0])[:3]]).astype(np.uint8)
    side = context_side(size)
    (z_size, z_side), (x_size, x_side) = recorded["crop_sizes"]
    assert (z_size, z_side) == (model.template_size, round(side[0]))
    assert np.array_equal(crop(clip[:1], center, side, z_size, fill, legacy=True)[0], recorded["z_crop"])
    assert round(side[0] * x_size / z_size) == x_side
    region = crop(clip[1:2], center, side * x_size / z_size, x_size, fill, legacy=True)[0]
    assert np.array_equal(region, recorded["x_crop"])


@torch.inference_mode()
def test_networks_agree(run):
    recorded, *_, module = run
    z, x = (torch.from_numpy(recorded[name][None]).permute(0, 3, 1, 2).float() for name in ("z_crop", "x_crop"))
    prediction = module.search(x, module.template(z))
    assert distance(prediction, recorded) < 1e-4


# Folding batch norm rounds in other places than PySOT does. The recorded values themselves are up to 1.2e-4
# (MobileNetV2) and 8e-5 (ResNet-50, three levels) from those in float64, ours are no further, and so up to 1.7e-4 and
# 1.4e-4 lie between them; in all others less than 1e-4.
FOLDED = {
    "siamrpn_mobilev2_l234_dwxcorr": 3e-4,
    "siamrpn_r50_l234_dwxcorr": 2e-4,
    "siamrpn_r50_l234_dwxcorr_lt": 2e-4,
    "siamrpn_r50_l234_dwxcorr_lt_switch": 2e-4,
}


def test_networks_agree_as_they_run(run, request):
    recorded, network, *_ = run
    prediction = network.search(recorded["x_crop"][None], network.template(recorded["z_crop"][None]))
    assert distance(prediction, recorded) < FOLDED.get(request.node.callspec.params["run"][0], 1e-4)


def distance(prediction, recorded) -> float:
    """Return the largest difference from the recorded response, as a share of its largest value."""
    pairs = ((prediction.cls, recorded["cls"]), (prediction.loc, recorded["loc"]))
    return max(float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()) for ours, theirs in pairs)


def rounding_tie(state, model, tracking) -> bool:
    """Return whether a hundredth of a pixel decides how PySOT rounds the search region's side or corner."""
    side = context_side(state.size)[0] * (tracking.search_size or model.search_size) / model.template_size
    corner = state.center[0] - round(side) / 2
    return abs(side % 1 - 0.5) < 0.01 or (np.abs(corner - np.rint(corner)) < 0.01).any()


def test_runs_agree(run, clip):
    """Where PySOT's own rounding of the search region hangs on the last digits, the run goes on from its answer."""
    recorded, network, model, tracking, frames, _ = run
    core = TrackerCore(network, model, tracking)
    state = core.init(clip[:1], recorded["init"][None])
    ties = 0
    for number in range(min(frames, len(recorded["bbox"]))):
        before = state
        state, found = core.step([clip[number + 1]], state)
        x, y, w, h = recorded["bbox"][number].astype(float)
        if number >= 20 and np.abs(found.boxes[0] - (x, y, w, h)).max() >= 0.01 and not tracking.longterm:
            assert rounding_tie(before, model, tracking), number
            ties += 1
            state = replace(state, center=np.array([[x + w / 2, y + h / 2]]), size=np.array([[w, h]]))
            continue
        assert np.abs(found.boxes[0] - recorded["bbox"][number]).max() < 0.01, number
        assert found.scores[0] == pytest.approx(recorded["score"][number], abs=1e-4), number
        if "longterm_state" in recorded:
            assert int(found.lost[0]) == recorded["longterm_state"][number], number
        if found.masks:
            assert found.masks[0].sum() == pytest.approx(recorded["mask_sum"][number], rel=1e-4), number
            corners = rotated_rectangle(found.masks[0] > tracking.mask_threshold, found.boxes[0])
            theirs = recorded["polygon"][number].reshape(4, 2)
            nearest = np.linalg.norm(corners[:, None] - theirs[None], axis=2).min(1)  # whichever corner comes first
            assert nearest.max() < 0.5, number
    assert ties <= 2
