"""Made-up data: a textured square that wanders over a textured background."""

import contextlib
import io
import json
import os
import sys
import tarfile
from fractions import Fraction
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest

from siamtrack.cli.main import run
from siamtrack.video.writer import VideoWriter

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("SIAMTRACK_DATA", ROOT.parent / "shared" / "data"))
"""Folder of data that does not travel with the project; tests that need it are skipped without it."""

SIZE = (320, 240)
FRAMES = 24


def wandering_square(frames: int = FRAMES, size: tuple[int, int] = SIZE):
    """Return frames [H, W, 3] and the boxes [T, 4] of a square of 40 pixels in them."""
    rng = np.random.default_rng(7)
    width, height = size
    # High contrast, and nowhere like its mirror image or its neighbourhood.
    coarse = rng.integers(0, 255, (height // 16 + 1, width // 16 + 1, 3), np.uint8)
    background = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    patch = cv2.resize(rng.integers(0, 255, (5, 5, 3), np.uint8), (40, 40), interpolation=cv2.INTER_CUBIC)
    images, boxes = [], []
    for number in range(frames):
        x, y = 100 + 3 * number, 90 + round(20 * np.sin(number / 5))
        image = background.copy()
        image[y : y + 40, x : x + 40] = patch
        images.append(image)
        boxes.append((x, y, 40, 40))
    return images, np.array(boxes, float)


def siamtrack(*arguments, folder, code=0) -> CompletedProcess:
    """Run a command as ``python -m siamtrack`` does, but in this process, which has imported everything already."""
    command = ["siamtrack", *map(str, arguments)]
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.StringIO()) as output,
        contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
        patch.chdir(folder)
        patch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stopped:
            run()
    done = CompletedProcess(command, stopped.value.code or 0, output.getvalue(), errors.getvalue())
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="session")
def square():
    return wandering_square()


@pytest.fixture(scope="session")
def clip(square, tmp_path_factory) -> Path:
    """The square as an H.264 video of 25 frames a second."""
    path = tmp_path_factory.mktemp("clip") / "square.mp4"
    writer = VideoWriter(path, SIZE, Fraction(25))
    for number, image in enumerate(square[0]):
        writer.write(image, number / 25)
    writer.close()
    return path


@pytest.fixture(scope="session")
def sequences(square, tmp_path_factory) -> Path:
    """Two sequences: one with boxes, one with polygons and an absent frame."""
    folder = tmp_path_factory.mktemp("sequences")
    images, boxes = square
    for name in ("boxes", "polygons"):
        (folder / name / "img").mkdir(parents=True)
        lines = []
        for number, (image, (x, y, w, h)) in enumerate(zip(images[:12], boxes, strict=False)):
            cv2.imwrite(str(folder / name / "img" / f"{number + 1:08d}.png"), image)
            corners = (x, y, x + w, y, x + w, y + h, x, y + h)
            lines.append(",".join(f"{v:g}" for v in ((x, y, w, h) if name == "boxes" else corners)))
        if name == "polygons":
            lines[5] = ",".join(["nan"] * 8)
        (folder / name / "groundtruth.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def training_folder(tmp_path_factory) -> Path:
    """Training data: a track of 8 frames, and 3 stills with 2 objects each, one of which has a mask."""
    folder = tmp_path_factory.mktemp("training")
    rng = np.random.default_rng(3)
    lines, files = [], {}

    def add(name: str, image, video, frame, objects):
        files[name] = cv2.imencode(".png", image)[1].tobytes()
        record = {"image": name, "shard": "shard.tar", "source": "video" if video else "stills", "video": video}
        lines.append(record | {"frame": frame, "size": [image.shape[1], image.shape[0]], "objects": objects})

    for number, (image, box) in enumerate(zip(*wandering_square(8, (180, 150)), strict=True)):
        objects = [{"box": box.tolist(), "track": "square", "label": None, "mask": None}]
        add(f"img/{number}.png", image, "clip", number, objects)
    for number in range(3):
        image = cv2.GaussianBlur(rng.integers(0, 255, (140, 170, 3), np.uint8), (0, 0), 4)
        mask = np.zeros((140, 170), np.uint8)
        cv2.ellipse(mask, (60, 70), (25, 15), 0, 0, 360, 255, -1)
        image[mask > 0] = rng.integers(0, 255, 3)
        files[f"mask/{number}.png"] = cv2.imencode(".png", mask)[1].tobytes()
        boxes = [([35, 55, 51, 31], f"mask/{number}.png"), ([100, 60, 40, 50], None)]
        add(
            f"img/s{number}.png",
            image,
            None,
            0,
            [{"box": b, "track": None, "label": "x", "mask": m} for b, m in boxes],
        )
    x, y, w, h = wandering_square(1, (180, 150))[1][0].astype(int)
    np.save(folder / "patch.npy", wandering_square(1, (180, 150))[0][0][y : y + h, x : x + w])
    (folder / "index.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return folder
