"""Record the multi-start figures that vot-toolkit gives for the runs of ``tests/parity/multistart_runs.py``.

It runs vot-toolkit in an environment of its own (see ``record_vot_overlaps.py``) on a workspace in a temporary folder:

    vot/bin/python benchmarks/record_vot_multistart.py
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

PARITY = Path(__file__).parents[1] / "tests" / "parity"
STACK = """title: made up
experiments:
  baseline:
    type: multistart
    analyses:
      - {{type: multistart_eao_score, name: eao, low: {low}, high: {high}}}
      - {{type: multistart_eao_curve, name: curve, high: 200}}
      - {{type: multistart_average_ar, name: ar}}
"""


def main() -> None:
    """Write the workspace, run the analysis and keep its figures."""
    sys.path.insert(0, str(PARITY))
    from multistart_runs import INTERVAL, SIZE, runs

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write(root, runs(), SIZE)
        (root / "stack.yaml").write_text(STACK.format(low=INTERVAL[0], high=INTERVAL[1]))
        command = [Path(sys.executable).with_name("vot"), "analysis", "--workspace", root, "--format", "json", "made"]
        subprocess.run(command, check=True)
        (report,) = (root / "analysis").glob("*.json")
        score, curve, averages = json.loads(report.read_text())["results"]["baseline"]["results"]
    accuracy, robustness = averages[0][:2]
    figures = {"eao": score[0][0], "accuracy": accuracy, "robustness": robustness, "curve": curve[0][0]}
    (PARITY / "vot_multistart.json").write_text(json.dumps(figures) + "\n")
    print({key: figures[key] for key in ("eao", "accuracy", "robustness")})


def write(root: Path, made: dict, size: tuple[int, int]) -> None:
    """Write sequences and results as vot-toolkit reads them."""
    (root / "trackers.ini").write_text("[made]\nlabel = made\nprotocol = traxpython\ncommand = none\n")
    (root / "config.yaml").write_text("registry:\n- ./trackers.ini\nstack: ./stack.yaml\nsequences: sequences\n")
    for name, (truth, results) in made.items():
        folder, results_folder = root / "sequences" / name, root / "results" / "made" / "baseline" / name
        (folder / "color").mkdir(parents=True)
        results_folder.mkdir(parents=True)
        for number in range(len(truth)):
            cv2.imwrite(str(folder / "color" / f"{number + 1:08d}.jpg"), np.zeros((*size[::-1], 3), np.uint8))
        facts = {"channels.color": "color/%08d.jpg", "fps": 30, "width": size[0], "height": size[1]}
        facts |= {"length": len(truth), "name": name}
        (folder / "sequence").write_text("".join(f"{key}={value}\n" for key, value in facts.items()))
        (folder / "groundtruth.txt").write_text(lines(truth))
        anchors = np.zeros(len(truth), int)
        for anchor, boxes in results.items():
            frame = anchor if anchor >= 0 else ~anchor
            anchors[frame] = 1 if anchor >= 0 else -1
            base = results_folder / f"{name}_{frame:08d}"
            base.with_suffix(".txt").write_text("1\n" + lines(boxes[1:]))
            Path(f"{base}_time.value").write_text("0.01\n" * len(boxes))
        (folder / "anchor.value").write_text("".join(f"{value}\n" for value in anchors))
    (root / "sequences" / "list.txt").write_text("".join(f"{name}\n" for name in made))


def lines(boxes: np.ndarray) -> str:
    """Return boxes [T, 4] as text."""
    return "".join(",".join(f"{value:.4f}" for value in box) + "\n" for box in boxes)


if __name__ == "__main__":
    main()
