"""The step on one device against the step over the host: on a GPU as a graph, else on the CPU, without one."""

from itertools import groupby, product

import numpy as np
import onnxruntime
import pytest
import torch
from tests.conftest import wandering_square
from torch._subclasses.fake_tensor import FakeTensorMode

from siamtrack.errors import UserError
from siamtrack.evaluate.lockstep import run_in_step
from siamtrack.models import zoo
from siamtrack.models.siamese import SiameseRPN
from siamtrack.multi import GRAPH_BATCH, MultiTracker, Target, numbered
from siamtrack.runtimes import cuda_graph, torch_runtime
from siamtrack.runtimes import device_ops as ops
from siamtrack.runtimes.cuda_graph import DeviceCore, device_network
from siamtrack.runtimes.load import load_core
from siamtrack.tracker import Tracker
from siamtrack.tracking.config import AdaptiveConfig, DistractorConfig, LongTermConfig, TrackingConfig, tracking_config
from siamtrack.tracking.core import TrackerCore
from siamtrack.tracking.crop import crop
from siamtrack.video.frame import VideoFrame

FRAMES, BOXES = wandering_square(6)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def lite():
    model, preset = torch_runtime.load(zoo.weights("siamrpnpp_lite", ".safetensors"))
    return model, device_network(model, DEVICE, "fp32"), preset.model


def cores(lite, **settings):
    """Return the host's core and the device's with the same network."""
    model, network, config = lite
    tracking = TrackingConfig(**settings)
    return TrackerCore(torch_runtime.TorchNetwork(model), config, tracking), DeviceCore(network, tracking)


def follow(core, clips, boxes):
    """Return the answers [T, B, 6] for targets in one clip each: box, score, lost."""
    state = core.init([clip[0] for clip in clips], boxes)
    answers = []
    for frames in zip(*(clip[1:] for clip in clips), strict=True):
        state, found = core.step(list(frames), state)
        answers.append(np.column_stack([found.boxes, found.scores, found.lost]))
    return np.array(answers)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"longterm": LongTermConfig(low=0.805, high=0.812, search_sizes=(271, 287)), "window_influence": 0.9},
        {"adaptive": AdaptiveConfig(share=0.01, search_size=287)},
    ],
    ids=["short-term", "long-term", "adaptive"],
)
def test_boxes_are_those_of_the_host(lite, settings):
    boxes = np.array([BOXES[0], [10, 200, 30, 38], [250, 20, 26, 22]])
    host, device = (follow(core, [FRAMES[:5]] * 3, boxes) for core in cores(lite, **settings))
    np.testing.assert_allclose(device[..., :4], host[..., :4], atol=1e-3)
    np.testing.assert_allclose(device[..., 4], host[..., 4], atol=1e-4)
    assert (device[..., 5] == host[..., 5]).all()
    if "longterm" in settings:
        assert 0 < host[..., 5].sum() < host[..., 5].size  # both kinds of search took place


def masked():
    """Return a small network with masks whose numbers are in bounds."""
    torch.manual_seed(0)
    config = zoo.load("siammask_resnet50").model
    config = config.model_copy(update={
        "backbone": config.backbone.model_copy(update={"name": "resnet18"}),
        "head": config.head.model_copy(update={"widths": (16,)}),
    })  # fmt: skip
    model = SiameseRPN(config).train()
    with torch.no_grad():  # statistics for the batch norms
        patch = torch.from_numpy(FRAMES[0][:143, :143].copy()).permute(2, 0, 1)[None].float()
        for branch in model.rpn.loc:
            branch.decode[3].weight *= 0.05  # boxes near the anchors
        model.search(patch.expand(2, -1, -1, -1), model.template(patch[..., :127, :127].expand(2, -1, -1, -1)))
    return model


def test_masks_are_those_of_the_host():
    model = masked()
    tracking = TrackingConfig(mask_threshold=0.5)
    host = TrackerCore(torch_runtime.TorchNetwork(model), model.config, tracking)
    device = DeviceCore(device_network(model, DEVICE, "fp32"), tracking)
    box = np.array([[100.0, 90.0, 40.0, 44.0]])
    states = [core.init(FRAMES[:1], box) for core in (host, device)]
    for frame in FRAMES[1:3]:
        (states[0], expected), (states[1], found) = (
            core.step([frame], state) for core, state in zip((host, device), states, strict=True)
        )
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
        ours, theirs = device.result(found, 0), host.result(expected, 0)
        assert theirs.mask.any()
        assert (ours.mask != theirs.mask).mean() < 1e-4
        assert ours.mask.flags.owndata  # whoever keeps it keeps nothing else
        np.testing.assert_allclose(ours.polygon, theirs.polygon, atol=1)


