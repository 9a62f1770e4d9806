"""Index, pairs, crops and targets, each against a slow definition."""

import io
import itertools
import json
import tarfile

import cv2
import numpy as np
import pytest
import torch

from siamtrack.data.augment import Augmenter
from siamtrack.data.index import read_index
from siamtrack.data.pack import load_pack
from siamtrack.data.pairs import PairSampler, SamplingConfig, SideConfig
from siamtrack.data.targets import TargetConfig, assign
from siamtrack.errors import UserError
from siamtrack.models.config import AnchorConfig
from siamtrack.tracking.anchors import anchor_grid
from siamtrack.tracking.crop import context_side, crop

PLAIN = SamplingConfig(
    template=SideConfig(shift=4, scale=0.05, color=0), search=SideConfig(shift=64, scale=0.18, color=0), negative=0
)


@pytest.fixture(scope="module")
def data(training_folder):
    index = read_index(training_folder)
    return index, load_pack(index, 192, "cpu")


def test_index_reads_objects_and_tracks(data):
    index, pack = data
    assert len(index) == 14
    assert len(index.pictures) == 11
    assert sorted(np.unique(index.track)) == [-1, 0]
    assert (index.track == 0).sum() == 8
    assert pack.images.shape == (11, 3, 192, 192)
    assert (pack.mask_of >= 0).sum() == 3


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
        load_pack(read_index(tmp_path), 192, "cpu")
    with tarfile.open(tmp_path / "shard.tar", "w"):
        pass
    with pytest.raises(UserError, match="lacks 14 files"):
        load_pack(read_index(tmp_path), 192, "cpu")
    with pytest.raises(UserError, match="set train.data.canvas to 180"):
        load_pack(read_index(training_folder), 64, "cpu")
    (tmp_path / "shard.tar").write_bytes(b"no tar")
    with pytest.raises(UserError, match="no tar file"):
        load_pack(read_index(tmp_path), 192, "cpu")
    lied = (training_folder / "index.jsonl").read_text().replace('"size": [180, 150]', '"size": [181, 150]')
    (tmp_path / "index.jsonl").write_text(lied)
    (tmp_path / "shard.tar").write_bytes((training_folder / "shard.tar").read_bytes())
    with pytest.raises(UserError, match="is 180x150, but the index says 181x150"):
        load_pack(read_index(tmp_path), 192, "cpu")


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
    pack = load_pack(read_index(tmp_path), 32, "cpu")
    assert pack.fills[:, 0].tolist() == [50, 200]
    assert (pack.images.float().mean((1, 2, 3)) == torch.tensor([50.0, 200.0])).all()  # the canvas too


def test_holdout_takes_whole_sources_and_videos(data):
    index, _ = data
    kept, held = index.split(["clip"])
    assert (len(kept), len(held)) == (6, 8)
    assert {p.video for p in held.pictures} == {"clip"}
    assert kept.box.tolist() == index.box[index.track < 0].tolist()
    with pytest.raises(UserError, match="did you mean 'clip'"):
        index.split(["clips"])


def test_pairs_show_the_same_object_and_spread_uniformly(data):
    index, _ = data
    pairs = PairSampler(index, PLAIN, 127).draw(np.random.default_rng(1), 4000)
    assert not pairs.negative.any()
    # The object's place in the search region is uniform within 64 pixels: mean 0, variance 64^2 / 3.
    box = pairs.search.box
    place = (box[:, :2] + box[:, 2:] / 2 - pairs.search.center) * 127 / context_side(box[:, 2:])[:, None]
    assert np.abs(place).max() <= 64 + 1e-6
    assert np.abs(place.mean(0)).max() < 2
    assert place.var(0) == pytest.approx([64**2 / 3] * 2, rel=0.05)
    counts, _ = np.histogram(place[:, 0], 8, (-64, 64))
    assert counts.min() > 400
    # The same track, or the same still.
    tracks = {tuple(b): t for b, t in zip(index.box.astype(float).tolist(), index.track, strict=True)}
    for a, b in zip(pairs.template.box.tolist(), pairs.search.box.tolist(), strict=True):
        assert tracks[tuple(a)] == tracks[tuple(b)] >= 0 or a == b


def test_frames_of_a_pair_are_near(data):
    index, _ = data
    pairs = PairSampler(index, PLAIN.model_copy(update={"frame_range": 2}), 127).draw(np.random.default_rng(1), 500)
    frame = np.array([picture.frame for picture in index.pictures])
    assert np.abs(frame[pairs.template.picture] - frame[pairs.search.picture]).max() == 2


