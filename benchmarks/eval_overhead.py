"""Measure what ``siamtrack eval`` adds to decoding and tracking.

python benchmarks/eval_overhead.py SEQUENCES [--sequence NAME ...] [--rounds 5] [-- OPTION ...]

Both are processes of their own, in turn: the command, and a bare loop that loads the same model, reads the images,
and calls ``init`` and ``update``. Options after ``--`` go to the command. Printed are the medians over rounds of the
time on the clock and of the processor's time, and the median of each round's ratio. Exit code 1 if the processor's
time, which other work on the machine disturbs least, is 10 % or more above the bare loop's.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

BARE = """
import sys
from pathlib import Path
from siamtrack.evaluate.datasets import read_dataset
from siamtrack.tracker import Tracker
tracker = Tracker(threads=1)
for sequence in read_dataset("folder", Path(sys.argv[1]), tuple(sys.argv[2:])).sequences:
    tracker.init(sequence.frame(0), sequence.boxes[0])
    for index in range(1, len(sequence)):
        tracker.update(sequence.frame(index))
"""
CHOSEN = ["OTB-Crossing", "DAVIS-dog", "VOT2014-ball", "VOT2014-jogging"]


def timed(command: list[str]) -> tuple[float, float]:
    """Return the seconds on the clock and the processor's seconds of a command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, spent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sequences", type=Path)
    parser.add_argument("--sequence", action="append")
    parser.add_argument("--rounds", type=int, default=5)
    arguments, options = parser.parse_known_args()
    names = arguments.sequence or CHOSEN
    bare = [sys.executable, "-c", BARE, str(arguments.sequences), *names]
    whole = [sys.executable, "-m", "siamtrack", "eval", "--dataset", str(arguments.sequences), "--threads", "1"]
    whole += [part for name in names for part in ("--sequence", name)]
    whole += [option for option in options if option != "--"]
    rounds = []
    for number in range(arguments.rounds + 1):
        folder = tempfile.mkdtemp()
        rounds.append((*timed([*whole, "--out", folder]), *timed(bare)))
        shutil.rmtree(folder)
        if number == 0:
            rounds.clear()  # the first round fills the file cache
    ratios = {}
    for place, kind in enumerate(("clock", "processor")):
        ours, base = [each[place] for each in rounds], [each[place + 2] for each in rounds]
        ratios[kind] = median(a / b for a, b in zip(ours, base, strict=True))
        print(f"{kind}: eval {median(ours):.2f} s, bare {median(base):.2f} s, ratio {ratios[kind]:.3f}")
    sys.exit(ratios["processor"] >= 1.1)


main()
