"""Exports in every format are the same tracker; what cannot be exported or run is refused in a sentence."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tests.conftest import ROOT
from typer.testing import CliRunner

from siamtrack.cli.export import _clips
from siamtrack.cli.main import app
from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.models.siamese import SiameseRPN
from siamtrack.runtimes import load
from siamtrack.runtimes.export import _digest, convert, export, export_onnx
from siamtrack.runtimes.load import load_network
from siamtrack.runtimes.onnx_runtime import OnnxNetwork
from siamtrack.runtimes.quantize import float_nodes
from siamtrack.runtimes.torch_runtime import TorchNetwork, save
from siamtrack.runtimes.verify import Clip, record, verify
from siamtrack.tracker import Tracker

BOX = (100, 90, 40, 40)
SHIPPED = zoo.weights("siamrpnpp_lite", ".search.onnx")


def tiny(mask: str = "") -> tuple[SiameseRPN, zoo.Preset]:
    """Return a small network with weights by chance, and its preset; with masks on the trunk ``mask``."""
    torch.manual_seed(5)
    model = {"backbone": {"name": "alexnet", "stages": [5], "width": 0.125}, "base_size": 0}
    model["head"] = {"widths": [32], "adjust": False}
    if mask:
        model = {"backbone": {"name": mask, "stages": [3]}, "head": {"widths": [16]}, "mask": True}
    preset = zoo.from_json(json.dumps({"name": "tiny", "model": model, "tracking": {}}), "tiny")
    return SiameseRPN(preset.model).eval(), preset


@pytest.fixture(scope="module")
def exported(tmp_path_factory, square):
    """A small network exported to ONNX in fp32, and crops of it."""
    model, preset = tiny()
    stem = tmp_path_factory.mktemp("export") / "tiny"
    export_onnx(model, preset, stem)
    clip = Clip("square", lambda: iter(square[0]), np.array(BOX, float))
    return stem, model, preset, clip, record(TorchNetwork(model), preset, [clip], 6)


@pytest.fixture
def weights(tmp_path):
    model, preset = tiny()
    save(tmp_path / "tiny.safetensors", model, preset)
    return tmp_path / "tiny.safetensors"


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    monkeypatch.setattr("siamtrack.runtimes.verify._SECONDS", 0.0)


def apart(network, model, preset, clip, crops, frames=6):
    found = verify(TorchNetwork(model), network, preset, crops, clip, frames, None)
    return found["outputs"], found["boxes"]


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_onnx_files_give_the_networks_numbers(exported, runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    stem, model, preset, clip, crops = exported
    network, _ = load_network(f"{stem}.search.onnx", runtime=runtime, threads=1)
    outputs, boxes = apart(network, model, preset, clip, crops)
    assert network.runtime == runtime
    assert outputs["cls"]["largest"] < 1e-3
    assert outputs["loc"]["largest"] < 1e-3
    assert boxes["largest_px"] < 0.01
    assert boxes["frames"] == 6


def test_openvino_and_fp16_files_run(exported, tmp_path):
    pytest.importorskip("openvino")
    stem, model, preset, clip, crops = exported
    written = convert(stem, preset, tmp_path / "half", "openvino", "fp16")
    network, carried = load_network(written[1], threads=1)
    assert network.precision == "fp16"
    assert carried.model == preset.model
    assert apart(network, model, preset, clip, crops)[0]["score"]["largest"] < 0.02
    convert(stem, preset, tmp_path / "half", "onnx", "fp16")
    outputs, _ = apart(OnnxNetwork(tmp_path / "half", 1), model, preset, clip, crops)
    assert 0 < outputs["score"]["largest"] < 0.02


def test_torchscript_files_run(exported, tmp_path):
    _, model, preset, clip, crops = exported
    written = export(model, preset, tmp_path / "traced", "torchscript")
    network, _ = load_network(written[0], threads=1)
    outputs, boxes = apart(network, model, preset, clip, crops)
    assert outputs["cls"]["largest"] < 1e-3
    assert boxes["largest_px"] < 0.01


def test_torchscript_draws_masks(tmp_path):
    model, preset = tiny("efficientnet_lite0")
    written = export(model, preset, tmp_path / "traced", "torchscript")
    networks = TorchNetwork(model), load_network(written[2], threads=1)[0]
    rng = np.random.default_rng(0)
    z, x = (rng.integers(0, 255, (1, side, side, 3), np.uint8) for side in (127, 303))  # not the size of the export
    ours, theirs = (
        network.draw(network.search(x, network.template(z)).context, np.array([[0, 30]])) for network in networks
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_executorch_files_run_at_their_size_only(exported, tmp_path):
    pytest.importorskip("executorch.runtime")
    _, model, preset, clip, crops = exported
    written = export(model, preset, tmp_path / "phone", "executorch")
    network, _ = load_network(written[0])
    assert apart(network, model, preset, clip, crops)[0]["cls"]["largest"] < 1e-3
    with pytest.raises(UserError, match="takes search regions of 255 pixels, not 287"):
        network.search(np.zeros((1, 287, 287, 3), np.uint8), network.template(crops[0][0]))


def test_executorch_files_in_int8_are_smaller_and_near(exported, tmp_path):
    pytest.importorskip("executorch.runtime")
    stem, model, preset, clip, crops = exported
    with pytest.raises(UserError, match="int8 is calibrated on real crops"):
        export(model, preset, tmp_path / "small", "executorch", "int8")
    written = export(model, preset, tmp_path / "small", "executorch", "int8", crops)
    assert written[1].stat().st_size < 0.5 * stem.with_name("tiny.search.onnx").stat().st_size
    outputs, _ = apart(load_network(written[0])[0], model, preset, clip, crops)
    assert 1e-6 < outputs["score"]["mean"] < 0.02


def test_int8_without_crops_is_refused(exported, tmp_path):
    stem, _, preset, *_ = exported
    with pytest.raises(UserError, match="int8 is calibrated on real crops"):
        convert(stem, preset, tmp_path / "small", "onnx", "int8")


def test_int8_is_smaller_and_near(exported, tmp_path, caplog):
    stem, model, preset, clip, crops = exported
    written = convert(stem, preset, tmp_path / "small", "onnx", "int8", crops)
    assert written[1].stat().st_size < 0.5 * stem.with_name("tiny.search.onnx").stat().st_size
    outputs, _ = apart(OnnxNetwork(tmp_path / "small", 1), model, preset, clip, crops)
    assert 1e-6 < outputs["score"]["mean"] < 0.02
    assert not caplog.records, "advice that the exporter has followed"
    graph = onnx.load(written[1]).graph
    nodes, sizes = graph.node, {entry.name: list(entry.dims) for entry in graph.initializer}
    made_by = {name: node.op_type for node in nodes for name in node.output}
    assert {"QuantizeLinear", "DequantizeLinear"} <= set(made_by.values())
    kept = set(float_nodes(onnx.load(stem.with_name("tiny.search.onnx")), preset.model.search_size))
    small = {node.name: node for node in nodes if node.op_type == "Conv" and made_by.get(node.input[1])}
    small = {name: node for name, node in small.items() if made_by[node.input[1]] == "DequantizeLinear"}
    assert small
    scales = [node.input[1] for node in nodes if node.op_type == "DequantizeLinear" and sizes.get(node.input[0])]
    assert max(sizes[name] for name in scales) > [1], "weights have a scale a channel"
    assert not kept & small.keys()
    # A rectifier is the end of a quantised range, no step of its own in floating point.
    assert "DequantizeLinear" not in [made_by[node.input[0]] for node in nodes if node.op_type in ("Relu", "Clip")]


def test_the_first_the_last_and_the_correlations_stay_in_floating_point():
    model = onnx.load(SHIPPED)
    weights = {entry.name for entry in model.graph.initializer}
    kept = float_nodes(model, 255)
    kept = [node for node in model.graph.node if node.name in kept]
    correlations = [node for node in kept if node.input[1] not in weights]
    assert len(correlations) == 6
    names = sorted(node.input[1] for node in kept if node.input[1] in weights)
    assert [name for name in names if "backbone" in name] == [
        f"model.backbone.{name}.0.weight"
        for name in ("blocks.0.0.depthwise", "blocks.0.0.project", "blocks.1.0.depthwise", "blocks.1.0.expand", "stem")
    ]
    assert len([name for name in names if ".decode.3." in name]) == len(names) - 5 == 6


def test_the_command_exports_masks_and_verifies(sequences, square, tmp_path):
    model, preset = tiny("resnet18")
    weights, out = tmp_path / "masks.safetensors", tmp_path / "out"
    save(weights, model, preset)
    words = [
        "export",
        str(weights),
        "--out",
        str(out),
        "--frames",
        "3",
        "--calibrate",
        str(sequences),
        "--threads",
        "1",
    ]
    done = CliRunner().invoke(app, words)
    assert done.exception is None, done.output
    assert "largest differences from torch on 16 crops" in done.output
    report = json.loads((tmp_path / "out.export.json").read_text())
    assert report["files"].keys() == {"out.template.onnx", "out.search.onnx", "out.draw.onnx"}
    assert report["outputs"]["mask"]["largest"] < 1e-2
    assert report["boxes"]["largest_px"] < 0.01
    assert report["speed"]["times_faster_than"].keys() == {"reference"}
    trackers = Tracker(tmp_path / "out.draw.onnx", threads=1), Tracker(weights, threads=1)
    for tracker in trackers:
        tracker.init(square[0][0], BOX)
    ours, theirs = (tracker.update(square[0][1]).mask for tracker in trackers)
    assert (ours != theirs).mean() < 5e-3


def test_two_targets_draw_what_each_draws_alone(tmp_path, exported):
    stem, *_, crops = exported
    network = OnnxNetwork(stem, 1)
    z, x = (np.concatenate([crop[index] for crop in crops[:2]]) for index in (0, 1))
    together = network.search(x, network.template(z))
    for index in range(2):
        one = slice(index, index + 1)
        alone = network.search(x[one], network.template(z[one]))
        np.testing.assert_array_equal(together.cls[one], alone.cls)


def test_speed_is_compared_with_fp32(exported):
    stem, model, preset, clip, crops = exported
    network = OnnxNetwork(stem, 1)
    speed = verify(TorchNetwork(model), network, preset, crops, clip, 2, network)["speed"]
    assert speed["times_faster_than"].keys() == {"reference", "fp32"}
    assert speed["calls"] >= 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--format", "tflite"], "--format tflite: expected one of onnx"),
        (["--precision", "int4"], "--precision int4: expected one of fp32"),
        (["--format", "torchscript", "--precision", "int8"], "torchscript files are fp32 or fp16 here"),
        (["--calibrate", "nowhere"], "--calibrate nowhere: there is no such file or folder"),
        (["--box", "1,2,3,4"], "--box belongs to the video of --calibrate"),
        (["--out", "no/such/folder/model"], "there is no folder no/such/folder"),
        (["--out", "."], "--out .: expected the name of the files"),
    ],
)
def test_what_cannot_be_exported_is_refused(weights, words, sentence):
    done = CliRunner().invoke(app, ["export", str(weights), *words])
    assert isinstance(done.exception, UserError)
    assert sentence in str(done.exception)


def test_a_video_for_calibration_needs_its_box(weights, clip):
    done = CliRunner().invoke(app, ["export", str(weights), "--calibrate", str(clip)])
    assert "a video needs --box x,y,w,h" in str(done.exception)


def test_sequences_of_one_frame_are_no_clips(sequences, tmp_path):
    lines = (sequences / "boxes" / "groundtruth.txt").read_text().splitlines()
    for name, count in (("a", 1), ("b", 3)):
        (tmp_path / name / "img").mkdir(parents=True)
        for image in sorted((sequences / "boxes" / "img").iterdir())[:count]:
            shutil.copy(image, tmp_path / name / "img")
        (tmp_path / name / "groundtruth.txt").write_text("\n".join(lines[:count]) + "\n")
    assert [clip.name for clip in _clips(tmp_path, None)] == ["b"]
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(UserError, match="no sequence has two frames or more"):
        _clips(tmp_path, None)


def test_packages_that_are_missing_are_named(weights, monkeypatch, exported):
    stem, *_ = exported
    hide(monkeypatch, "skvideo", "openvino", "executorch", "onnxscript")
    runner = CliRunner()
    int8 = runner.invoke(app, ["export", str(weights), "--precision", "int8"])
    assert "pip install 'siamtrack[demo]' for a clip" in str(int8.exception)
    for form, sentence in (
        ("openvino", "needs onnxscript and openvino; pip install 'siamtrack[train,openvino]'"),
        ("executorch", "needs executorch; pip install 'siamtrack[executorch]'"),
    ):
        done = runner.invoke(app, ["export", str(weights), "--format", form])
        assert sentence in str(done.exception)
    with pytest.raises(UserError, match=r"openvino is not installed; pip install 'siamtrack\[openvino\]'"):
        load_network(f"{stem}.search.onnx", runtime="openvino")
    assert load_network(f"{stem}.search.onnx")[0].runtime == "onnx"  # auto does without


def hide(monkeypatch, *packages):
    """Make packages look as if they were not installed."""
    find = importlib.util.find_spec

    def found(name, *rest):
        return None if name in packages else find(name, *rest)

    for module in ("load", "export", "openvino_runtime", "executorch_runtime"):
        monkeypatch.setattr(f"siamtrack.runtimes.{module}.find_spec", found)
    monkeypatch.setattr("siamtrack.cli.export.find_spec", found)


def test_auto_takes_the_fastest_installed_runtime():
    expected = "openvino" if importlib.util.find_spec("openvino") else "onnx"
    assert Tracker(threads=1).runtime == expected
    assert Tracker(runtime="torch", threads=1).runtime == "torch"
    assert load._fastest(Path("a.onnx"), "cuda") == "onnx"


@pytest.mark.parametrize(
    ("model", "device", "runtime", "sentence"),
    [
        (SHIPPED, "cpu", "torch", "was exported, and torch cannot run it; give the .safetensors file"),
        (SHIPPED, "cuda", "openvino", "OpenVINO runs on the CPU here, not on cuda"),
        (SHIPPED, "tpu", "onnx", "unknown device 'tpu'"),
        (zoo.weights("siamrpnpp_lite", ".safetensors"), "cpu", "onnx", "holds no ONNX graphs; export it first"),
        (zoo.weights("siamrpnpp_lite", ".safetensors"), "cpu", "openvino", "is not for OpenVINO; export it"),
    ],
)
def test_what_a_runtime_does_not_run_is_refused(model, device, runtime, sentence):
    with pytest.raises(UserError, match=sentence):
        load_network(model, device, runtime)


def test_a_gpu_needs_its_provider(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UserError, match=r"cannot use cuda:1; pip install 'siamtrack\[onnx-gpu\]'"):
        load_network(SHIPPED, "cuda:1", "onnx")
    # The provider is in the build, but CUDA's libraries are not there: ONNX Runtime would go on, on the CPU.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(
        UserError, match="cannot start its CUDAExecutionProvider on cuda: it needs .*CUDA.*; pip install"
    ):
        load_network(SHIPPED, "cuda", "onnx")


@pytest.mark.parametrize("starts", [["Tensorrt", "CUDA", "CPU"], ["CUDA", "CPU"]])
def test_a_gpu_is_driven_by_the_first_provider_that_starts(monkeypatch, tmp_path, starts):
    """ONNX Runtime leaves out providers whose libraries are missing, here TensorRT's in one case."""
    asked, opened, find = [], onnxruntime.InferenceSession, importlib.util.find_spec

    def session(path, options, providers):
        asked.append(dict(providers))
        found = opened(path, options, providers=["CPUExecutionProvider"])
        found.get_providers = lambda: [f"{name}ExecutionProvider" for name in starts]
        return found

    names = [f"{name}ExecutionProvider" for name in ("Tensorrt", "CUDA", "CPU")]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr("siamtrack.runtimes.onnx_runtime.find_spec", lambda name: name == "tensorrt" or find(name))
    network, _ = load_network(SHIPPED, "cuda:1", "onnx")
    assert network.runtime == f"onnx ({starts[0].replace('rt', 'RT')})"
    assert list(asked[0]) == names
    assert asked[0]["CUDAExecutionProvider"] == {"device_id": "1", "use_tf32": "0"}
    assert asked[0]["TensorrtExecutionProvider"]["trt_engine_cache_path"] == str(tmp_path / "siamtrack" / "tensorrt")
    assert (tmp_path / "siamtrack" / "tensorrt").is_dir()