@pytest.mark.skipif(DEVICE == "cuda", reason="a graph that waited could not be captured")
@pytest.mark.parametrize("name", ["siamrpnpp_lite", "siammask_lite"])
def test_a_step_waits_for_nothing(name):
    """Tensors without values: whatever the host wants to read of them is an error. So without Triton's kernels."""
    model, preset = torch_runtime.load(zoo.weights(name, ".safetensors"))
    core = DeviceCore(device_network(model, "cpu", "fp32"), tracking_config(preset))
    core.init(FRAMES[:1], BOXES[:1])
    batch = core._graphs[1, preset.model.search_size, False]
    with torch.inference_mode(), FakeTensorMode(allow_non_fake_inputs=True):
        for _, run in batch.parts:
            run()


@pytest.mark.parametrize(("center", "side"), [((57.3, 41.8), 33.7), ((2.0, 100.0), 180.0), ((-90.0, 40.0), 31.25)])
def test_crops_are_those_of_the_host(center, side):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, shape, np.uint8) for shape in ((90, 120, 3), (101, 77, 3))]
    fill = np.array([[10, 20, 30], [200, 100, 0]], np.uint8)
    size = 2 * side / 4  # the side of a square with context is twice that of a square object
    middle = np.array([center, center])
    expected = crop(frames, middle, np.full(2, side), 127, fill)
    pixels = torch.zeros(2 * 40000, dtype=torch.uint8)
    for number, frame in enumerate(frames):
        pixels[number * 40000 : number * 40000 + frame.size] = torch.from_numpy(frame.reshape(-1))
    shown = ops.Frames(pixels, torch.tensor([frame.shape[:2] for frame in frames], dtype=torch.int32), 40000)
    targets = ops.Targets(
        torch.from_numpy(middle), torch.full((2, 2), size).double(), torch.zeros(2, 2), torch.from_numpy(fill),
        torch.zeros(2),
    )  # fmt: skip
    patches = ops.crop(
        shown, torch.arange(2, dtype=torch.int32), targets, torch.arange(2), 127, 127, torch.float32
    )  # fmt: skip
    ours = patches[:, :3].permute(0, 2, 3, 1).numpy()
    differs = np.abs(ours - expected)
    assert differs.max() <= 1  # none at all on a CPU with AVX2
    assert (differs > 0).mean() < 0.01
    assert not patches[:, 3:].any()


def test_clips_of_different_sizes_go_together(lite):
    _, core = cores(lite)
    clips = [FRAMES[:4], [frame[30:, 20:] for frame in FRAMES[:4]]]
    boxes = np.array([BOXES[0], BOXES[0] - [20, 30, 0, 0]])
    together = follow(core, clips, boxes)
    for number in range(2):
        alone = follow(core, clips[number : number + 1], boxes[number : number + 1])
        np.testing.assert_allclose(together[:, number], alone[:, 0], atol=1e-3)


def test_larger_frames_make_everything_anew(lite):
    _, core = cores(lite)
    small = [frame[30:, 20:] for frame in FRAMES[:3]]
    for frames, box in ((small, BOXES[0] - [20, 30, 0, 0]), (FRAMES[:3], BOXES[0])):
        again = follow(core, [frames], box[None])
        np.testing.assert_array_equal(again, follow(cores(lite)[1], [frames], box[None]))


def test_frames_change_their_sizes_and_owners(lite):
    """Where the targets' rows, and the memory, are the same as in the step before."""
    core = cores(lite)[1]
    cut = [frame[30:, 20:].copy() for frame in FRAMES[:3]]
    clips, boxes = (FRAMES[:4], [*cut, FRAMES[3]]), np.stack([BOXES[0], BOXES[0] - [20, 30, 0, 0]])  # the last of both
    found = follow(core, clips, boxes)
    for number in range(2):
        alone = follow(cores(lite)[1], clips[number : number + 1], boxes[number : number + 1])
        np.testing.assert_allclose(found[:, number], alone[:, 0], atol=1e-3)


