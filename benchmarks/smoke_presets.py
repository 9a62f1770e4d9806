"""Train every preset for 50 steps on a small part of the training data and show that its loss falls.

python benchmarks/smoke_presets.py DATA OUT [--device cuda] [--batch 32] [NAME ...]

Trunks start from random weights and the warm-up is cut to 5 steps; all else is the preset's. A model with masks is
trained in both stages. A line a run goes to OUT/NAME.json: the mean loss of the first and the last five steps, pairs a
second after the first five steps, the GPU's peak memory. Exit code 1 if a loss did not fall.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from siamtrack.files import write_text
from siamtrack.models import zoo
from siamtrack.train.loop import Training

STILLS, VIDEOS = 300, 4


def make_small(data: Path, folder: Path) -> None:
    """Write an index of the first stills and of the first videos with masks, beside links to the tar files."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [json.loads(line) for line in (data / "index.jsonl").read_text().splitlines()]
    stills = [record for record in records if not record.get("video")][:STILLS]
    masked = {record["video"]: None for record in records if record.get("video") and record["objects"][0].get("mask")}
    videos = list(masked)[:VIDEOS]
    chosen = stills + [record for record in records if record.get("video") in videos]
    (folder / "index.jsonl").write_text("".join(json.dumps(record) + "\n" for record in chosen))
    for shard in {record["shard"] for record in chosen}:
        if not (folder / shard).exists():
            (folder / shard).symlink_to((data / shard).resolve())


def smoke(name: str, label: str, arguments: argparse.Namespace, small: Path, *settings: str) -> bool:
    """Train, write the numbers, and return whether the loss fell."""
    preset = zoo.load(name, [
        f"train.data.root={small}", "train.steps=50", f"train.batch={arguments.batch}", "train.log_every=5",
        "train.optimizer.warmup_steps=5", "train.pretrained=''", *settings,
    ])  # fmt: skip
    if arguments.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    Training(preset, arguments.out / label, arguments.device).run()
    lines = (arguments.out / label / "log.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "train"]
    numbers = {"preset": label, "batch": arguments.batch, "first": rows[0]["loss"], "last": rows[-1]["loss"]}
    numbers["pairs_per_second"] = sum(row["pairs_per_second"] for row in rows[1:]) / len(rows[1:])
    if arguments.device == "cuda":
        numbers["device"] = torch.cuda.get_device_name()
        numbers["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    write_text(arguments.out / f"{label}.json", json.dumps(numbers) + "\n")
    print(numbers, flush=True)
    return numbers["last"] < numbers["first"]


def main() -> None:
    """Run the presets named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_intermixed_args()
    small = arguments.out / "data"
    make_small(arguments.data, small)
    fell = True
    for name in arguments.names or zoo.names():
        fell &= smoke(name, name, arguments, small)
        if zoo.load(name).model.mask:
            start = arguments.out / name / "last.safetensors"
            second = ("train.stage=refine", f"train.start={start}")
            fell &= smoke(name, f"{name}-refine", arguments, small, *second)
    sys.exit(0 if fell else 1)


if __name__ == "__main__":
    main()
