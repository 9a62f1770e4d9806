"""Centre bias: a network that saw its targets only in the middle finds them only there.

Source: SiamRPN++ (Li et al., CVPR 2019), section 3.1 and figure 2: padding breaks strict translation invariance, so
that a network trained with centred targets learns to prefer the centre; spatially aware sampling, a uniform shift of
the target, removes it.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from siamtrack.analysis import plots
from siamtrack.analysis.clips import OFFSET, Clip, sampled_frames, search_patches, template_patch
from siamtrack.analysis.experiment import Experiment, Trained
from siamtrack.analysis.section import Section, deviation, spread
from siamtrack.models.config import ModelConfig
from siamtrack.models.prediction import Prediction
from siamtrack.tracking.core import to_numpy
from siamtrack.tracking.network import Network

CENTRAL = 5
"""Cells a side of what counts as the centre of the response."""
NEAR = 16.0
"""Pixels of the search region within which, in x and in y, the peak has found the target."""
_RINGS = (0, 16, 32, 48, 64)  # distances from the centre in pixels of the search region

Floats = NDArray[np.float64]


class Responses(NamedTuple):
    """The answers of a network to N search regions whose targets lie anywhere."""

    maps: Floats
    """[N, m, m] probability of foreground, the largest of a cell's anchors."""
    targets: Floats
    """[N, 2] x, y of the target's middle from the region's, in pixels of the region."""


def respond(network: Network, model: ModelConfig, clips: Sequence[Clip]) -> Responses:
    """Show a network each target from its first frame, and then in search regions that have it off-centre.

    The targets are uniform within :data:`OFFSET` pixels of the region's middle, in x and y; from a fixed seed, the
    same for any two networks. The region's size is that of the truth, so that only the place varies.
    """
    rng = np.random.default_rng(0)
    maps, targets = [], []
    for clip in clips:
        frames = sampled_frames(clip)
        target = rng.uniform(-OFFSET, OFFSET, (len(frames), 2))
        kernels = network.template(template_patch(clip, model))
        same = np.zeros(len(frames), np.intp)  # every region is correlated with the one template
        prediction = network.search(search_patches(clip, model, frames, target), tuple(each[same] for each in kernels))
        maps.append(foreground(prediction))
        targets.append(target)
    return Responses(np.concatenate(maps), np.concatenate(targets))


