"""The tracker in one file: an exported pair of ONNX files with numpy and ONNX Runtime alone, to port from.

    siamtrack export siamrpnpp_lite --out lite
    python onnx_numpy.py lite FRAMES 120,80,60,140

FRAMES is a folder of .ppm files or a .npy file [T, H, W, 3] uint8 BGR. Prints a line a frame: x, y, w, h, score.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

# What a preset that does not say otherwise has.
TRACKING = {"penalty_k": 0.05, "window_influence": 0.42, "lr": 0.38, "search_size": None, "smallest": 10.0}
MODEL = {"template_size": 127, "search_size": 255}
ANCHORS = {"ratios": [0.33, 0.5, 1.0, 2.0, 3.0], "scales": [8.0]}
STRIDE = 8  # pixels of the search region between two cells of the response


class Tracker:
    """Follows one object; positions are continuous pixels, pixel i covers [i, i + 1)."""

    def __init__(self, stem: str, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.template = onnxruntime.InferenceSession(f"{stem}.template.onnx", options)
        self.search = onnxruntime.InferenceSession(f"{stem}.search.onnx", options)
        preset = json.loads(self.search.get_modelmeta().custom_metadata_map["siamtrack"])
        self.tracking = TRACKING | preset.get("tracking", {})
        self.model = MODEL | preset["model"]
        self.anchors = anchors(**(ANCHORS | self.model.get("anchors", {})))  # [A, 2]
        self.size_of_search = self.tracking["search_size"] or self.model["search_size"]

    def init(self, frame, box) -> None:
        """Start with the object in ``box`` (x, y, w, h) of a frame [H, W, 3]."""
        x, y, *size = (float(value) for value in box)
        self.size, self.center = np.array(size), np.array([x, y]) + np.array(size) / 2
        self.smallest = np.minimum(self.size, self.tracking["smallest"])
        self.fill = frame.reshape(-1, 3).mean(0).astype(np.uint8)
        patch = crop(frame, self.center, context_side(self.size), self.model["template_size"], self.fill)
        self.kernels = self.template.run(None, {"patch": patch[None]})

    def update(self, frame):
        """Return the box [4] and the score of the object in the next frame."""
        output = self.size_of_search
        side = context_side(self.size) * output / self.model["template_size"]
        grid = 2.0 ** np.floor(np.log2(side / output / 4))  # so that rounding errors do not grow from frame to frame
        center, side = np.rint(self.center / grid) * grid, np.rint(side / grid) * grid
        patch = crop(frame, center, side, output, self.fill)
        kernels = {f"kernels_{index}": kernel for index, kernel in enumerate(self.kernels)}
        cls, loc = self.search.run(["cls", "loc"], {"patch": patch[None], **kernels})

        boxes, scores, cells = decode(cls, loc, self.anchors)  # [N, 4] cx, cy, w, h from the middle; [N]
        scale = output / side  # pixels of the search region in a pixel of the frame
        change = larger(context_side(boxes[:, 2:]) / context_side(self.size * scale))
        ratio = larger((self.size[0] / self.size[1]) / (boxes[:, 2] / boxes[:, 3]))
        penalty = np.exp((1 - change * ratio) * self.tracking["penalty_k"])
        window = np.tile(np.outer(np.hanning(cells), np.hanning(cells)).ravel(), len(self.anchors))
        distrust = self.tracking["window_influence"]
        best = int(np.argmax(penalty * scores * (1 - distrust) + window * distrust))

        rate = scores[best] * penalty[best] * self.tracking["lr"]
        limit = np.array(frame.shape[1::-1], float)  # width, height
        self.center = np.clip(center + boxes[best, :2] / scale, 0, limit)
        size = self.size * (1 - rate) + boxes[best, 2:] / scale * rate
        self.size = np.clip(size, np.minimum(self.smallest, limit), limit)
        return np.concatenate([self.center - self.size / 2, self.size]), float(scores[best])


def context_side(size):
    """Return the side of the square with context: sqrt((w + p)(h + p)) with p = (w + h) / 2."""
    padded = size + size.sum(-1, keepdims=True) / 2
    return np.sqrt(padded.prod(-1))


def larger(ratio):
    """Return the factor of a change, up or down."""
    return np.maximum(ratio, 1 / ratio)


def anchors(ratios, scales):
    """Return the widths and heights of a cell's anchors, in pixels of the search region."""
    shapes = []
    for ratio in ratios:
        width = np.floor(np.sqrt(STRIDE**2 / ratio))
        shapes += [(width * scale, np.floor(width * ratio) * scale) for scale in scales]
    return np.array(shapes)


