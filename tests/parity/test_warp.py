"""Crops as they are made on the device, against a slow one in numpy: a layer at a time, a pixel's point at a time."""

import cv2
import numpy as np
import pytest
import torch

from siamtrack.data.augment import Augmenter, sample_points
from siamtrack.data.index import IndexBuilder, read_index
from siamtrack.data.pack import Decoder, load_pixels
from siamtrack.data.pairs import PairSampler, SamplingConfig
from siamtrack.data.pictures import PictureReader
from siamtrack.data.records import Object, Record
from siamtrack.data.windows import lay_windows
from siamtrack.tracking.crop import context_side, crop

CPU = torch.device("cpu")
SIZES = (127, 255)
PLAIN = {
    "template": {"shift": 4, "scale": 0.05, "color": 0},
    "search": {"shift": 64, "scale": 0.18, "color": 0},
    "negative": 0,
}
WARPS = {"rotate": 40, "aspect": 0.3, "shear": 0.2, "perspective": 0.2}


class Scene:
    """Training data, and what pairs drawn from it look like."""

    def __init__(self, index, canvas=192):
        self.index, self.canvas = index, canvas
        self.reader = PictureReader(self.index.root)

    def pairs(self, count, seed=4, **changes):
        self.config = SamplingConfig.model_validate(PLAIN | changes)
        self.windows = lay_windows(self.index, self.config, *SIZES, self.canvas)
        sampler = PairSampler(self.index, self.config, *SIZES, self.windows.area)
        return sampler.draw(np.random.default_rng(seed), count)

    def batch(self, pairs):
        pixels = load_pixels(Decoder(self.index, self.windows), self.windows, CPU, lambda share: None)
        return Augmenter(self.windows, *SIZES, with_masks=True).batch(pairs, pixels)

    def picture(self, thing):
        return self.reader.picture(self.index.pictures[int(self.index.picture[thing])])

    def mask(self, thing):
        return self.reader.mask(self.index.pictures[int(self.index.picture[thing])], self.index.mask[int(thing)])


@pytest.fixture(scope="module")
def scene(training_folder):
    return Scene(read_index(training_folder))


def slow_points(view, size):
    """Where each pixel of a crop lies in its picture, by the definition: [S, S] each."""
    half = view.dtype.type(size / 2)
    x, y = np.empty((2, size, size), view.dtype)
    for row in range(size):
        for column in range(size):
            u, v = (view.dtype.type(k) + view.dtype.type(0.5) - half for k in (column, row))
            a, b, depth = ((line[0] * u + line[1] * v) + line[2] for line in view)
            x[row, column], y[row, column] = a / depth, b / depth
    return x, y


def bilinear(image, x, y):
    """Sample [H, W, C] at continuous points; pixel i has its middle at i + 0.5; beyond is 0."""
    left, top = np.floor(x - 0.5).astype(int), np.floor(y - 0.5).astype(int)
    fx, fy = (x - 0.5 - left)[..., None], (y - 0.5 - top)[..., None]

    def at(row, column):
        inside = (row >= 0) & (row < image.shape[0]) & (column >= 0) & (column < image.shape[1])
        return image[row.clip(0, image.shape[0] - 1), column.clip(0, image.shape[1] - 1)] * inside[..., None]

    upper = at(top, left) * (1 - fx) + at(top, left + 1) * fx
    lower = at(top + 1, left) * (1 - fx) + at(top + 1, left + 1) * fx
    return upper * (1 - fy) + lower * fy


def slow_layer(scene, layers, row, size, own):
    """What a layer shows [S, S, 3] and how opaque it is [S, S, 1], in float64."""
    image = scene.picture(layers.object[row]).astype(float)
    steps = np.arange(size) + 0.5 - size / 2
    u, v = np.meshgrid(steps, steps)
    x, y, depth = np.einsum("ij,jrc->irc", layers.view[row], np.stack([u, v, np.ones_like(u)]))
    x, y = x / depth, y / depth
    ones = np.ones((*image.shape[:2], 1))
    shown = bilinear(image, x, y)
    if own:
        shown += np.floor(image.mean((0, 1))) * (1 - bilinear(ones, x, y))
    if layers.masked[row]:
        alpha = bilinear(scene.mask(layers.object[row])[..., None] / 255, x, y)
    else:
        left, top, right, bottom = layers.window[row]
        across = np.clip(np.minimum(x - left, right - x) + 0.5, 0, 1)
        alpha = (across * np.clip(np.minimum(y - top, bottom - y) + 0.5, 0, 1))[..., None]
    color = layers.color[row]
    return shown @ color[:, :3].T + color[:, 3], alpha


