"""``siamtrack data``: index, stats, preview, and training from an index. In this process, for speed."""

import io
import json
import os
import sys
import tarfile

import cv2
import numpy as np
import pytest
import torch

from siamtrack.cli.main import run
from siamtrack.data.index import read_index
from siamtrack.data.loader import PairLoader
from siamtrack.data.pairs import SamplingConfig, SideConfig
from siamtrack.video.overlay import GREEN


@pytest.fixture
def siamtrack(tmp_path, monkeypatch, capsys):
    """Run a command in ``tmp_path``; return its exit code, and what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["siamtrack", *map(str, arguments)])
        code = 0
        try:
            run()
        except SystemExit as stopped:
            code = stopped.code or 0
        said = capsys.readouterr()
        return code, said.out + " ".join(said.err.split())

    return call


@pytest.fixture
def cocos(tmp_path):
    """A folder in COCO's form: two pictures, one of them damaged behind its header."""
    folder = tmp_path / "cocos"
    (folder / "annotations").mkdir(parents=True)
    (folder / "train2017").mkdir()
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    cv2.imwrite(str(folder / "train2017" / "1.png"), image)
    content = (folder / "train2017" / "1.png").read_bytes()
    (folder / "train2017" / "2.png").write_bytes(content[:40] + b"\0" * 500)
    images = [{"id": n, "file_name": f"{n}.png", "width": 120, "height": 90} for n in (1, 2)]
    polygon = [[20, 20, 60, 20, 60, 70, 20, 70]]
    annotations = [{"id": n, "image_id": n, "bbox": [20, 20, 40, 50], "segmentation": polygon} for n in (1, 2)]
    annotations.append({"id": 3, "image_id": 1, "bbox": [200, 20, 40, 50]})
    values = {"images": images, "annotations": annotations, "categories": []}
    (folder / "annotations" / "instances_train2017.json").write_text(json.dumps(values))
    return folder


def test_sources_are_indexed_together_and_counted(siamtrack, training_folder, cocos, tmp_path):
    code, printed = siamtrack("data", "index", "jsonl", training_folder, "--source", f"coco:pieces={cocos}",
                              "--out", "all.parquet", "--rejected", "left.txt")  # fmt: skip
    assert code == 0, printed
    assert "wrote all.parquet" in printed
    left = [line.split("\t") for line in (tmp_path / "left.txt").read_text().splitlines()]
    assert left[0] == ["source", "reason", "where", "count"]
    assert [(row[0], row[1]) for row in left[1:]] == [("pieces", "box outside the picture, empty or not finite")]
    assert "200,20,40,50" in left[1][2]
    code, counted = siamtrack("data", "stats", "all.parquet")
    assert counted.splitlines() == printed.splitlines()[:-1]
    table = {line.split()[0]: line.split()[1:8] for line in counted.splitlines()[1:4]}
    #                  pictures videos tracks boxes in stills masks absent
    assert table == {"pieces": ["2", "0", "0", "2", "2", "2", "0"], "stills": ["3", "0", "0", "6", "6", "3", "0"],
                     "video": ["8", "1", "1", "8", "0", "0", "0"]}  # fmt: skip
    assert "left out of pieces: 1 x box outside the picture" in counted
    assert sorted(os.listdir(tmp_path)) == ["all.parquet", "cocos", "left.txt"]

    # What the header does not tell is found by decoding.
    code, printed = siamtrack("data", "index", "coco", cocos, "--out", "cocos/decoded.parquet", "--decode")
    assert "left out of coco: 1 x picture cannot be decoded" in printed
    index = read_index(tmp_path / "cocos" / "decoded.parquet")
    assert index.pictures.image[:] == ["train2017/1.png"]


def test_masks_that_cannot_be_decoded_are_dropped(siamtrack, training_folder, tmp_path):
    """A folder of tar files with a mask that is damaged behind its header."""
    (tmp_path / "index.jsonl").write_text((training_folder / "index.jsonl").read_text())
    with tarfile.open(training_folder / "shard.tar") as old, tarfile.open(tmp_path / "shard.tar", "w") as new:
        for member in old:
            content = old.extractfile(member).read()
            if member.name == "mask/1.png":
                content = content[:40] + b"\0" * 100
                member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    _, printed = siamtrack("data", "index", "jsonl", ".", "--out", "a.parquet", "--decode")
    assert (
        "left out of stills: 1 x mask cannot be decoded (the box is kept); the first: shard.tar: mask/1.png" in printed
    )
    index = read_index(tmp_path / "a.parquet")
    assert (len(index), int(index.mask.filled.sum())) == (14, 2)