def decode(cls, loc, shapes):
    """Return boxes [N, 4], scores [N] and cells a side; N runs over anchors, then rows, then columns."""
    cells = cls.shape[-1]
    background, foreground = cls.reshape(2, -1).astype(float)
    dx, dy, dw, dh = loc.reshape(4, -1).astype(float)
    w, h = np.repeat(shapes, cells * cells, axis=0).T
    offsets = (np.arange(cells) - cells // 2) * STRIDE
    cx, cy = (np.tile(axis.ravel(), len(shapes)) for axis in np.meshgrid(offsets, offsets))
    w_now, h_now = (np.exp(np.clip(change, -4, 4)) * shape for change, shape in ((dw, w), (dh, h)))
    scores = 1 / (1 + np.exp(np.clip(background - foreground, -80, 80)))
    return np.stack([dx * w + cx, dy * h + cy, w_now, h_now], axis=1), scores, cells


def crop(frame, center, side, output, fill):
    """Return the square about ``center`` as [output, output, 3] uint8, bilinear; ``fill`` is the colour outside."""
    step = side / output
    (x0, x1, fx), (y0, y1, fy) = (
        samples(middle - side / 2 + step / 2 - 0.5, step, output, length)
        for middle, length in zip(center, (frame.shape[1], frame.shape[0]), strict=True)
    )
    padded = np.empty((frame.shape[0] + 2, frame.shape[1] + 2, 3), np.float32)
    padded[:] = fill
    padded[1:-1, 1:-1] = frame
    fx, fy = fx[None, :, None], fy[:, None, None]
    rows = padded[y0] * (1 - fy) + padded[y1] * fy  # [output, W + 2, 3]
    return np.rint(rows[:, x0] * (1 - fx) + rows[:, x1] * fx).astype(np.uint8)


def samples(first, step, output, length):
    """Return, of each pixel, its two neighbours in a frame padded by one pixel, and the second one's weight."""
    place = first + step * np.arange(output)
    left = np.floor(place)
    weight = (place - left).astype(np.float32)
    return *(np.clip(left + 1 + shift, 0, length + 1).astype(int) for shift in (0, 1)), weight


def read_ppm(path):
    """Return a binary .ppm file of 8 bits without comments as [H, W, 3] BGR."""
    content = path.read_bytes()
    kind, width, height, depth, _ = content.split(maxsplit=4)
    if (kind, depth) != (b"P6", b"255"):
        sys.exit(f"{path} is no binary .ppm file of 8 bits")
    pixels = np.frombuffer(content[-int(width) * int(height) * 3 :], np.uint8)
    return pixels.reshape(int(height), int(width), 3)[..., ::-1]


if __name__ == "__main__":
    stem, source, corners = sys.argv[1:]
    frames = np.load(source) if source.endswith(".npy") else map(read_ppm, sorted(Path(source).glob("*.ppm")))
    tracker = None
    for frame in frames:
        if tracker is None:
            tracker = Tracker(stem)
            tracker.init(frame, corners.split(","))
        else:
            found, score = tracker.update(frame)
            print(*(f"{value:.2f}" for value in found), f"{score:.3f}")
