"""The index, what is decoded, and targets, each against a slow definition."""

import io
import json
import tarfile

import cv2
import numpy as np
import pytest
import torch

from siamtrack.data.index import read_index
from siamtrack.data.pack import Decoder, Pixels, load_pixels
from siamtrack.data.pairs import SamplingConfig
from siamtrack.data.targets import TargetConfig, assign
from siamtrack.data.windows import lay_windows
from siamtrack.errors import UserError
from siamtrack.models.config import AnchorConfig
from siamtrack.tracking.anchors import anchor_grid


def decoded(folder, canvas: int = 192) -> Pixels:
    """All windows of the training data in a folder."""
    index = read_index(folder)
    windows = lay_windows(index, SamplingConfig(), 127, 255, canvas)
    return load_pixels(Decoder(index, windows), windows, torch.device("cpu"), lambda share: None)


@pytest.fixture(scope="module")
def index(training_folder):
    return read_index(training_folder)


def test_index_reads_objects_and_tracks(index, training_folder):
    assert len(index) == 14
    assert len(index.pictures) == 11
    assert sorted(np.unique(index.track)) == [-1, 0]
    assert (index.track == 0).sum() == 8
    pixels = decoded(training_folder)
    assert pixels.images.shape == (11, 3, 192, 192)
    assert pixels.masks.shape == (3, 1, 192, 192)


def test_bad_records_are_listed_and_boxes_cut(training_folder, tmp_path):
    lines = (training_folder / "index.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    first["objects"] = [
        {"box": b, "track": None, "mask": None} for b in ([-5, -5, 30, 30], [0, 0, 0, 5], [1, 2, float("nan"), 4])
    ]
    (tmp_path / "index.jsonl").write_text("\n".join([json.dumps(first), "{", '{"image": 3}']))
    index = read_index(tmp_path)
    assert index.box.tolist() == [[0, 0, 25, 25]]
    assert len(index.rejected) == 4
    assert "line 2" in str(index.rejected[2])


def test_what_is_no_training_data_is_refused(training_folder, tmp_path):
    with pytest.raises(UserError, match=r"there is no .*index.jsonl"):
        read_index(tmp_path)
    (tmp_path / "index.jsonl").write_text("")
    with pytest.raises(UserError, match="no usable object"):
        read_index(tmp_path)
    (tmp_path / "index.jsonl").write_text((training_folder / "index.jsonl").read_text())
    with pytest.raises(UserError, match=r"there is no .*shard.tar"):
        decoded(tmp_path)
    with tarfile.open(tmp_path / "shard.tar", "w"):
        pass
    with pytest.raises(UserError, match=r"lacks img/0.png"):
        decoded(tmp_path)
    (tmp_path / "shard.tar").write_bytes(b"no tar")
    with pytest.raises(UserError, match="no tar file"):
        decoded(tmp_path)
    lied = (training_folder / "index.jsonl").read_text().replace('"size": [180, 150]', '"size": [181, 150]')
    (tmp_path / "index.jsonl").write_text(lied)
    (tmp_path / "shard.tar").write_bytes((training_folder / "shard.tar").read_bytes())
    with pytest.raises(UserError, match="is 180x150, but the index says 181x150"):
        decoded(tmp_path)


def test_a_picture_listed_twice_counts_once(training_folder, tmp_path):
    text = (training_folder / "index.jsonl").read_text()
    (tmp_path / "index.jsonl").write_text(text + text.splitlines()[0] + "\n")
    index = read_index(tmp_path)
    assert len(index.pictures) == 11
    assert [str(each) for each in index.rejected] == ["index.jsonl line 12: img/0.png: listed before"]


