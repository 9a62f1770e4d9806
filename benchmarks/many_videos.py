"""Measure what following many targets and many videos adds to the steps themselves.

python benchmarks/many_videos.py [--device cuda --runtime cuda-graph] [--model siamrpnpp_lite] [--targets 1,64,256]
    [--groups 1,8] [--batches 1,4,16] [--videos 48] [--frames 120]

Groups: 16 targets, so many at a time through the network, in turn; milliseconds of the clock and of the processor a
target, and the median ratio to the first number.

Targets: ``MultiTracker.update`` on frames in memory, and the part of its time that is not the core's step.

Videos: all that ``siamtrack track-many`` does in one process with made-up videos of half to one and a half times
``--frames``, so many in step; frames a second, the ratio to the first number of ``--batches``, and the mean number of
videos in a step. A batch of them runs before, for graphs and compiled kernels.
"""

import argparse
import tempfile
import time
from fractions import Fraction
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np

from siamtrack.benchmark.scene import Scene, make_scene
from siamtrack.multi import MultiTracker, Target
from siamtrack.track_many import Job, Settings, Video
from siamtrack.tracker import Tracker
from siamtrack.tracking.core import Core
from siamtrack.video.writer import VideoWriter


class Timed:
    """A core that knows how long its steps took, and of how many targets they were."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.forget()

    def forget(self) -> None:
        """Begin to count anew."""
        self.seconds, self.sizes = 0.0, list[int]()

    def step(self, frames, state):
        """Do a step."""
        began = time.perf_counter()
        done = self._core.step(frames, state)
        self.seconds += time.perf_counter() - began
        self.sizes.append(len(frames))
        return done

    def __getattr__(self, name: str):
        return getattr(self._core, name)


def measure_targets(many: MultiTracker, core: Timed, scene: Scene, count: int, updates: int) -> str:
    """Return a line about updates of so many targets."""
    many.remove(*many.ids)
    many.add_all(scene.frames[0], scene.boxes(count))
    whole, beside = [], []
    for number, frame in enumerate(islice(scene.forth_and_back(), updates + 5)):
        core.forget()
        began = time.perf_counter()
        many.update(frame)
        seconds = time.perf_counter() - began
        if number >= 5:
            whole.append(seconds)
            beside.append(seconds - core.seconds)
    many.remove(*many.ids)
    share = median(one / all_ for one, all_ in zip(beside, whole, strict=True))
    return f"{count} targets: {median(whole) * 1e3:.2f} ms, beside the step {median(beside) * 1e3:.3f} ms ({share:.1%})"


def measure_groups(tracker: Tracker, scene: Scene, groups: list[int], updates: int) -> list[str]:
    """Return a line about each size of group."""
    boxes = scene.boxes(16)
    trackers = {size: MultiTracker(tracker, batch=size) for size in groups}
    times: dict[int, list[tuple[float, float]]] = {size: [] for size in trackers}
    for many in trackers.values():
        many.add_all(scene.frames[0], boxes)
        many.update(scene.frames[1])
    for frame in islice(scene.forth_and_back(), updates):
        for size, many in trackers.items():
            began = time.perf_counter(), time.process_time()
            many.update(frame)
            times[size].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    base = np.array(times[groups[0]])
    lines = []
    for size, each in times.items():
        clock, processor = np.median(each, axis=0) / len(boxes) * 1e3
        ratio = np.median(base / np.array(each), axis=0)
        lines.append(
            f"{size} of 16 targets at a time: {clock:.2f} ms a target, ratio {ratio[0]:.2f}; "
            f"processor {processor:.2f} ms, ratio {ratio[1]:.2f}"
        )
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="siamrpnpp_lite")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--pipelined", action="store_true", help="answers a frame late, for a GPU's graph")
    parser.add_argument("--targets", default="1,64,256")
    parser.add_argument("--updates", type=int, default=50)
    parser.add_argument("--groups", default="1,8")
    parser.add_argument("--batches", default="1,4,16")
    parser.add_argument("--videos", type=int, default=48)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--size", default="1280x720")
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    latency = "pipelined" if given.pipelined else "immediate"
    tracker = Tracker(given.model, device=given.device, runtime=given.runtime, threads=given.threads, latency=latency)
    many = MultiTracker(tracker)
    core = many._core = Timed(tracker.core)
    with tempfile.TemporaryDirectory() as folder:
        scene = make_scene(Path(folder), 30, (width, height))
        print(f"{given.model}, {many.runtime}, {given.device}, {given.size}")
        for line in measure_groups(tracker, scene, list(map(int, given.groups.split(","))), given.updates):
            print(line, flush=True)
        for count in map(int, given.targets.split(",")):
            print(measure_targets(many, core, scene, count, given.updates), flush=True)
        sources = []
        for number in range(min(given.videos, 5)):  # more are the same ones again
            sources.append(Path(folder) / f"{number}.mp4")
            length = round(given.frames * (0.5 + number / 4))
            writer = VideoWriter(sources[-1], (width, height), Fraction(25))
            for index, frame in enumerate(islice(scene.forth_and_back(), length)):
                writer.write(frame, index / 25)
            writer.close()
        box = tuple(scene.boxes(1)[0].tolist())
        videos = [
            Video(str(sources[number % len(sources)]), (Target(box),), Path(folder) / f"{number}.csv")
            for number in range(given.videos)
        ]
        first = None
        for batch in map(int, given.batches.split(",")):
            kept = {"tracker": many}
            list(Job(Settings(), videos[:batch], batch).perform(kept, lambda: None))
            core.forget()
            began = time.perf_counter()
            done = list(Job(Settings(), videos, batch).perform(kept, lambda: None))
            seconds = time.perf_counter() - began
            rate = sum(outcome.frames for _, outcome in done) / seconds
            first = first or rate
            mean = sum(core.sizes) / len(core.sizes)
            inside = core.seconds / seconds
            print(
                f"{given.videos} videos, {batch} in step: {rate:.0f} frames/s, ratio {rate / first:.2f}; "
                f"{mean:.1f} in a step, steps take {inside:.0%} of the time",
                flush=True,
            )


if __name__ == "__main__":
    main()
