"""``siamtrack benchmark`` with few frames, and its parts with made-up contenders."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from siamtrack.benchmark import probe, roof, run
from siamtrack.benchmark.contenders import Label, Ours, Parts
from siamtrack.benchmark.measure import Row, time_in_turn
from siamtrack.benchmark.memory import peak_memory
from siamtrack.benchmark.plot import draw
from siamtrack.benchmark.roof import packed_gmac, peak_gmac, search_gmac
from siamtrack.benchmark.scene import make_scene
from siamtrack.benchmark.weights import open_tracker
from siamtrack.cli.main import app
from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.models.siamese import SiameseRPN
from siamtrack.runtimes import torch_runtime
from siamtrack.runtimes.cuda_graph import DeviceCore, device_network
from siamtrack.tracker import Tracker

QUICK = ["--rounds", "1", "--updates", "2", "--threads", "1"]


class Fake:
    """A contender whose update takes as long as it is told, by its own clock."""

    now = 0.0

    def __init__(self, name: str, seconds: float, targets: int = 1, fails: bool = False) -> None:
        self.label, self._seconds, self._fails = Label(name, "fake", "cpu", targets), seconds, fails

    def start(self, frame, boxes) -> None:
        assert boxes.shape == (self.label.targets, 4)

    def update(self, frame) -> None:
        if self._fails:
            raise MemoryError
        Fake.now += self._seconds

    def split(self, frame) -> Parts:
        return Parts(0.0, 0.1, 0.2, 0.3, 0.4)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("scene"), 4, (320, 240))


def test_rows_are_compared_a_target_and_memory_may_run_out(scene):
    contenders = [Fake("slow", 0.4), Fake("fast", 0.1), Fake("many", 0.8, 8), Fake("large", 1, 9, fails=True)]
    slow, fast, many, large = time_in_turn(contenders, scene, 2, 3, clock=lambda: Fake.now)
    assert (slow.median, fast.slowest) == (pytest.approx(0.4), pytest.approx(0.1))
    assert fast.faster_than(slow) == pytest.approx(4)
    assert many.faster_than(slow) == pytest.approx(4)
    assert many.targets_a_second == pytest.approx(10)
    assert [len(each) for each in slow.totals] == [3, 3]
    assert slow.parts == pytest.approx((0, 0.1, 0.2, 0.3, 0.4))
    assert large.problem == "9 targets need more memory than cpu has"
    assert not large.totals


def test_a_row_with_one_slow_update_shows_it_in_the_percentile_only():
    row = Row(Label("a", "b"), [[0.1] * 18 + [1.0] * 2])
    assert (row.median, row.slowest > 0.5) == (pytest.approx(0.1), True)


def test_scene_has_boxes_for_any_number_of_targets(scene):
    for count in (1, 7, 256):
        boxes = scene.boxes(count)
        assert boxes.shape == (count, 4)
        middles = boxes[:, :2] + boxes[:, 2:] / 2
        assert ((middles > 0) & (middles < (320, 240))).all()
        assert len(np.unique(boxes[:, :2], axis=0)) == count
    shown = scene.forth_and_back()
    images = [next(shown) for _ in range(8)]
    assert images[2] is scene.frames[3]
    assert images[5] is scene.frames[0]


def test_further_targets_cost_a_share_of_the_first():
    single, many = (Row(Label("a", "b", targets=n), [[seconds] * 3]) for n, seconds in ((1, 0.010), (9, 0.018)))
    assert many.further(single) == pytest.approx(0.1)


def test_parts_of_a_step_add_up_to_it(scene):
    tracker = Tracker(runtime="onnx", threads=1)
    ours = Ours(tracker, "lite", "cpu", 2)
    ours.start(scene.frames[0], scene.boxes(2))
    ours.update(scene.frames[1])
    parts = ours.split(scene.frames[2])
    assert min(parts) >= 0
    assert parts.network > parts.rest
    assert ours.label == Label("lite", "onnx", "cpu", 2, "fp32")
    tracker.core.network.precision = "int8"  # as files say of themselves
    assert Ours(tracker, "lite", "cpu").label.precision == "int8"


class Ticks:
    """A clock that counts how often it is read."""

    now = 0

    def __call__(self) -> float:
        self.now += 1
        return float(self.now)


@pytest.mark.parametrize(("name", "parts"), [("siamrpnpp_nano", 1), ("siammask_lite", 2)])
def test_a_step_on_a_device_is_split_at_its_marks(scene, name, parts):
    tracker = Tracker(name, runtime="torch", threads=1)
    model, _ = torch_runtime.load(zoo.weights(name, ".safetensors"))
    tracker._core = DeviceCore(device_network(model, "cpu", "fp32"), tracker.tracking)
    ours = Ours(tracker, name, "cpu", 2, clock=Ticks())
    ours.start(scene.frames[0], scene.boxes(2))
    ours.update(scene.frames[1])
    assert ours.label == Label(name, tracker.runtime, "cpu", 2, "fp32")
    # Each mark reads the clock once: masks are drawn by the network and put into the frame after the box is chosen.
    assert ours.split(scene.frames[2]) == (1, 1, parts, parts, 3)


def test_a_device_that_answers_a_frame_late_has_no_parts(scene):
    tracker = Tracker("siamrpnpp_nano", runtime="torch", threads=1)
    model, _ = torch_runtime.load(zoo.weights("siamrpnpp_nano", ".safetensors"))
    tracker._core = DeviceCore(device_network(model, "cpu", "fp32"), tracker.tracking)
    ours = Ours(tracker, "nano", "cpu", pipelined=True)
    ours.start(scene.frames[0], scene.boxes(1))
    ours.update(scene.frames[1])
    assert ours.label.runtime == f"{tracker.runtime}, pipelined"
    assert ours.split(scene.frames[1]) is None


def test_command_with_the_step_of_a_gpu(clip, tmp_path, monkeypatch):
    """The graphs' work, done on a CPU without graphs."""
    model, _ = torch_runtime.load(zoo.weights("siammask_lite", ".safetensors"))
    network = device_network(model, "cpu", "fp32")

    def open_graph(name, *_):
        tracker = Tracker(name, runtime="torch", threads=1)
        tracker._core = DeviceCore(network, tracker.tracking)
        return tracker, False

    monkeypatch.setattr(run, "open_tracker", open_graph)
    monkeypatch.setattr(run, "peak_gmac", lambda device, precision, threads: {"probe": 100.0})
    options = ["siammask_lite", "--runtime", "cuda-graph", "--targets", "1,2", "--pipelined", "--no-memory"]
    options += ["--video", str(clip), "--out", str(tmp_path)]
    CliRunner().invoke(app, ["benchmark", "--rounds", "1", "--updates", "1", *options], catch_exceptions=False)
    first, second, late, later = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    assert late["runtime"] == later["runtime"] == first["runtime"] + ", pipelined"
    assert min(first["parts_ms"].values()) > 0
    assert late["parts_ms"] is None
    assert late["gmac"] == first["gmac"] > 0
    for one, two in ((first, second), (late, later)):
        assert two["further_target_share"] == pytest.approx(two["median_ms"] / one["median_ms"] - 1)


