"""What is drawn: objects, places, windows, colours and what is pasted, by their distributions."""

import itertools
import json

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from siamtrack.data.index import read_index
from siamtrack.data.pairs import PairSampler, SamplingConfig, SideConfig
from siamtrack.errors import UserError
from siamtrack.tracking.crop import context_side

PLAIN = SamplingConfig(
    template=SideConfig(shift=4, scale=0.05, color=0), search=SideConfig(shift=64, scale=0.18, color=0), negative=0
)


@pytest.fixture(scope="module")
def index(training_folder):
    return read_index(training_folder)


def drawn(index, count=500, seed=1, **changes):
    config = SamplingConfig.model_validate(PLAIN.model_dump() | changes)
    return PairSampler(index, config, 127, 255).draw(np.random.default_rng(seed), count)


def own(side):
    """Views [B, 3, 3] and colours [B, 3, 4] of the crops' own pictures."""
    return side.layers.view[: len(side.object)], side.layers.color[: len(side.object)]


def center(side):
    """The point of the picture in the middle of each crop."""
    view, _ = own(side)
    return view[:, :2, 2] / view[:, 2:, 2]


def kinds(layers):
    """Rows of each kind of layer: own, behind, copies, distractors, covers."""
    edges = np.cumsum((0, *layers.counts))
    return [np.arange(a, b) for a, b in itertools.pairwise(edges)]


def shown_at(layers, row, box):
    """Where a box x, y, w, h of a layer's picture is in the crop: left, top, right, bottom."""
    x, y, w, h = box
    corners = np.linalg.inv(layers.view[row]) @ np.array([[x, x + w], [y, y + h], [1, 1]])
    corners = corners[:2] / corners[2]
    return np.concatenate([corners.min(1), corners.max(1)])


def test_pairs_show_the_same_object_and_spread_uniformly(index):
    pairs = drawn(index, 4000)
    assert not pairs.negative.any()
    # The object's place in the search region is uniform within 64 pixels: mean 0, variance 64^2 / 3.
    box = pairs.search.box
    place = (box[:, :2] + box[:, 2:] / 2 - center(pairs.search)) * 127 / context_side(box[:, 2:])[:, None]
    assert np.abs(place).max() <= 64 + 1e-6
    assert np.abs(place.mean(0)).max() < 2
    assert place.var(0) == pytest.approx([64**2 / 3] * 2, rel=0.05)
    counts, _ = np.histogram(place[:, 0], 8, (-64, 64))
    assert counts.min() > 400
    # The same track, or the same still.
    a, b = pairs.template.object, pairs.search.object
    assert ((a == b) | ((index.track[a] >= 0) & (index.track[a] == index.track[b]))).all()


def test_frames_of_a_pair_are_near(index):
    def distance(**changes):
        pairs = drawn(index, **changes)
        frame = index.pictures.frame[index.picture]
        return np.abs(frame[pairs.template.object] - frame[pairs.search.object]).max()

    assert distance(frame_range=2) == 2
    assert distance(frame_range=2, frame_ranges={"video": 4}) == 4
    assert distance(frame_range=0) == 0
    assert distance(frame_range=1000) == 7
    with pytest.raises(UserError, match="frame_ranges names 'vide', which is no source; did you mean 'video'"):
        distance(frame_ranges={"vide": 3})


def test_the_same_seed_draws_the_same_pairs(index):
    sampler = PairSampler(index, SamplingConfig(background=0.5, distractor=0.5, flip=0.5), 127, 255)
    a, b, c = (sampler.draw(np.random.default_rng(seed), 32) for seed in ([0, 5], [0, 5], [0, 6]))
    assert np.array_equal(a.search.layers.view, b.search.layers.view)
    assert np.array_equal(a.search.layers.object, b.search.layers.object)
    assert not np.array_equal(a.search.layers.view[:32], c.search.layers.view[:32])


def test_options_do_not_change_what_else_is_drawn(index):
    """So two runs differ by what was switched on, and by nothing else."""
    plain = drawn(index)
    full = drawn(index, background=0.5, distractor=0.5, copies=0.5, occlude=0.5)
    assert np.array_equal(own(plain.search)[0], own(full.search)[0])
    assert np.array_equal(own(plain.template)[0], own(full.template)[0])


def test_negative_pairs_show_another_object(index):
    pairs = drawn(index, negative=1.0, similar=0.5)
    a, b = pairs.template.object, pairs.search.object
    same = (a == b) | ((index.track[a] >= 0) & (index.track[a] == index.track[b]))
    assert (pairs.negative == ~same).all()
    assert pairs.negative.mean() > 0.4


