"""Is an export the same tracker? Outputs on real crops, boxes over a clip, masks, and speed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes, iou
from siamtrack.errors import UserError
from siamtrack.models.prediction import Prediction
from siamtrack.models.zoo import Preset
from siamtrack.tracking.config import tracking_config
from siamtrack.tracking.core import TrackerCore, to_numpy
from siamtrack.tracking.network import Array, Network, Patches
from siamtrack.video.image import Image

Crops = Sequence[tuple[Patches, Patches]]
"""Templates [1, T, T, 3] and search regions [1, S, S, 3] of real frames."""
_SECONDS = 4.0


@dataclass(frozen=True)
class Clip:
    """A video and the object in its first frame."""

    name: str
    frames: Callable[[], Iterable[Image]]
    """Returns the frames [H, W, 3] from the first one on, as often as it is called."""
    box: NDArray[np.float64]
    """[4] x, y, w, h in pixels of the first frame."""


class _Recorder:
    """A network that keeps the crops that it is shown."""

    def __init__(self, network: Network) -> None:
        self.network, self.runtime = network, network.runtime
        self.templates: list[Patches] = []
        self.searches: list[Patches] = []

    def template(self, patches: Patches) -> tuple[Array, ...]:
        self.templates.append(patches.copy())
        return self.network.template(patches)

    def search(self, patches: Patches, features: tuple[Array, ...]) -> Prediction:
        self.searches.append(patches.copy())
        return self.network.search(patches, features)

    def draw(self, context: tuple[Array, ...], cell: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.network.draw(context, cell)


def record(network: Network, preset: Preset, clips: Sequence[Clip], count: int) -> Crops:
    """Return the crops that a tracker sees: ``count`` search regions, as many of each clip, with their templates.

    Regions of another size than the network was trained for, those of a long-term tracker that is lost, are left out.

    Raises:
        UserError: the clips have no frames after their first.
    """
    recorder = _Recorder(network)
    size = tracking_config(preset).search_size or preset.model.search_size
    core = TrackerCore(recorder, preset.model, tracking_config(preset))
    crops: list[tuple[Patches, Patches]] = []
    for index, clip in enumerate(clips):
        recorder.templates.clear()
        recorder.searches.clear()
        wanted = -(-(count - len(crops)) // (len(clips) - index))
        _follow(core, clip, wanted)
        z = recorder.templates[0]
        crops += [(z, x) for x in recorder.searches if x.shape[1] == size]
    if not crops:
        raise UserError(
            f"{', '.join(clip.name for clip in clips)}: there is no frame after the first; give a longer one"
        )
    return crops


def verify(
    reference: Network, exported: Network, preset: Preset, crops: Crops, clip: Clip, frames: int, plain: Network | None
) -> dict[str, Any]:
    """Return how far an export is from the network that it comes from, as JSON's types.

    Keys: ``outputs``, the largest and mean difference of logits, offsets and scores (and mask logits) on ``crops``;
    ``boxes``, of two trackers over ``frames`` frames of ``clip``; ``speed``, milliseconds of a search, the fastest of
    many calls that take turns (other programs disturb it least), and ratios (above 1: the export is faster).

    Args:
        reference: the network in torch.
        exported: the same network after export.
        preset: its configuration and parameters of tracking.
        crops: see :func:`record`.
        clip: what both trackers follow.
        frames: at most so many of its frames.
        plain: the fp32 export of a quantised or halved network, to compare the speed with; None without.
    """
    return {
        "outputs": _outputs(reference, exported, preset, crops),
        "boxes": _boxes(reference, exported, preset, clip, frames),
        "speed": _speed(reference, exported, crops[0], plain),
    }


def _outputs(reference: Network, exported: Network, preset: Preset, crops: Crops) -> dict[str, Any]:
    apart: dict[str, list[NDArray[Any]]] = {}
    for z, x in crops:
        ours, theirs = (network.search(x, network.template(z)) for network in (exported, reference))
        answers = [[to_numpy(answer.cls), to_numpy(answer.loc)] for answer in (ours, theirs)]
        for answer in answers:
            answer.append(_scores(answer[0]))
        if preset.model.mask:
            middle = np.full((1, 2), answers[0][0].shape[-1] // 2)
            answers[0].append(exported.draw(ours.context, middle))
            answers[1].append(reference.draw(theirs.context, middle))
        for name, a, b in zip(("cls", "loc", "score", "mask"), *answers, strict=False):
            apart.setdefault(name, []).append(np.abs(a.astype(float) - b))
    return {
        "crops": len(crops),
        **{
            name: {
                "largest": float(max(each.max() for each in values)),
                "mean": float(np.mean([v.mean() for v in values])),
            }
            for name, values in apart.items()
        },
    }


def _scores(cls: NDArray[Any]) -> NDArray[Any]:
    background, foreground = np.split(cls.astype(float), 2, axis=1)
    scores: NDArray[Any] = 1 / (1 + np.exp(np.clip(background - foreground, -80, 80)))
    return scores


def _boxes(reference: Network, exported: Network, preset: Preset, clip: Clip, frames: int) -> dict[str, Any]:
    config = tracking_config(preset)
    ours, theirs = (
        _follow(TrackerCore(network, preset.model, config), clip, frames - 1) for network in (exported, reference)
    )
    apart, same = np.abs(ours - theirs), iou(ours, theirs)
    return {
        "clip": clip.name,
        "frames": len(ours) + 1,
        "largest_px": float(apart.max()),
        "mean_px": float(apart.mean()),
        "smallest_overlap": float(same.min()),
        "mean_overlap": float(same.mean()),
    }


def _follow(core: TrackerCore, clip: Clip, updates: int) -> Boxes:
    """Return the boxes [N, 4] of the frames after a clip's first, at most ``updates``."""
    frames = iter(islice(clip.frames(), updates + 1))
    state = core.init([next(frames)], clip.box[None])
    boxes = []
    for frame in frames:
        state, found = core.step([frame], state)
        boxes.append(found.boxes[0])
    return np.array(boxes).reshape(-1, 4)


def _speed(
    reference: Network, exported: Network, crop: tuple[Patches, Patches], plain: Network | None
) -> dict[str, Any]:
    z, x = crop
    networks = {"export": exported, "reference": reference, **({"fp32": plain} if plain else {})}
    kernels = {name: network.template(z) for name, network in networks.items()}
    times: dict[str, list[float]] = {name: [] for name in networks}
    began = perf_counter()
    while perf_counter() - began < _SECONDS or len(times["export"]) < 3:
        for name, network in networks.items():
            sleep(0.02)  # the threads of the one before it stop waiting for work
            to_numpy(network.search(x, kernels[name]).cls)  # the caches are its own now
            start = perf_counter()
            to_numpy(network.search(x, kernels[name]).cls)
            times[name].append(perf_counter() - start)
    fastest = {name: min(values) * 1e3 for name, values in times.items()}
    return {
        "runtime": exported.runtime,
        "reference": reference.runtime,
        "calls": len(times["export"]),
        "milliseconds": fastest,
        "times_faster_than": {name: value / fastest["export"] for name, value in fastest.items() if name != "export"},
    }