def test_the_same_seed_draws_the_same_pairs(data):
    index, _ = data
    sampler = PairSampler(index, SamplingConfig(background=0.5, distractor=0.5, flip=0.5), 127)
    a, b, c = (sampler.draw(np.random.default_rng(seed), 32) for seed in ([0, 5], [0, 5], [0, 6]))
    assert np.array_equal(a.search.center, b.search.center)
    assert np.array_equal(a.donors.object, b.donors.object)
    assert not np.array_equal(a.search.center, c.search.center)


def test_negative_pairs_show_another_object(data):
    index, _ = data
    config = PLAIN.model_copy(update={"negative": 1.0, "similar": 0.5})
    pairs = PairSampler(index, config, 127).draw(np.random.default_rng(1), 500)
    different = (pairs.template.box != pairs.search.box).any(1) | (pairs.template.picture != pairs.search.picture)
    assert different[pairs.negative].all()
    assert pairs.negative.mean() > 0.4


def test_similar_negatives_come_from_the_same_source(data):
    index, _ = data
    config = PLAIN.model_copy(update={"negative": 1.0, "similar": 1.0})
    pairs = PairSampler(index, config, 127).draw(np.random.default_rng(1), 200)
    source = np.array([picture.source for picture in index.pictures])
    assert (source[pairs.template.picture] == source[pairs.search.picture]).all()


def test_tracks_and_shares_weigh_what_is_drawn(data):
    index, _ = data

    def share_of_video(**changes):
        pairs = PairSampler(index, PLAIN.model_copy(update=changes), 127).draw(np.random.default_rng(1), 1000)
        return np.mean([index.pictures[picture].source == "video" for picture in pairs.template.picture])

    assert share_of_video(tracks=0.3) == pytest.approx(0.3, abs=0.05)
    assert share_of_video(tracks=1.0) == 1
    assert share_of_video(tracks=0.3, shares={"stills": 0.0}) == 1  # nothing else is left
    with pytest.raises(UserError, match="shares are all 0"):
        share_of_video(shares={"stills": 0.0, "video": 0.0})
    with pytest.raises(UserError, match="did you mean 'stills'"):
        share_of_video(shares={"still": 1.0})


def test_windows_vary_as_much_as_they_should(data):
    index, _ = data
    pairs = PairSampler(index, PLAIN, 127).draw(np.random.default_rng(1), 2000)
    for side, scale in ((pairs.template, 0.05), (pairs.search, 0.18)):
        stretch = side.pixel * 127 / context_side(side.box[:, 2:])[:, None]
        assert np.abs(stretch - 1).max() == pytest.approx(scale, rel=0.02)
        assert abs(np.corrcoef(stretch.T)[0, 1]) < 0.1  # width and height independently


def test_colours_vary_as_they_should(data):
    """Each map is, in turn: exchange of channels or grey, saturation, contrast, gain, offset."""
    index, _ = data

    def colors(**changes):
        plain = SideConfig(shift=4, scale=0.05, color=changes.pop("color", 0), jitter=changes.pop("jitter", 0))
        config = PLAIN.model_copy(update={"template": plain, **changes})
        return PairSampler(index, config, 127).draw(np.random.default_rng(3), 500).template.color

    assert (colors() == np.eye(3, 4)).all()
    assert {tuple(m[:, :3].argmax(1)) for m in colors(shuffle=1.0)} == set(itertools.permutations(range(3)))
    offset = colors(color=1)[..., 3]
    assert offset[:, 0].std() == pytest.approx(np.linalg.norm([4.64467907, 4.73710203, 4.88324118]), rel=0.1)
    assert offset[:, 2].std() == pytest.approx(np.linalg.norm([-0.55919361, 0.98062831, -0.41940627]), rel=0.1)
    jittered = colors(jitter=0.3)
    grey = jittered @ np.array([100.0, 100, 100, 1])  # a grey stays grey, brighter or darker
    assert np.ptp(grey, axis=1).max() < 1e-9
    assert grey.min() < 80
    assert grey.max() > 120
    assert np.abs(jittered[:, 0, 1]).max() > 0.1  # saturation mixes channels