def test_training_sees_the_same_in_an_index_as_in_its_folder(siamtrack, training_folder):
    siamtrack("data", "index", "jsonl", training_folder, "--out", "a.parquet")
    batches = []
    for path in (training_folder, "a.parquet"):
        index = read_index(type(training_folder)(path))
        loader = PairLoader(index, SamplingConfig(), 127, 255, batch=4, seed=3, canvas=192, cache="none", workers=1)
        batches.append(loader.batch(0))
        loader.close()
    assert torch.equal(batches[0].search, batches[1].search)
    assert torch.equal(batches[0].box, batches[1].box)


def test_preview_draws_pairs_with_target_and_anchors(siamtrack, training_folder, tmp_path):
    plain = SideConfig(color=0).model_dump()
    settings = [f"train.sampling.{side}.{key}={plain[key]}" for side in ("template", "search") for key in plain]
    settings += ["train.sampling.negative=0", "train.sampling.tracks=1", "train.sampling.distractor=0"]
    settings += [f"train.sampling.{key}=0" for key in ("flip", "gray", "shuffle", "background", "copies")]
    options = [part for text in settings for part in ("--set", text)]
    code, printed = siamtrack("data", "preview", training_folder, "--out", "a.png", "--pairs", 2, *options)
    assert code == 0, printed
    assert "wrote a.png: 2 pairs" in printed
    sheet = cv2.imread(str(tmp_path / "a.png"))
    assert sheet.shape[1] == 2 * (127 + 255 + 18)
    search = sheet[34:289, 139:394]  # of the first pair
    green = np.argwhere((search == GREEN).all(-1))
    side = 40 * 127 / 80  # the square of 40 pixels, whose context is 80 wide, in the middle
    assert np.abs(green.min(0) - (127.5 - side / 2)).max() <= 2
    assert np.abs(green.max(0) - (127.5 + side / 2)).max() <= 2
    blue, red = ((search == color).all(-1).sum() for color in ((255, 200, 0), (60, 60, 255)))
    assert blue > 100
    assert red > 100
    patch = np.load(training_folder / "patch.npy")  # what the target looks like
    inside = cv2.resize(search[104:151, 104:151], (30, 30), interpolation=cv2.INTER_AREA).astype(float)
    wanted = cv2.resize(patch[5:35, 5:35], (30, 30)).astype(float)
    assert np.corrcoef(inside.ravel(), wanted.ravel())[0, 1] > 0.8
    siamtrack("data", "preview", training_folder, "--out", "b.png", "--pairs", 2, *options)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["index", "--out", "a.parquet"], "give a source and its folder"),
        (["index", "coco", "--out", "a.parquet"], "give the folder too"),
        (["index", "cocoa", ".", "--out", "a.parquet"], "unknown source 'cocoa'; did you mean 'coco'?"),
        (["index", "coco", "none", "--out", "a.parquet"], "there is no folder none"),
        (["index", "coco", ".", "--out", "a.csv"], "the name must end in .parquet"),
        (["index", "coco", ".", "--out", "none/a.parquet"], "there is no folder none"),
        (["index", "--source", "coco", "--out", "a.parquet"], "expected KIND=FOLDER"),
        (["index", "got10k", "COCO", "--out", "a.parquet"], "looked for train/list.txt"),
        (["index", "got10k", "COCO", "--out", "a.parquet"], "it looks like coco"),
        (["index", "coco", ".", "--out", "a.parquet"], "looked for annotations/instances_*.json"),
        (["stats", "none.parquet"], "there is no none.parquet"),
        (["stats", "text.parquet"], "is no index of siamtrack"),
        (["stats", "none"], "there is no none/index.jsonl"),
        (["preview", "none"], "there is no none/index.jsonl"),
        (["preview", "TRAINING", "--out", "a.jpg"], "the name must end in .png"),
        (["preview", "TRAINING", "--set", "train.sampling.shares.viedo=1"], "did you mean 'video'?"),
        (["preview", "TRAINING", "--preset", "siamrpnp_lite"], "did you mean 'siamrpnpp_lite'?"),
    ],
)
def test_bad_input_is_one_sentence(siamtrack, training_folder, cocos, tmp_path, arguments, said):
    (tmp_path / "text.parquet").write_text("nothing")
    before = sorted(os.listdir(tmp_path))
    named = {"COCO": cocos, "TRAINING": training_folder}
    code, printed = siamtrack("data", *(named.get(argument, argument) for argument in arguments))
    assert code == 2
    assert said in printed
    assert printed.count("error:") == 1
    assert sorted(os.listdir(tmp_path)) == before