def test_chosen_and_joined_targets_keep_their_search_regions(lite):
    """One of 40 pixels of 320x240 is searched for in 255, one of 26 in 287."""
    adaptive = AdaptiveConfig(share=0.01, search_size=287)
    boxes = np.array([BOXES[0], [250, 20, 26, 22]])
    core = cores(lite, adaptive=adaptive)[1]
    alone = np.concatenate([follow(core, [FRAMES[:2]], box[None])[0, :, :4] for box in boxes])
    state = core.init(FRAMES[:1] * 2, boxes)
    one = core.step(FRAMES[1:2], state.take([1]))[1].boxes
    np.testing.assert_allclose(one, alone[1:], atol=1e-3)
    state = type(state).join([core.init(FRAMES[:1], boxes[[place]]) for place in (1, 0)])
    np.testing.assert_allclose(core.step(FRAMES[1:2] * 2, state)[1].boxes, alone[::-1], atol=1e-3)


def test_no_frame_of_one_target_waits_for_a_graph(lite):
    """Those of all search regions that it may need are made at its start."""
    core = cores(lite, longterm=LongTermConfig(low=0.805, high=0.812, search_sizes=(271, 287)))[1]
    state = core.init(FRAMES[:1], BOXES[:1])
    made, lost = dict(core._graphs), []
    for frame in FRAMES[1:] * 2:
        state, found = core.step([frame], state)
        lost += found.lost.tolist()
    assert {size for _, size, _ in made} == {255, 271, 287}
    assert core._graphs == made


def test_targets_come_and_go(lite):
    _, core = cores(lite)
    state = core.init(FRAMES[:1] * 2, np.array([BOXES[0], [10, 200, 30, 38]]))
    state, first = core.step(FRAMES[1:2] * 2, state)
    added = core.init(FRAMES[1:2], np.array([[250.0, 20, 26, 22]]))
    state = type(state).join([state.take([0]), added])
    np.testing.assert_array_equal(core.last(state).boxes, [first.boxes[0], [250, 20, 26, 22]])
    del added
    state, found = core.step(FRAMES[2:3] * 2, state)
    alone = follow(core, [FRAMES[:3]], BOXES[:1])
    np.testing.assert_allclose(found.boxes[0], alone[-1, 0, :4], atol=1e-3)
    used = {row.index for row in state.rows}
    assert len(used) == 2
    del state
    assert used <= set(core._free)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_second_gpu_records_graphs_of_its_own(lite):
    places = (device_network(lite[0], f"cuda:{number}", "fp32") for number in range(2))
    first, second = (follow(DeviceCore(each, TrackingConfig()), [FRAMES[:3]], BOXES[:1]) for each in places)
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_more_targets_than_the_table_has_rows(lite, monkeypatch):
    monkeypatch.setattr("siamtrack.runtimes.cuda_graph.LARGEST_BATCH", 2)
    _, core = cores(lite)
    alone = follow(core, [FRAMES[:2]], BOXES[:1])
    many = follow(core, [FRAMES[:2]] * 5, np.repeat(BOXES[:1], 5, 0))
    np.testing.assert_allclose(many[0], np.repeat(alone[0], 5, 0), atol=1e-3)


def test_a_table_that_has_no_memory_to_grow_stays_as_it_was(lite, monkeypatch):
    monkeypatch.setattr("siamtrack.runtimes.cuda_graph.LARGEST_BATCH", 2)
    _, core = cores(lite)
    first = core.init(FRAMES[:1], BOXES[:1])
    table, features = core._targets, core._features

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "new_zeros", full)
        with pytest.raises(torch.OutOfMemoryError):
            core.init(FRAMES[:1] * 5, np.repeat(BOXES[:1], 5, 0))
    assert core._targets is table
    assert core._features is features
    several = type(first).join([first, core.init(FRAMES[:1] * 5, np.repeat(BOXES[:1], 5, 0))])
    _, found = core.step(FRAMES[1:2] * 6, several)
    np.testing.assert_allclose(found.boxes, found.boxes[:1].repeat(6, 0), atol=1e-3)