def test_crops_are_the_trackers_geometry(data):
    """The batched warp equals a loop over pixels in numpy."""
    index, pack = data
    pairs = PairSampler(index, PLAIN, 127).draw(np.random.default_rng(4), 6)
    batch = Augmenter(index, pack, 127, 255).batch(pairs)
    assert batch.template.shape == (6, 3, 127, 127)
    for row in range(6):
        side = pairs.search
        picture = side.picture[row]
        width, height = index.size[picture]
        image = pack.images[picture, :, :height, :width].permute(1, 2, 0).numpy().astype(float)
        u = np.arange(255) + 0.5 - 127.5
        x, y = side.center[row, 0] + u * side.pixel[row, 0], side.center[row, 1] + u * side.pixel[row, 1]
        expected = bilinear(image, np.floor(image.mean((0, 1))), x, y)
        shown = batch.search[row].permute(1, 2, 0).numpy()
        assert np.abs(shown - expected).max() < 0.05
        # And it is what the tracker would cut, but for OpenCV's rounding: where the window is square.
        # The box is where the object is drawn.
        cx, cy, w, h = batch.box[row].numpy()
        ox, oy, ow, oh = side.box[row]
        assert side.center[row] + (cx, cy) * side.pixel[row] == pytest.approx([ox + ow / 2, oy + oh / 2], abs=1e-3)
        assert (w, h) == pytest.approx((ow, oh) / side.pixel[row], rel=1e-5)


def bilinear(image, fill, x, y):
    """Sample [H, W, C] at the grid of continuous x by y; pixel i has its middle at i + 0.5; beyond is ``fill``."""
    padded = np.pad(image, ((400, 400), (400, 400), (0, 0)), constant_values=np.nan)
    padded = np.where(np.isnan(padded), fill, padded)
    left, top = np.floor(x - 0.5).astype(int), np.floor(y - 0.5).astype(int)
    fx, fy = (x - 0.5 - left)[None, :, None], (y - 0.5 - top)[:, None, None]

    def at(rows, columns):
        return padded[np.clip(rows + 400, 0, len(padded) - 1)[:, None], np.clip(columns + 400, 0, padded.shape[1] - 1)]

    upper = at(top, left) * (1 - fx) + at(top, left + 1) * fx
    lower = at(top + 1, left) * (1 - fx) + at(top + 1, left + 1) * fx
    return upper * (1 - fy) + lower * fy


def test_crops_are_what_the_tracker_cuts(data):
    index, pack = data
    still = PLAIN.model_copy(update={"search": SideConfig(shift=40, scale=0, color=0)})
    pairs = PairSampler(index, still, 127).draw(np.random.default_rng(4), 6)
    batch = Augmenter(index, pack, 127, 255).batch(pairs)
    for row, picture in enumerate(pairs.search.picture):
        width, height = index.size[picture]
        image = np.ascontiguousarray(pack.images[picture, :, :height, :width].permute(1, 2, 0).numpy())
        fill = pack.fills[picture].numpy().astype(np.uint8)
        side = pairs.search.pixel[row, 0] * 255
        cut = crop([image], pairs.search.center[row : row + 1], np.array([side]), 255, fill[None])[0]
        difference = np.abs(batch.search[row].permute(1, 2, 0).numpy() - cut)
        assert difference.max() < 12  # OpenCV's warp counts in 1/32 pixels
        assert difference.mean() < 1


def test_backgrounds_stand_behind_the_mask_or_beyond_the_border(data):
    index, pack = data
    augmenter = Augmenter(index, pack, 127, 255)
    plain, behind = (
        PairSampler(index, PLAIN.model_copy(update={"background": p}), 127).draw(np.random.default_rng(6), 24)
        for p in (0.0, 1.0)
    )
    before, after = augmenter.batch(plain).search, augmenter.batch(behind).search
    masked, behind_it = 0, []
    for row, (picture, number) in enumerate(zip(behind.search.picture, behind.search.mask, strict=True)):
        side = behind.search
        u = np.arange(255) + 0.5 - 127.5
        x, y = (side.center[row, axis] + u * side.pixel[row, axis] for axis in range(2))
        width, height = index.size[picture]
        if number >= 0:
            masked += 1
            canvas = pack.masks[pack.mask_of[number], 0, :height, :width].numpy()[..., None] / 255
            alpha = bilinear(canvas, np.zeros(1), x, y)[..., 0]
        else:
            alpha = (((x >= 0) & (x < width))[None] & ((y >= 0) & (y < height))[:, None]).astype(float)
        changed = (before[row] - after[row]).abs().amax(0).numpy()
        assert changed[alpha == 1].max(initial=0) < 1e-3
        behind_it.append((changed[alpha == 0] > 1).mean())
    assert np.mean(behind_it) > 0.8
    assert 0 < masked < 24


