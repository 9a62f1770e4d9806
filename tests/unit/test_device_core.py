"""The step on one device against the step over the host: on a GPU as a graph, else on the CPU, without one."""

from itertools import groupby

import numpy as np
import pytest
import torch
from tests.conftest import wandering_square

from siamtrack.errors import UserError
from siamtrack.models import zoo
from siamtrack.models.siamese import SiameseRPN
from siamtrack.multi import MultiTracker
from siamtrack.runtimes import device_ops as ops
from siamtrack.runtimes import torch_runtime
from siamtrack.runtimes.cuda_graph import DeviceCore, device_network
from siamtrack.tracker import Tracker
from siamtrack.tracking.config import AdaptiveConfig, DistractorConfig, LongTermConfig, TrackingConfig
from siamtrack.tracking.core import TrackerCore
from siamtrack.tracking.crop import crop

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
        {"longterm": LongTermConfig(low=0.805, high=0.812, search_sizes=(271, 287))},
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


def test_masks_are_those_of_the_host():
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
    tracking = TrackingConfig(mask_threshold=0.5)
    host = TrackerCore(torch_runtime.TorchNetwork(model), config, tracking)
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
        np.testing.assert_allclose(ours.polygon, theirs.polygon, atol=1)


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


def test_more_targets_than_the_table_has_rows(lite, monkeypatch):
    monkeypatch.setattr("siamtrack.runtimes.cuda_graph.LARGEST_BATCH", 2)
    _, core = cores(lite)
    alone = follow(core, [FRAMES[:2]], BOXES[:1])
    many = follow(core, [FRAMES[:2]] * 5, np.repeat(BOXES[:1], 5, 0))
    np.testing.assert_allclose(many[0], np.repeat(alone[0], 5, 0), atol=1e-3)


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
        follow(core, [FRAMES[:2]], BOXES[:1])


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


@pytest.mark.skipif(DEVICE == "cuda", reason="there is a GPU")
def test_the_graph_needs_a_gpu():
    with pytest.raises(UserError, match="cuda-graph runs on a GPU; take --device cuda"):
        Tracker(runtime="cuda-graph")