def slow_crop(scene, side, crop_number, size):
    """A crop [S, S, 3] and the mask of what it is about [S, S], layer by layer."""
    layers = side.layers
    count, behind = layers.counts[:2]
    image, own = slow_layer(scene, layers, crop_number, size, True)
    for row in np.flatnonzero(layers.crop == crop_number)[1:]:
        shown, alpha = slow_layer(scene, layers, row, size, row < count + behind)
        weight = 1 - own if row < count + behind else alpha
        image = image * (1 - weight) + shown * weight
    mask = own[..., 0] * side.has_mask[crop_number]
    for row in np.flatnonzero((layers.crop == crop_number) & (np.arange(len(layers.crop)) >= count + behind)):
        mask = mask * (1 - slow_layer(scene, layers, row, size, False)[1][..., 0])
    return image.clip(0, 255), mask


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_points_are_the_same_bit_for_bit(scene, kind):
    for changes in ({}, {"search": PLAIN["search"] | WARPS, "tracks": 0.0}):
        view = scene.pairs(3, flip=0.5, **changes).search.layers.view.astype(kind)
        x, y = sample_points(torch.from_numpy(view), 31)
        for row in range(3):
            slow_x, slow_y = slow_points(view[row], 31)
            assert np.array_equal(x[row].numpy(), slow_x)
            assert np.array_equal(y[row].numpy(), slow_y)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"search": PLAIN["search"] | WARPS, "template": PLAIN["template"] | WARPS, "flip": 0.5},
        {"background": 1.0, "flip": 0.5},
        {"copies": 1.0, "tracks": 0.0},
        {"distractor": 1.0, "occlude": 1.0, "copies": 1.0, "flip": 0.5, "tracks": 0.3},
        {"search": PLAIN["search"] | {"color": 1, "jitter": 0.3}, "gray": 0.3, "shuffle": 0.5, "copies": 1.0},
        {"negative": 1.0, "elsewhere": 0.5, "similar": 0.5, "search": PLAIN["search"] | WARPS},
    ],
    ids=["plain", "warped", "background", "copies", "pasted", "colours", "negatives"],
)
def test_crops_are_the_slow_ones(scene, changes):
    pairs = scene.pairs(5, **changes)
    batch = scene.batch(pairs)
    for row in range(5):
        for side, crops, size in zip(
            (pairs.template, pairs.search), (batch.template, batch.search), SIZES, strict=True
        ):
            expected, mask = slow_crop(scene, side, row, size)
            assert np.abs(crops[row].permute(1, 2, 0).numpy() - expected).max() < 0.1
        assert np.abs(batch.mask[row].numpy() - mask).max() < 1e-3
    assert batch.has_mask.tolist() == pairs.search.has_mask.tolist()
    assert batch.negative.tolist() == pairs.negative.tolist()


def test_crops_are_what_the_tracker_cuts(scene):
    pairs = scene.pairs(6, search={"shift": 40, "color": 0})
    batch = scene.batch(pairs)
    for row, thing in enumerate(pairs.search.object):
        image = scene.picture(thing)
        view = pairs.search.layers.view[row]
        fill = np.floor(image.mean((0, 1))).astype(np.uint8)
        cut = crop([image], view[None, :2, 2], np.array([view[0, 0] * 255]), 255, fill[None])[0]
        difference = np.abs(batch.search[row].permute(1, 2, 0).numpy() - cut)
        assert difference.max() < 12  # OpenCV's warp counts in 1/32 pixels
        assert difference.mean() < 1


def test_boxes_are_where_the_object_is_drawn(scene):
    pairs = scene.pairs(12, flip=0.5)
    batch = scene.batch(pairs)
    for row in range(12):
        x, y, w, h = pairs.search.box[row]
        corners = np.linalg.inv(pairs.search.layers.view[row]) @ [[x, x + w], [y, y + h], [1, 1]]
        left, right = sorted(corners[0])
        top, bottom = corners[1]
        expected = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        assert batch.box[row].numpy() == pytest.approx(expected, abs=1e-3)


def test_a_turned_box_is_that_of_the_mask_or_of_the_ellipse(scene):
    turned = {"search": {"shift": 20, "color": 0, "rotate": 90}, "tracks": 0.0}
    pairs = scene.pairs(40, **turned)
    batch = scene.batch(pairs)
    masked = 0
    for row in range(40):
        cx, cy, w, h = batch.box[row].tolist()
        if pairs.search.has_mask[row]:
            ys, xs = (batch.mask[row].numpy() > 0.5).nonzero()
            seen = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) - 127.5
            assert [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2] == pytest.approx(seen, abs=2.5)
            masked += 1
        else:
            box, view = pairs.search.box[row], pairs.search.layers.view[row]
            inverse = np.linalg.inv(view[:2, :2])
            assert (w, h) == pytest.approx(np.sqrt((inverse**2) @ (box[2:] ** 2)), rel=0.01)
            assert w * h <= 1.5 * np.prod(box[2:]) * np.linalg.det(inverse)
    assert masked > 10


def test_flip_mirrors_picture_box_and_mask(scene):
    straight, mirrored = (scene.batch(scene.pairs(4, flip=p, tracks=0.0)) for p in (0.0, 1.0))
    assert torch.allclose(straight.search.flip(-1), mirrored.search, atol=0.01)
    assert torch.allclose(straight.mask.flip(-1), mirrored.mask, atol=1e-4)
    assert torch.allclose(straight.box * torch.tensor([-1, 1, 1, 1]), mirrored.box, atol=1e-4)