def test_donors_are_pasted_by_their_masks_beside_the_target(data):
    index, pack = data
    augmenter = Augmenter(index, pack, 127, 255, with_masks=True)
    plain, pasted = (
        PairSampler(index, PLAIN.model_copy(update={"distractor": p}), 127).draw(np.random.default_rng(2), 12)
        for p in (0.0, 1.0)
    )
    before, after = augmenter.batch(plain), augmenter.batch(pasted)
    assert torch.equal(before.template, after.template)
    assert torch.equal(before.box, after.box)
    donors = pasted.donors
    assert len(donors.pair) == 12
    for k, row in enumerate(donors.pair):
        cx, cy, w, h = before.box[row].double().numpy()
        root = np.sqrt(w * h)
        dx, dy, dw, dh = index.box[donors.object[k]].astype(float)
        pixel = np.sqrt(dw * dh) / (root * donors.scale[k])
        middle = np.array([dx + dw / 2, dy + dh / 2]) - (np.array([cx, cy]) + donors.offset[k] * root) * pixel
        u = np.arange(255) + 0.5 - 127.5
        width, height = index.size[index.picture[donors.object[k]]]
        canvas = pack.masks[pack.mask_of[donors.object[k]], 0, :height, :width].numpy()[..., None] / 255
        alpha = bilinear(canvas, np.zeros(1), middle[0] + u * pixel, middle[1] + u * pixel)[..., 0]
        changed = (before.search[row] - after.search[row]).abs().amax(0).numpy()
        assert changed[alpha < 1e-6].max(initial=0) < 1e-3
        if (alpha > 0.999).sum() > 50:
            assert (changed[alpha > 0.999] > 1).mean() > 0.5
        assert np.allclose(after.mask[row].numpy(), before.mask[row].numpy() * (1 - alpha), atol=1e-3)
    assert np.linalg.norm(donors.offset, axis=1).min() >= 0.7


def test_masks_follow_the_search_region(data):
    index, pack = data
    augmenter = Augmenter(index, pack, 127, 255, with_masks=True)
    config = PLAIN.model_copy(update={"tracks": 0.0, "flip": 1.0})
    pairs = PairSampler(index, config, 127).draw(np.random.default_rng(2), 16)
    batch = augmenter.batch(pairs)
    assert batch.has_mask.tolist() == (pairs.search.mask >= 0).tolist()
    for row in range(16):
        if not batch.has_mask[row]:
            assert batch.mask[row].sum() == 0
            continue
        rows, columns = (batch.mask[row] > 0.5).nonzero().T
        cx, cy, w, h = batch.box[row].tolist()
        if abs(cx) + w / 2 < 120 and abs(cy) + h / 2 < 120:  # wholly inside
            assert (columns.min() - 127.5).item() == pytest.approx(cx - w / 2, abs=2.5)
            assert (rows.max() + 1 - 127.5).item() == pytest.approx(cy + h / 2, abs=2.5)


def test_flip_mirrors_picture_and_box(data):
    index, pack = data
    augmenter = Augmenter(index, pack, 127, 255)
    straight, mirrored = (
        augmenter.batch(PairSampler(index, PLAIN.model_copy(update={"flip": p}), 127).draw(np.random.default_rng(2), 4))
        for p in (0.0, 1.0)
    )
    assert torch.allclose(straight.search.flip(-1), mirrored.search)
    assert torch.allclose(straight.box * torch.tensor([-1, 1, 1, 1]), mirrored.box)


def test_grey_is_grey_and_blur_keeps_the_mean(data):
    index, pack = data
    augmenter = Augmenter(index, pack, 127, 255)
    grey = augmenter.batch(
        PairSampler(index, PLAIN.model_copy(update={"gray": 1.0}), 127).draw(np.random.default_rng(2), 4)
    )
    assert (grey.search - grey.search[:, :1]).abs().max() < 0.01
    blurred = PLAIN.model_copy(update={"search": SideConfig(shift=64, scale=0.18, color=0, blur=1)})
    sharp, soft = (
        augmenter.batch(PairSampler(index, config, 127).draw(np.random.default_rng(2), 8)).search
        for config in (PLAIN, blurred)
    )
    assert (soft.mean((1, 2, 3)) - sharp.mean((1, 2, 3))).abs().max() < 6
    assert soft.diff(dim=-1).abs().mean() < 0.7 * sharp.diff(dim=-1).abs().mean()


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