def test_torch_compiled_gives_torchs_boxes(weights, square, monkeypatch):
    if not shutil.which(os.environ.get("CXX", "g++")):
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    trackers = [Tracker(weights, runtime=runtime, threads=1) for runtime in ("torch-compile", "torch")]
    assert [tracker.runtime for tracker in trackers] == ["torch-compile", "torch"]
    with monkeypatch.context() as patch:  # what was compiled at the start is used
        patch.setattr(TorchNetwork, "_plain", None)
        found = [result.box for result in trackers[0].track(iter(square[0][:8]), BOX)]
    np.testing.assert_allclose(found, [r.box for r in trackers[1].track(iter(square[0][:8]), BOX)], atol=1e-3)


def test_a_compiler_that_is_not_there_is_one_sentence(weights, monkeypatch):
    def compiled(function, dynamic):
        def call(*_):
            raise RuntimeError("No working C++ compiler found in g++\n(stack)")

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    with pytest.raises(UserError, match=r"does not work here \(RuntimeError: No working C\+\+ .* in g\+\+\); it needs"):
        Tracker(weights, runtime="torch-compile")


@pytest.mark.parametrize("verb", ["track", "track-many", "eval", "search", "benchmark"])
def test_an_unknown_runtime_is_one_sentence(verb):
    words = {"track": ["clip.mp4", "--box", "1,2,3,4"], "track-many": ["list.csv"], "eval": ["--dataset", "data"],
             "search": ["siamrpnpp_lite", "--dataset", "data"], "benchmark": []}[verb]  # fmt: skip
    with pytest.raises(UserError, match="unknown runtime 'torsh'; did you mean 'torch'.; expected one of auto, onnx"):
        CliRunner().invoke(app, [verb, *words, "--runtime", "torsh"], catch_exceptions=False)