def test_command_writes_table_json_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(roof, "_SECONDS", 0)
    options = ["--runtime", "onnx", "--targets", "1,2", "--against", "opencv-mil", "--no-memory"]
    options += ["--pipelined"]  # which adds nothing here: only a GPU's graph can
    result = CliRunner().invoke(app, ["benchmark", *QUICK, *options, "--out", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads((tmp_path / "benchmark.json").read_text())
    assert [(row["model"], row["targets"]) for row in report["rows"]] == [
        ("siamrpnpp_lite", 1), ("siamrpnpp_lite", 2), ("opencv-mil", 1), ("opencv-mil", 2),
    ]  # fmt: skip
    first, second, other, _ = report["rows"]
    assert first["ratio_to_reference"] == 1
    assert second["targets_per_second"] == pytest.approx(2000 / second["median_ms"])
    assert first["share_of_peak"] > 0
    assert first["further_target_share"] is None
    assert second["further_target_share"] == pytest.approx(2 / second["ratio_to_reference"] - 1)
    assert first["parts_ms"].keys() == {"upload", "crop", "network", "boxes", "rest"}
    assert other["parts_ms"] is None
    assert report["scene"]["size"] == [1280, 720]
    assert report["decode_ms"] > 0
    for words in ("siamrpnpp_lite", "opencv-mil", "targets/s", "GMAC/s"):
        assert words in result.output
    assert b"<svg" in (tmp_path / "benchmark.svg").read_bytes()
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")


def test_picture_names_the_parts_that_there_are():
    label = Label("a", "graph", "cuda")
    whole, split = (Row(label, [[0.001, 0.002]], splits) for splits in ([], [Parts(0.0, 0.1, 0.2, 0.3, 0.4)]))
    alone = draw([whole], "svg")
    assert b"milliseconds" in alone
    assert b"network" not in alone
    both = draw([whole, split, Row(Label("a", "graph", "cuda", 4), [[0.001]])], "svg")
    assert b"network" in both
    assert b"upload" not in both


def test_models_without_weights_get_random_ones(tmp_path):
    tracker, made_up = open_tracker("siamrpn_alexnet_dw", "torch", "cpu", 1, tmp_path)
    assert (made_up, tracker.runtime) == (True, "torch")
    assert (tmp_path / "siamrpn_alexnet_dw.safetensors").is_file()


def test_operations_are_counted_as_they_are_computed():
    preset = zoo.load("siamrpn_alexnet_dw")
    assert search_gmac(preset) == pytest.approx(6.45, rel=0.01)
    model = SiameseRPN(preset.model).eval()
    assert packed_gmac(model, preset) == pytest.approx(search_gmac(preset))
    packed = packed_gmac(torch_runtime.TorchNetwork(model).model, preset)
    assert 0.2 * 6.45 < packed < 0.8 * 6.45  # Winograd's algorithm takes half of the products or fewer
    nano = zoo.load("siamrpnpp_nano")  # whose convolutions are too narrow for it
    packed = packed_gmac(torch_runtime.TorchNetwork(SiameseRPN(nano.model)).model, nano)
    assert packed == pytest.approx(search_gmac(nano))


def test_roof_is_measured_with_what_is_installed(monkeypatch):
    monkeypatch.setattr(roof, "_SECONDS", 0)
    threads = torch.get_num_threads()
    peak = peak_gmac("cpu", threads=1)
    assert {"onnx", "torch"} <= peak.keys()
    assert min(peak.values()) > 0
    assert torch.get_num_threads() == threads
    assert "torch" not in peak_gmac("cpu", "int8", 1)
    monkeypatch.setattr(roof, "find_spec", lambda name: None)
    assert peak_gmac("cpu", threads=1).keys() == {"onnx"}
    assert peak_gmac("cuda") == {}


@pytest.mark.parametrize(("kernel", "pixels"), [(1, 4), (3, 5)])
def test_probe_is_the_convolution_that_it_says(kernel, pixels):
    file = probe.convolution(16, pixels, kernel)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).random((1, 16, pixels, pixels), np.float32)
    weight = np.random.default_rng(0).random((16, 16, kernel, kernel), np.float32) / 16
    wanted = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(weight), padding=kernel // 2)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], wanted, rtol=1e-4)


def test_probe_of_int8_takes_and_gives_bytes():
    file = probe.convolution(16, 5, 3, int8=True)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.full((1, 16, 5, 5), 128, np.uint8)})
    assert y.dtype == np.uint8
    assert (y == 128).all()  # the zero of both ends