def test_pipelined_answers_are_those_of_the_frame_before(lite):
    core = cores(lite)[1]
    late = DeviceCore(lite[1], core.config, "pipelined")
    expected = follow(core, [FRAMES[:4]], BOXES[:1])
    state, answers = late.init(FRAMES[:1], BOXES[:1]), []
    for frame in FRAMES[1:4]:
        state, found = late.step([frame], state)
        answers.append(found.boxes)
    answers.append(late.last(state).boxes)
    np.testing.assert_array_equal(answers[0], BOXES[:1])
    np.testing.assert_array_equal(np.array(answers[1:]), expected[..., :4])


def test_late_masks_stay_with_their_targets_when_another_joins():
    core = DeviceCore(device_network(masked(), DEVICE, "fp32"), TrackingConfig(mask_threshold=0.5), "pipelined")
    state, _ = core.step(FRAMES[1:2], core.init(FRAMES[:1], BOXES[:1]))
    expected = core.result(core.last(state), 0)
    assert expected.mask.any()
    larger = np.pad(FRAMES[1], ((0, 9), (0, 0), (0, 0)))  # for which the masks have another length
    state = type(state).join([core.init([larger], BOXES[:1]), state])
    _, found = core.step([larger, FRAMES[2]], state)
    given, late = (core.result(found, index) for index in range(2))
    assert given.mask is None
    np.testing.assert_array_equal(late.mask, expected.mask)


def test_a_full_memory_lowers_the_batch(lite, monkeypatch, caplog):
    _, core = cores(lite)
    search, sizes = core.network.search, []

    def short(x, kernels, rows):
        sizes.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return search(x, kernels, rows)

    monkeypatch.setattr(core.network, "search", short)
    expected = follow(cores(lite)[0], [FRAMES[:2]] * 5, np.repeat(BOXES[:1], 5, 0))
    found = follow(core, [FRAMES[:2]] * 5, np.repeat(BOXES[:1], 5, 0))
    assert [record.getMessage() for record in caplog.records][-1:] == [
        f"the memory of {core.network.device} fits 2 targets at a time; more take turns"
    ]
    np.testing.assert_allclose(found[..., :4], expected[..., :4], atol=1e-3)
    assert [size for size, _ in groupby(sizes)] == [8, 4, 2, 1]
    monkeypatch.setattr(core.network, "search", lambda *_: short(range(3), None, None))
    with pytest.raises(UserError, match="too little free memory for one target"):
        follow(core.with_tracking(core.config), [FRAMES[:2]], BOXES[:1])


def test_frames_that_do_not_fit_together_take_turns(lite, monkeypatch, caplog):
    _, core = cores(lite)
    allocate = core._frames._allocate

    def short(count, capacity):
        if count > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        allocate(count, capacity)

    tracker = Tracker(threads=1)
    many = MultiTracker(tracker)
    many._core, many.batch = core, 4096
    ids = [many.add(FRAMES[0], BOXES[0], stream=name) for name in "abc"]
    monkeypatch.setattr(core._frames, "_allocate", short)
    with pytest.raises(UserError, match="too little free memory for 3 frames at once; track fewer videos together"):
        core.step([frame.copy() for frame in FRAMES[:3]], many._groups[0].state)
    found = many.update({name: FRAMES[number] for number, name in enumerate("abc", 1)})
    assert "memory suffices for 1 targets at a time" in caplog.text
    alone = follow(cores(lite)[1], [[FRAMES[0], FRAMES[2]]], BOXES[:1])
    np.testing.assert_allclose(found[ids[1]].box, alone[0, 0, :4], atol=1e-3)
    _, core = cores(lite)  # sequences in step, too
    allocate = core._frames._allocate
    monkeypatch.setattr(core._frames, "_allocate", short)
    _, tracked, _ = run_in_step(core, [[FRAMES[0], FRAMES[number]] for number in (1, 2, 3)], np.repeat(BOXES[:1], 3, 0))
    assert "memory suffices for 1 sequences at a time" in caplog.text
    np.testing.assert_allclose(tracked[1], alone[0, 0, :4], atol=1e-3)


def test_what_only_the_host_knows_is_refused(lite):
    _, network, _ = lite
    for settings in ({"legacy": True}, {"distractors": DistractorConfig()}):
        with pytest.raises(UserError, match=f"does not know tracking.{next(iter(settings))}"):
            DeviceCore(network, TrackingConfig(**settings))
    with pytest.raises(UserError, match="fp16 is for GPUs"):
        device_network(lite[0], "cpu", "fp16")