def test_shards_may_use_the_same_names(tmp_path):
    lines = []
    for number, level in enumerate((50, 200)):
        image = np.full((20, 30 + number, 3), level, np.uint8)
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            content = cv2.imencode(".png", image)[1].tobytes()
            entry = tarfile.TarInfo("img/0.png")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        lines.append({"image": "img/0.png", "shard": f"{number}.tar", "source": "s", "size": [30 + number, 20],
                      "objects": [{"box": [1, 1, 9, 9]}]})  # fmt: skip
    (tmp_path / "index.jsonl").write_text("\n".join(map(json.dumps, lines)))
    pixels = decoded(tmp_path, 32)
    assert pixels.fills[:, 0].tolist() == [50, 200]
    assert pixels.images.amax((1, 2, 3)).tolist() == [50, 200]


def test_holdout_takes_whole_sources_and_videos(index):
    kept, held = index.split(["clip"])
    assert (len(kept), len(held)) == (6, 8)
    assert {p.video for p in held.pictures} == {"clip"}
    assert kept.box.tolist() == index.box[index.track < 0].tolist()
    with pytest.raises(UserError, match="did you mean 'clip'"):
        index.split(["clips"])


ANCHORS = torch.from_numpy(anchor_grid(AnchorConfig(), 25)).float()


def draw(box, negative=False, scores=None, **changes):
    boxes = torch.tensor([box], dtype=torch.float32)
    scores = torch.zeros(1, len(ANCHORS)) if scores is None else scores
    generator = torch.Generator().manual_seed(0)
    return assign(boxes, torch.tensor([negative]), ANCHORS, 8.0, scores, TargetConfig(**changes), generator)


def overlap_with(box):
    """IoU of every anchor with a box, by loops."""
    result = []
    cx, cy, w, h = box
    for ax, ay, aw, ah in ANCHORS.tolist():
        dx = max(0, min(cx + w / 2, ax + aw / 2) - max(cx - w / 2, ax - aw / 2))
        dy = max(0, min(cy + h / 2, ay + ah / 2) - max(cy - h / 2, ay - ah / 2))
        result.append(dx * dy / (w * h + aw * ah - dx * dy))
    return np.array(result)


@pytest.mark.parametrize("box", [(0, 0, 64, 64), (30, -20, 80, 45), (60, 60, 40, 90)])
def test_positives_and_negatives_follow_the_overlap(box):
    target = draw(box)
    overlap, label = overlap_with(box), target.label[0].numpy()
    assert (overlap[label == 1] > 0.6).all()
    assert (overlap[label == 0] < 0.3).all()
    assert (label == 1).sum() == min(16, (overlap > 0.6).sum()) > 0
    assert (label == 0).sum() == 48
    assert target.weight[0].sum() == pytest.approx(1)
    assert ((target.weight[0] > 0).numpy() == (label == 1)).all()


def test_offsets_lead_from_the_anchor_to_the_box():
    box = (10.0, -6.0, 70.0, 50.0)
    dx, dy, dw, dh = draw(box).offset[0]
    ax, ay, aw, ah = ANCHORS.T
    assert torch.allclose(dx * aw + ax, torch.tensor(box[0]), atol=1e-3)
    assert torch.allclose(dy * ah + ay, torch.tensor(box[1]), atol=1e-3)
    assert torch.allclose(dw.exp() * aw, torch.tensor(box[2]), rtol=1e-4)
    assert torch.allclose(dh.exp() * ah, torch.tensor(box[3]), rtol=1e-4)


def test_a_negative_pair_has_negatives_near_the_object_only():
    target = draw((40, -32, 64, 64), negative=True)
    chosen = ANCHORS[target.label[0] == 0]
    assert (target.label == 1).sum() == 0
    assert len(chosen) == 16
    assert (chosen[:, 0] - 40).abs().max() <= 28
    assert (chosen[:, 1] + 32).abs().max() <= 28
    assert target.weight.sum() == 0


def test_hard_negatives_are_the_highest_scores():
    scores = torch.rand(1, len(ANCHORS), generator=torch.Generator().manual_seed(1))
    box = (0, 0, 64, 64)
    label = draw(box, scores=scores, hard=16).label[0]
    allowed = torch.from_numpy(overlap_with(box) < 0.3)
    hardest = torch.where(allowed, scores[0], -1).topk(16).indices
    assert (label[hardest] == 0).all()
    assert (label == 0).sum() == 48