def test_memory_is_that_of_a_process_of_its_own(tmp_path):
    ballast = np.ones((400, 1024, 1024), np.uint8)
    memory = peak_memory("siamrpnpp_lite", "onnx", "cpu", 1, tmp_path, (320, 240), (2, 1))
    assert list(memory) == [1, 2]
    assert 50 < memory[1].host <= memory[2].host < ballast.nbytes / 2**20
    assert memory[1].device is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--targets", "1,x"],
            "--targets 1,x: expected numbers from 1 to 4096 with commas",
        ),
        (["--targets", "5000"], "--targets 5000: expected numbers from 1 to 4096"),
        (["--runtime", "onx"], "unknown runtime 'onx'; did you mean 'onnx'?"),
        (["--against", "opncv"], "--against opncv; did you mean 'opencv'?"),
        (["no_such_model"], "there is no model 'no_such_model'"),
        (["--video", "absent.mp4"], "there is no file absent.mp4"),
        (["--device", "cuda:77"], "cuda:77"),
    ],
)
def test_bad_input_is_one_sentence(options, sentence):
    with pytest.raises(UserError, match="(?s)^[^\n]+$") as caught:
        CliRunner().invoke(app, ["benchmark", *QUICK, *options], catch_exceptions=False)
    assert sentence in str(caught.value)


def test_out_that_is_a_file_is_refused_before_anything_is_timed(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="is a file; give the name of a folder"):
        CliRunner().invoke(app, ["benchmark", "--out", str(tmp_path / "taken")], catch_exceptions=False)


def test_importing_it_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None; import siamtrack.benchmark.run, siamtrack.cli.benchmark"
    subprocess.run([sys.executable, "-c", code], check=True)