def test_many_targets_follow_in_one_batch(lite, monkeypatch):
    """:class:`MultiTracker` on a device's core: targets come and go, one that is added answers from the next frame."""
    monkeypatch.setattr("siamtrack.runtimes.cuda_graph.LARGEST_BATCH", 2)
    one = Tracker(runtime="torch")
    one._core = DeviceCore(lite[1], one.tracking)
    many = MultiTracker(one)
    first, second = many.add_all(FRAMES[0], [BOXES[0], [10, 200, 30, 38]])
    many.update(FRAMES[1])
    many.remove(second)
    third = many.add(FRAMES[1], BOXES[1])
    results = many.update(FRAMES[2])
    assert results.keys() == {first, third}
    np.testing.assert_allclose(results[first].box, follow(one.core, [FRAMES[:3]], BOXES[:1])[-1, 0, :4], atol=1e-3)


def tracker(lite, latency="immediate", **settings):
    """Return a tracker on the device's core."""
    one = Tracker(runtime="torch", threads=1, tracking=settings)
    one._core = DeviceCore(lite[1], one.tracking, latency)
    return one


def same(found, expected):
    """Check that results, by id or in a list, are the same."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.box, other.box, atol=1e-3)
        assert (one.score, one.lost) == (pytest.approx(other.score, abs=1e-4), other.lost)
        assert (one.frame, one.time) == (other.frame, other.time)


def test_a_pipelined_tracker_gives_each_frame_its_own_answer(lite):
    late, now = tracker(lite, "pipelined"), tracker(lite)
    assert (late.latency, now.latency) == ("pipelined", "immediate")
    expected = list(now.track(FRAMES, BOXES[0]))
    same(list(late.track(FRAMES, BOXES[0])), expected)
    same(list(late.track(FRAMES[:1], BOXES[0])), expected[:1])
    assert not list(late.track([], BOXES[0]))
    late.init(FRAMES[0], BOXES[0])
    np.testing.assert_array_equal(late.last().box, BOXES[0])
    np.testing.assert_array_equal(late.update(FRAMES[1]).box, BOXES[0])
    np.testing.assert_allclose(late.update(FRAMES[2]).box, expected[1].box, atol=1e-3)
    np.testing.assert_allclose(late.last().box, expected[2].box, atol=1e-3)
    with pytest.raises(UserError, match="last was called before init"):
        late.with_tracking(late.tracking).last()
    host = Tracker(runtime="torch", threads=1)
    host.init(FRAMES[0], BOXES[0])
    with pytest.raises(UserError, match="only latency 'pipelined' keeps one"):
        host.last()


def test_pipelined_targets_come_and_go_in_several_streams(lite):
    """All rows are those of immediate answers: of targets that begin and end, and of streams that end or break."""

    def video(count, broken=False):
        for number, image in enumerate(FRAMES[:count]):
            yield VideoFrame(number, number / 25, image)
        if broken:
            raise UserError("this stream broke")

    def rows(latency, together=None):
        many = MultiTracker(tracker(lite, latency))
        assert many.latency == latency
        targets = [Target(BOXES[0], end=3), Target((10, 200, 30, 38), start=1, id=7), Target(BOXES[4], start=4)]
        streams = {
            "all": (video(6), numbered(targets)),
            "short": (video(2), numbered([BOXES[0]])),
            "ends first": (video(4), numbered([Target(BOXES[0], end=2)])),
            "broken": (video(3, broken=True), numbered([BOXES[0]])),
            "outside": (video(4), numbered([BOXES[0], Target((900, 0, 9, 9), start=2)])),
        }
        found = {}
        for name, frame, results in many.in_step(streams.items(), together):
            found.setdefault(name, []).append((frame, results))
        assert not many.ids
        return found

    now = rows("immediate")
    others = [("pipelined", None), ("pipelined", 2)]
    for other, name in product([rows(*options) for options in others], now):
        for (frame, results), (its_frame, its_results) in zip(other[name], now[name], strict=True):
            if not isinstance(its_frame, VideoFrame):
                assert str(frame) == str(its_frame), "the end, or what went wrong"
                continue
            assert frame.index == its_frame.index
            assert list(results) == list(its_results)
            same(list(results.values()), list(its_results.values()))


def test_pipelined_targets_that_stay_lost_are_dropped(lite):
    """All rows are those of immediate answers, and the stream ends with its last target."""
    never = LongTermConfig(low=0.99, high=1, search_sizes=(255,)).model_dump()
    rows = []
    for latency in ("pipelined", "immediate"):
        many = MultiTracker(tracker(lite, latency, longterm=never), drop_after=2)
        video = (VideoFrame(number, None, image) for number, image in enumerate(FRAMES))
        found = many.in_step([(0, (video, numbered(BOXES[:1])))])
        rows.append([(frame.index, list(results)) for _, frame, results in found if frame])
    assert rows[0] == rows[1] == [(0, [1]), (1, [1]), (2, [1])]


@pytest.fixture
def gpu(monkeypatch):
    """Make the CPU answer to the name of a GPU."""
    network, plain = device_network, torch_runtime.TorchNetwork
    monkeypatch.setattr("siamtrack.runtimes.load.torch_device", lambda device: device)
    monkeypatch.setattr(cuda_graph, "device_network", lambda model, device, precision: network(model, "cpu", "fp32"))
    monkeypatch.setattr(torch_runtime, "TorchNetwork", lambda model, *_, **options: plain(model))


def test_auto_takes_the_graph_on_a_gpu(gpu, caplog, monkeypatch):
    core, _ = load_core(device="cuda")
    assert isinstance(core, DeviceCore)
    assert load_core(device="cuda", latency="pipelined")[0].latency == "pipelined"
    assert not caplog.records
    for settings in ({"legacy": True}, {"distractors": {}}):
        one = Tracker(device="cuda", tracking=settings)
        assert one.runtime == "torch"
        assert f"runtime auto takes torch: the GPU's graph does not know tracking.{next(iter(settings))}" in caplog.text
        caplog.clear()
        with pytest.raises(UserError, match="the GPU's graph does not know"):
            Tracker(device="cuda", runtime="cuda-graph", tracking=settings)
        with pytest.raises(UserError, match="'pipelined' is for .* and this is torch on cuda; leave it out"):
            Tracker(device="cuda", tracking=settings, latency="pipelined")
    assert Tracker(device="cuda", runtime="torch").runtime == "torch"
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UserError, match="this ONNX Runtime cannot use cuda"):  # files have runtimes of their own
        Tracker(zoo.weights("siamrpnpp_lite", ".search.onnx"), device="cuda")


def test_a_network_that_does_not_fit_is_one_sentence(gpu, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(cuda_graph, "device_network", full)
    with pytest.raises(UserError, match="the memory of cuda is too small for the network; stop what else uses"):
        Tracker(device="cuda")


def test_a_frame_that_does_not_fit_is_one_sentence(monkeypatch):
    one = Tracker(runtime="torch", threads=1)

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    one.init(FRAMES[0], BOXES[0])
    for part in ("search", "template"):
        monkeypatch.setattr(one.core.network, part, full)
    with pytest.raises(UserError, match="the memory of cpu does not suffice for one target"):
        one.update(FRAMES[1])
    with pytest.raises(UserError, match="the memory of cpu does not suffice for one target"):
        one.init(FRAMES[0], BOXES[0])


def test_the_precision_of_the_graph(lite, monkeypatch):
    asked = []

    def network(model, device, precision):
        asked.append(precision)
        return lite[1]

    monkeypatch.setattr("siamtrack.runtimes.load.torch_device", lambda device: device)
    monkeypatch.setattr(cuda_graph, "device_network", network)
    for runtime in ("cuda-graph", "cuda-graph-fp32", "auto"):
        Tracker(device="cuda", runtime=runtime)
    assert asked == ["fp16", "fp32", "fp16"]
    assert DeviceCore(lite[1], TrackingConfig()).runtime == "cuda-graph-fp32"
    assert MultiTracker(tracker(lite)).batch == GRAPH_BATCH


def test_the_graph_needs_a_gpu():
    with pytest.raises(UserError, match="cuda-graph runs on a GPU; take --device cuda"):
        Tracker(runtime="cuda-graph")
    with pytest.raises(UserError, match=r"is for the runtimes cuda-graph and .* and this is \w+ on cpu"):
        Tracker(latency="pipelined")
    with pytest.raises(UserError, match="unknown latency 'late'; expected one of immediate, pipelined"):
        Tracker(latency="late")