def test_files_of_another_version_are_refused(exported, tmp_path):
    stem, *_ = exported
    for part in ("template", "search"):
        graph = onnx.load(f"{stem}.{part}.onnx")
        values = {entry.key: entry.value for entry in graph.metadata_props}
        assert values["siamtrack_format"] == "1"
        onnx.helper.set_model_props(graph, {**values, "siamtrack_format": "7", "siamtrack_version": "9.1"})
        onnx.save(graph, tmp_path / f"later.{part}.onnx")
    with pytest.raises(UserError, match=r"version 7 of the format, written by siamtrack 9.1; .* reads version 1"):
        OnnxNetwork(tmp_path / "later")


def test_parts_of_two_trainings_are_refused(exported, tmp_path):
    stem, model, *_ = exported
    again, _ = tiny()
    assert _digest(again) == _digest(model)
    with torch.no_grad():
        next(again.parameters())[0] += 0.01
    assert _digest(again) != _digest(model)
    graphs = {part: onnx.load(f"{stem}.{part}.onnx") for part in ("template", "search")}
    own = {entry.key: entry.value for entry in graphs["search"].metadata_props}
    assert own["siamtrack_weights"] == _digest(model)

    def pair(**weights):
        for part, graph in graphs.items():
            values = {key: value for key, value in own.items() if key != "siamtrack_weights"}
            onnx.helper.set_model_props(
                graph, values | ({"siamtrack_weights": weights[part]} if part in weights else {})
            )
            onnx.save(graph, tmp_path / f"mixed.{part}.onnx")
        return tmp_path / "mixed.search.onnx"

    for form in ("onnx", "openvino") if importlib.util.find_spec("openvino") else ("onnx",):
        said = r"mixed.template.onnx and .*mixed.search.onnx do not belong together: they hold the weights of different"
        with pytest.raises(UserError, match=said):
            load_network(pair(template=_digest(again), search=_digest(model)), runtime=form)
        with pytest.raises(UserError, match=r"do not belong together; export"):
            load_network(pair(search=_digest(model)), runtime=form)
        assert load_network(pair(), runtime=form)[1].name == "tiny", "files of before do not say"
    for name in ("siamrpnpp_lite", "siamrpnpp_nano"):
        assert load_network(name, runtime="onnx", threads=1)[1].name == name