def foreground(prediction: Prediction) -> Floats:
    """Return the softmax of foreground, the largest of a cell's anchors. Shape: [B, m, m]."""
    logits = to_numpy(prediction.cls).astype(np.float64)
    batch, channels, cells, _ = logits.shape
    background, object_ = logits.reshape(batch, 2, channels // 2, cells, cells).swapaxes(0, 1)  # [B, A, m, m] each
    scores: Floats = 1 / (1 + np.exp(np.clip(background - object_, -80, 80)))
    best: Floats = scores.max(1)
    return best


def central_share(heat: Floats) -> float:
    """Return how much of the mass of a map [m, m] is in its central :data:`CENTRAL` x :data:`CENTRAL` cells."""
    start = (len(heat) - CENTRAL) // 2
    middle = slice(start, start + CENTRAL)
    return float(heat[middle, middle].sum() / heat.sum())


def found_by_distance(responses: Responses, stride: int) -> list[float | None]:
    """Return the share of targets that the peak finds, by their distance from the centre (the larger of x and y).

    None where there was no target.
    """
    cells = responses.maps.shape[-1]
    row, column = np.divmod(responses.maps.reshape(len(responses.maps), -1).argmax(1), cells)
    peak = (np.stack([column, row], 1) - cells // 2) * float(stride)
    found = np.abs(peak - responses.targets).max(1) <= NEAR
    ring = np.digitize(np.abs(responses.targets).max(1), _RINGS[1:-1])
    return [float(found[ring == number].mean()) if (ring == number).any() else None for number in range(4)]


def measure(experiment: Experiment) -> dict[str, Any]:
    """Train a network for each shift and seed, and return its aggregated response and what follows from it."""
    runs = trained_by_shift(experiment)
    by_shift: dict[str, Any] = {
        str(shift): {"share": [], "found": [], "auc_off_centre": [], "heat": []} for shift in runs
    }
    networks = [(str(shift), each) for shift, trained in runs.items() for each in trained]
    for shift, each in experiment.each("responses", networks):
        model, values = each.preset.model, by_shift[shift]
        responses = respond(experiment.network(each), model, experiment.clips)
        heat = responses.maps.mean(0)
        values["share"].append(central_share(heat))
        values["found"].append(found_by_distance(responses, model.anchors.stride))
        values["auc_off_centre"].append(experiment.auc(each, "off-centre"))
        values["heat"].append(heat)
    for values in by_shift.values():
        values["heat"] = np.round(np.mean(values["heat"], 0), 5).tolist()
    targets, cells, stride = responses.targets, len(heat), model.anchors.stride
    return {
        "samples": len(targets),
        "central_cells": CENTRAL,
        "offset": OFFSET,
        "near": NEAR,
        "rings": list(_RINGS),
        "share_of_targets": float((np.abs(targets).max(1) < CENTRAL / 2 * stride).mean()),
        "share_of_area": CENTRAL**2 / cells**2,
        "shifts": by_shift,
    }


def trained_by_shift(experiment: Experiment) -> dict[int, list[Trained]]:
    """Return the networks by shift, one a seed."""
    return {
        shift: [
            experiment.train_model(f"shift-{shift}", f"train.sampling.search.shift={shift}", seed=seed)
            for seed in range(experiment.seeds)
        ]
        for shift in experiment.shifts
    }


def draw(numbers: dict[str, Any]) -> Figure:
    """Draw the maps of all shifts, and below them the shares and the targets found."""
    shifts = numbers["shifts"]
    heats = {shift: np.array(each["heat"]) for shift, each in shifts.items()}
    relative = {shift: heat / heat.mean() for shift, heat in heats.items()}  # 1: as much as if it were flat
    top = max(float(each.max()) for each in relative.values())
    with plots.figure(max(7.5, 2.1 * len(shifts)), 5.2) as drawn:
        rows: Any = drawn.subfigures(2, 1, height_ratios=(1, 1.1))
        upper, lower = rows
        maps = upper.subplots(1, len(shifts), squeeze=False)[0]
        for axes, (shift, heat) in zip(maps, relative.items(), strict=True):
            image = axes.imshow(heat, vmin=0, vmax=top, cmap="viridis")
            start = (len(heat) - CENTRAL) / 2 - 0.5
            axes.add_patch(Rectangle((start, start), CENTRAL, CENTRAL, fill=False, edgecolor="white", linewidth=1))
            axes.set(title=f"shift {shift}", xticks=[], yticks=[])
            axes.grid(False)
        upper.colorbar(image, ax=maps.tolist(), label="response, flat = 1")
        bars, lines = lower.subplots(1, 2)
        places = np.arange(len(shifts))
        shares = [each["share"] for each in shifts.values()]
        bars.bar(places, np.mean(shares, 1), 0.6, yerr=[deviation(each) for each in shares], color=plots.COLOURS[0])
        bars.axhline(numbers["share_of_targets"], color=plots.COLOURS[1], linestyle="--", label="share of the targets")
        bars.axhline(numbers["share_of_area"], color="#555555", linestyle=":", label="share of a flat map")
        bars.set(xlabel="shift in training, pixels", ylabel=f"mass in the central {CENTRAL} x {CENTRAL} cells")
        bars.set_xticks(places, list(shifts))
        bars.margins(y=0.28)  # room for the legend
        bars.legend(frameon=False, fontsize=8, loc="upper right")
        rings = numbers["rings"]
        for number, (shift, each) in enumerate(shifts.items()):
            colour = plots.COLOURS[number % len(plots.COLOURS)]
            lines.plot(
                np.arange(4), np.mean(np.array(each["found"], float), 0), "o-", color=colour, label=f"shift {shift}"
            )
        lines.set_xticks(np.arange(4), [f"{a}-{b}" for a, b in pairwise(rings)])
        lines.set(xlabel="distance of the target from the centre, pixels", ylabel="targets found by the peak")
        lines.set_ylim(0, 1)
        lines.legend(frameon=False, fontsize=8, ncols=2)
    return drawn


def describe(numbers: dict[str, Any]) -> Section:
    """Return what the page says of it."""
    shifts = numbers["shifts"]
    shares = [float(np.mean(each["share"])) for each in shifts.values()]
    aucs = {shift: float(np.mean(each["auc_off_centre"])) for shift, each in shifts.items()}
    listed = ", ".join(f"{share:.1%}" for share in shares)
    falls = all(after < before for before, after in pairwise(shares))
    worst = min(aucs, key=lambda shift: aucs[shift])
    findings = [
        f"The share of the response in the centre {'falls' if falls else 'does not fall'} with each larger shift: "
        f"{listed}; of the targets, {numbers['share_of_targets']:.1%} were there.",
        f"With targets off-centre, shift {worst} has the lowest AUC: {aucs[worst]:.3f}; the best, "
        f"{max(aucs.values()):.3f}, has shift {max(aucs, key=lambda shift: aucs[shift])}.",
    ]
    rings = numbers["rings"]
    names = [f"found at {a}-{b} px" for a, b in pairwise(rings)]
    return Section(
        title="Centre bias",
        question="A network with padding knows where in the search region it is. If training shows it every target in "
        "the middle, it learns to expect targets there; if the targets are shifted at random, it cannot "
        "(SiamRPN++, section 3.1 and figure 2).",
        method=f"The same network is trained with targets shifted by uniform(-s, s) pixels. Then {numbers['samples']} "
        "search regions are cut from the sequences so that the target lies anywhere within "
        f"{numbers['offset']:g} pixels of the middle, all places equally often, and the responses (softmax of "
        "foreground, largest anchor of a cell) are averaged. An unbiased network has as much of its response in the "
        f"central {numbers['central_cells']} x {numbers['central_cells']} cells as there were targets (dashed), and a "
        "response that is the same everywhere would pull that towards the share of a flat map (dotted). A target "
        f"counts as found where the peak is within {numbers['near']:g} pixels of it in x and y. AUC off-centre: "
        "tracking without the cosine window while each frame's search region is moved as far at random.",
        findings=findings,
        columns=["shift", "mass in the centre", "AUC off-centre", *names],
        rows=[
            [shift, spread(each["share"]), spread(each["auc_off_centre"])]
            + [spread(values, 2) for values in np.array(each["found"], float).T]
            for shift, each in shifts.items()
        ],
    )