def test_grey_is_grey(scene):
    grey = scene.batch(scene.pairs(4, gray=1.0))
    assert (grey.search - grey.search[:, :1]).abs().max() < 0.01


def test_blur_is_the_mean_along_two_lines(scene):
    sharp = scene.batch(scene.pairs(6)).search
    pairs = scene.pairs(6, search=PLAIN["search"] | {"blur": 1.0})
    soft = scene.batch(pairs).search
    for row in range(6):
        length, share = int(pairs.search.blur[row]), pairs.search.blur_split[row]
        image = sharp[row].permute(1, 2, 0).double().numpy()
        down, across = (cv2.blur(image, line, borderType=cv2.BORDER_REFLECT_101) for line in ((1, length), (length, 1)))
        expected = down * share + across * (1 - share)
        assert np.abs(soft[row].permute(1, 2, 0).numpy() - expected).max() < 0.01


def test_low_resolution_is_squares_of_means_interpolated(scene):
    pairs = scene.pairs(12, search=PLAIN["search"] | {"lowres": 1.0})
    sharp = scene.batch(scene.pairs(12)).search
    coarse = scene.batch(pairs).search
    for row in range(12):
        factor = int(pairs.search.lowres[row])
        count = -(-255 // factor)
        image = sharp[row].permute(1, 2, 0).double().numpy()
        small = np.empty((count, count, 3))
        for y in range(count):
            for x in range(count):
                small[y, x] = image[y * factor : y * factor + factor, x * factor : x * factor + factor].mean((0, 1))
        expected = cv2.resize(small, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)[:255, :255]
        assert np.abs(coarse[row].permute(1, 2, 0).numpy() - expected).max() < 0.5


def test_noise_has_its_strength_and_its_seed(scene):
    changes = {"search": PLAIN["search"] | {"noise": 20}}
    clean, pairs = scene.batch(scene.pairs(8)).search, scene.pairs(8, **changes)
    noisy, again = (scene.batch(pairs).search for _ in range(2))
    assert torch.equal(noisy, again)
    for row in range(8):
        middle = (clean[row] > 70) & (clean[row] < 185)  # not cut off at 0 or 255
        spread = (noisy[row] - clean[row])[middle].std().item()
        assert spread == pytest.approx(pairs.search.noise[row], rel=0.1, abs=0.1)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A picture of 900 x 700 with three objects: one small, one at the border, one large with a mask."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(5)
    image = cv2.resize(rng.integers(0, 255, (70, 90, 3), np.uint8), (900, 700), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((700, 900), np.uint8)
    cv2.ellipse(mask, (450, 350), (150, 90), 0, 0, 360, 255, -1)
    cv2.imwrite(str(folder / "a.png"), image)
    cv2.imwrite(str(folder / "m.png"), mask)
    things = [
        Object((200, 300, 30, 20)),
        Object((0, 650, 40, 50)),
        Object((300, 260, 301, 181), mask=str(folder / "m.png")),
    ]
    builder = IndexBuilder(folder)
    builder.add(Record(folder / "a.png", things), "s")
    return builder.build()


def test_windows_of_large_pictures_show_what_the_pictures_do(large):
    """Only what is scaled down loses detail."""
    warped = {"flip": 0.5, "distractor": 0.5, "occlude": 0.5, "background": 0.3}
    kept = Scene(large, canvas=384)
    pairs = kept.pairs(10, **warped)
    windows = kept.windows
    assert len(windows.picture) == 3
    assert windows.size.max() <= 384
    scaled = (windows.size < windows.part[:, 2:]).any(1)[windows.of_object]
    assert scaled.tolist() == [False, False, True]
    batch = kept.batch(pairs)
    whole = Scene(large, canvas=900)
    whole.pairs(1, **warped)
    assert len(whole.windows.picture) == 1
    reference = whole.batch(pairs)
    assert (batch.box - reference.box).abs().max() < 0.3
    for row in range(10):
        difference = (batch.search[row] - reference.search[row]).abs()
        if scaled[pairs.search.layers.object[pairs.search.layers.crop == row]].any():
            assert difference.mean() < 8
        else:
            assert difference.max() < 0.1


def test_windows_reach_as_far_as_search_regions(large):
    scene = Scene(large, canvas=384)
    pairs = scene.pairs(2000)
    part = scene.windows.part[scene.windows.of_object[pairs.search.object]].astype(float)
    edge = 127.5
    corners = np.array([[-edge, edge, edge, -edge], [-edge, -edge, edge, edge], [1, 1, 1, 1]])
    points = pairs.search.layers.view[:2000] @ corners
    points = points[:, :2] / points[:, 2:]
    inside = points.clip(0, np.array([900, 700])[:, None])  # beyond the picture there is nothing to keep
    assert (inside >= part[:, :2, None]).all()
    assert (inside <= (part[:, :2] + part[:, 2:])[..., None]).all()
    assert context_side(pairs.search.box[:, 2:]).max() > 300