def test_the_example_gives_siamtracks_boxes(square, tmp_path):
    images, _ = square
    np.save(tmp_path / "frames.npy", np.array(images[:12]))
    (tmp_path / "ppm").mkdir()
    for number, image in enumerate(images[:3]):
        header = f"P6\n{image.shape[1]} {image.shape[0]}\n255\n".encode()
        (tmp_path / f"ppm/{number}.ppm").write_bytes(header + image[..., ::-1].tobytes())
    tracker = Tracker(runtime="onnx", threads=1)
    expected = [result.box for result in tracker.track(iter(images[:12]), BOX)][1:]
    example = ROOT / "examples" / "onnx_numpy.py"
    assert len(example.read_text().splitlines()) < 150
    stem = str(SHIPPED).removesuffix(".search.onnx")
    code = (
        "import sys, runpy; sys.modules['cv2'] = sys.modules['siamtrack'] = None\n"
        f"sys.argv[1:] = [{stem!r}, SOURCE, '100,90,40,40']; runpy.run_path({str(example)!r}, run_name='__main__')"
    )
    found = {}
    for source in ("frames.npy", "ppm"):
        words = [sys.executable, "-c", code.replace("SOURCE", repr(str(tmp_path / source)))]
        lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
        found[source] = np.array([line.split() for line in lines], float)
    np.testing.assert_allclose(found["frames.npy"][:, :4], expected, atol=0.5)
    np.testing.assert_array_equal(found["ppm"], found["frames.npy"][:2])