def test_negatives_come_from_the_same_source_or_class(index):
    def columns(column, **changes):
        pairs = drawn(index, 200, negative=1.0, **changes)
        return [np.array(column)[each] for each in (pairs.template.object, pairs.search.object)]

    template, search = columns(index.sources(), similar=1.0)
    assert (template == search).all()
    template, search = columns(index.label[:], category=1.0)  # frames of the track have no class: the same source
    assert (template == search).all()
    template, search = columns(index.sources())
    assert (template != search).any()
    with pytest.raises(ValidationError, match="exceed 1 together"):
        SamplingConfig(similar=0.5, category=0.4, elsewhere=0.2)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Pictures of 300 pixels: one with two objects apart, one with two that overlap, one with a small object alone."""
    folder = tmp_path_factory.mktemp("scenes")
    boxes = {"apart": [[10, 10, 40, 40], [200, 200, 40, 40]], "over": [[20, 20, 80, 80], [25, 25, 75, 75]],
             "alone": [[8, 8, 12, 12]]}  # fmt: skip
    lines = []
    for name, each in boxes.items():
        cv2.imwrite(str(folder / f"{name}.png"), np.zeros((300, 300, 3), np.uint8))
        objects = [{"box": box} for box in each]
        record = {"image": f"{name}.png", "shard": "", "source": name, "size": [300, 300], "objects": objects}
        lines.append(json.dumps(record))
    (folder / "index.jsonl").write_text("\n".join(lines))
    return read_index(folder)


def test_negatives_elsewhere_are_of_the_same_picture(scenes):
    pairs = drawn(scenes, 900, negative=1.0, elsewhere=1.0)
    source = np.array(scenes.sources())
    template, search, box = source[pairs.template.object], source[pairs.search.object], pairs.search.box
    apart, alone = template == "apart", template == "alone"
    # Another object where there is one.
    assert (search[apart] == "apart").mean() > 0.4  # the object itself half of the time: then a place without it
    assert pairs.negative.mean() > 0.7
    # A place of the picture without the target: not even the whole search region shows it.
    empty = alone & (search == "alone")
    assert empty.mean() > 0.2
    assert pairs.negative[empty].all()
    assert not pairs.search.has_mask[empty].any()
    for row in np.flatnonzero(empty)[:50]:
        left, top, right, bottom = shown_at(pairs.search.layers, row, (8, 8, 12, 12))
        assert left > 127.5 or top > 127.5 or right < -127.5 or bottom < -127.5
        x, y = box[row, :2] + box[row, 2:] / 2
        assert 0 <= x <= 300
        assert 0 <= y <= 300
    # An object that overlaps the target is no other one: it is drawn as often as by chance.
    over = template == "over"
    assert (search[over] == "over").mean() == pytest.approx(2**0.5 / (2 * 2**0.5 + 1), abs=0.07)


def test_tracks_and_shares_weigh_what_is_drawn(index):
    def share_of_video(**changes):
        pairs = drawn(index, 1000, **changes)
        return np.mean([index.pictures.source[index.picture[number]] == "video" for number in pairs.template.object])

    assert share_of_video(tracks=0.3) == pytest.approx(0.3, abs=0.05)
    assert share_of_video(tracks=1.0) == 1
    assert share_of_video(tracks=0.3, shares={"stills": 0.0}) == 1  # nothing else is left
    with pytest.raises(UserError, match="shares are all 0"):
        share_of_video(shares={"stills": 0.0, "video": 0.0})
    with pytest.raises(UserError, match="did you mean 'stills'"):
        share_of_video(shares={"still": 1.0})


def test_shares_of_sources_are_relative(scenes):
    def counts(**shares):
        pairs = drawn(scenes, 3000, shares=shares)
        source = np.array(scenes.sources())[pairs.template.object]
        return [np.mean(source == name) for name in ("apart", "over", "alone")]

    roots = np.sqrt([2, 2, 1])
    assert counts() == pytest.approx(roots / roots.sum(), abs=0.04)
    assert counts(apart=6.0, over=3.0, alone=1.0) == pytest.approx([0.6, 0.3, 0.1], abs=0.04)


def test_windows_vary_as_much_as_they_should(index):
    pairs = drawn(index, 2000)
    for side, scale in ((pairs.template, 0.05), (pairs.search, 0.18)):
        view, _ = own(side)
        stretch = view[:, [0, 1], [0, 1]] * 127 / context_side(side.box[:, 2:])[:, None]
        assert np.abs(stretch - 1).max() == pytest.approx(scale, rel=0.02)
        assert abs(np.corrcoef(stretch.T)[0, 1]) < 0.1  # width and height independently
        assert (view[:, [0, 1, 2, 2], [1, 0, 0, 1]] == 0).all()


def test_stills_are_turned_stretched_sheared_and_tilted(index):
    side = {"shift": 64, "color": 0, "rotate": 30, "aspect": 0.4, "shear": 0.2, "perspective": 0.2}
    pairs = drawn(index, 2000, search=side)
    view, _ = own(pairs.search)
    still = index.track[pairs.search.object] < 0
    box = pairs.search.box
    # About the target's middle, where the tilt does nothing: the derivative of the homography.
    middle = np.concatenate([box[:, :2] + box[:, 2:] / 2, np.ones((2000, 1))], 1)
    place = np.linalg.solve(view, middle[..., None])[..., 0]
    depth = 1 / place[:, 2]
    linear = (view[:, :2, :2] - middle[:, :2, None] * view[:, 2:, :2]) / depth[:, None, None]
    linear *= (127 / context_side(box[:, 2:]))[:, None, None]
    angle = np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    assert np.abs(angle).max() == pytest.approx(30, rel=0.02)
    width = np.linalg.norm(linear[:, :, 0], axis=1)
    assert np.abs(np.log(width[still])).max() == pytest.approx(0.4, rel=0.02)
    assert width[~still] == pytest.approx(1)
    back = np.radians(-angle)
    turned = np.einsum("ijb,bjk->bik", np.array([[np.cos(back), -np.sin(back)], [np.sin(back), np.cos(back)]]), linear)
    shear = turned[:, 0, 1] / turned[:, 1, 1]
    assert np.abs(shear[still]).max() == pytest.approx(0.2, rel=0.02)
    assert np.abs(shear[~still]).max() < 1e-9
    tilt = view[:, 2, :2] * 127.5 / depth[:, None]  # over half a window
    assert np.abs(tilt[still]).max() == pytest.approx(0.2, rel=0.02)
    assert (tilt[~still] == 0).all()


def test_no_tilt_turns_a_window_over(index):
    """Even where the target is far outside of it."""
    side = {"shift": 200, "color": 0, "perspective": 0.25}
    view, _ = own(drawn(index, 2000, search=side, tracks=0.0).search)
    corners = np.array([[-127.5, 127.5, 127.5, -127.5], [-127.5, -127.5, 127.5, 127.5], [1, 1, 1, 1]])
    depth = (view @ corners)[:, 2]  # 1 at the target
    assert depth.min() > 0.19


def test_colours_vary_as_they_should(index):
    """Each map is, in turn: exchange of channels or grey, saturation, contrast, gain, offset."""

    def colors(**changes):
        plain = {"shift": 4, "scale": 0.05, "color": changes.pop("color", 0), "jitter": changes.pop("jitter", 0)}
        return own(drawn(index, template=plain, **changes).template)[1]

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


def placed_target(pairs, row):
    return shown_at(pairs.search.layers, row, pairs.search.box[row])


def overlap(a, b):
    shared = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


def test_copies_are_of_the_target_and_leave_it_free(index):
    pairs = drawn(index, 300, copies=1.0, flip=0.5)
    layers = pairs.search.layers
    rows = kinds(layers)[2]
    stills = index.track[pairs.search.object] < 0
    assert set(layers.crop[rows]) <= set(np.flatnonzero(stills))  # the video's source has no mask
    assert len(rows) > 0.9 * stills.sum()
    for row in rows.tolist():
        crop, thing = layers.crop[row], layers.object[row]
        target = pairs.search.object[crop]
        assert layers.masked[row]
        if index.mask[target]:
            assert thing == target
        where, copy = placed_target(pairs, crop), shown_at(layers, row, index.box[thing])
        assert overlap(where, copy) <= 0.2 + 1e-9
        scale = np.sqrt((copy[2:] - copy[:2]).prod() / (where[2:] - where[:2]).prod())
        assert 0.7 <= scale <= 1.4
        assert np.abs((copy[:2] + copy[2:]) / 2).max() <= 127.5


def test_occlusions_cover_a_share_of_the_target(index):
    pairs = drawn(index, 300, occlude=1.0, flip=0.5)
    layers = pairs.search.layers
    rows = kinds(layers)[4]
    assert len(rows) == 300
    shares = []
    for row in rows.tolist():
        target = placed_target(pairs, layers.crop[row])
        cover = shown_at(layers, row, index.box[layers.object[row]])
        covered = np.clip(np.minimum(target[2:], cover[2:]) - np.maximum(target[:2], cover[:2]), 0, None).prod()
        shares.append(covered / (target[2:] - target[:2]).prod())
    assert min(shares) == pytest.approx(0.2, abs=0.02)
    assert max(shares) == pytest.approx(0.6, abs=0.02)
    assert 0 < layers.masked[rows].mean() < 0.5  # objects with a mask, and whole pieces


def test_degraded_crops_are_as_many_as_asked_for(index):
    side = {"shift": 64, "lowres": 0.25, "noise": 20, "blur": 0.5}
    search = drawn(index, 2000, search=side).search
    assert (search.lowres > 1).mean() == pytest.approx(0.25, abs=0.04)
    assert set(search.lowres) == {1, 2, 3, 4}
    assert search.noise.max() == pytest.approx(20, rel=0.02)
    assert (search.blur > 0).mean() == pytest.approx(0.5, abs=0.04)
    assert set(search.blur % 2) <= {0, 1}
    assert search.blur.max() == 45
