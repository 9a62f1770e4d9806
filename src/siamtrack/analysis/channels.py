"""Channels: which channels of the depth-wise response light up for which category.

Source: SiamRPN++, section 3.4 (depth-wise correlation) and figure 5: objects of one category have high
responses in the same channels, and other channels are suppressed.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from siamtrack.analysis import plots
from siamtrack.analysis.clips import Clip, sampled_frames, search_patches, template_patch
from siamtrack.analysis.experiment import Experiment
from siamtrack.analysis.section import Section
from siamtrack.errors import UserError, nearest
from siamtrack.models.correlation import CorrelationBranch
from siamtrack.models.rpn import DepthwiseRPN
from siamtrack.models.siamese import SiameseRPN
from siamtrack.tracking.network import Patches

Floats = NDArray[np.float64]
_NEAR = 1  # cells around the target's cell whose response counts
_TOP = 3  # channels that are named for a category
_SHUFFLES = 200
_WORDS = {
    "person": "person pedestrian man woman girl boy human walking jogging jumping crossing skater skating dancer "
    "soldier bolt runner gymnastics basketball soccer handball paragliding iceskater player singer",
    "face": "face david trellis",
    "car": "car cars suv bus truck vehicle van",
    "bike": "bike bicycle motorbike motocross motorcycle scooter cyclist biker",
    "animal": "animal dog cat bear polarbear horse cow cows bird blackswan swan fish frog monkey monkeydog cheetah "
    "penguin rhino tiger deer panda butterfly ants",
    "thing": "ball sphere torus bag box bottle book doll cup can",
}
_CATEGORY = {word: category for category, words in _WORDS.items() for word in words.split()}


def category_of(name: str) -> str:
    """Return the category of a sequence by the first word of its name that is known, else ``other``.

    Words are split at all that is no letter, and at digits: ``DAVIS-car-shadow`` is a car, ``person11`` a person.
    """
    return next((_CATEGORY[word] for word in re.findall("[a-z]+", name.lower()) if word in _CATEGORY), "other")


def labels(clips: Sequence[Clip], given: dict[str, str]) -> list[str | None]:
    """Return the category of each clip; None for those that ``given`` leaves out, if it gives any.

    Raises:
        UserError: ``given`` names a sequence that is not there, or there are fewer than two categories.
    """
    names = [clip.name for clip in clips]
    for name in given:
        if name not in names:
            raise UserError(f"--categories names {name!r}, which is no sequence{nearest(name, names)}")
    found = [given.get(name) if given else category_of(name) for name in names]
    if len({each for each in found if each is not None}) < 2:
        raise UserError(
            "channels compares at least two categories of sequences; give --categories FILE, a YAML mapping of "
            "sequences to categories"
        )
    return found


def measure(experiment: Experiment) -> dict[str, Any]:
    """Return the mean response of each channel to each category, and how well channels tell categories apart."""
    trained = experiment.chosen_model()
    category = labels(experiment.clips, experiment.categories)
    clips = [clip for clip, label in zip(experiment.clips, category, strict=True) if label is not None]
    names = [label for label in category if label is not None]
    rows = [channel_responses(trained.model, experiment.device, clip) for clip in experiment.each("channels", clips)]
    values = standardise(np.array(rows))
    order = sorted(set(names))
    mean = np.array([values[[name == each for name in names]].mean(0) for each in order])  # [categories, C]
    # How much stronger the channel responds to this category than to the next one.
    lead = np.array([mean[row] - np.delete(mean, row, 0).max(0) for row in range(len(order))])
    accuracy, chance = leave_one_out(values, names)
    shuffled = np.random.default_rng(0)
    by_chance = [explained(values, shuffled.permutation(names).tolist()) for _ in range(_SHUFFLES)]
    return {
        "model": trained.name,
        "stage": trained.preset.model.backbone.stages[-1],
        "sequences": {clip.name: name for clip, name in zip(clips, names, strict=True)},
        "categories": {
            each: {
                "sequences": names.count(each),
                "response": np.round(mean[row], 4).tolist(),
                "top": [int(channel) for channel in np.argsort(-lead[row])[:_TOP]],
            }
            for row, each in enumerate(order)
        },
        "explained": float(explained(values, names)),
        "explained_by_chance": [float(np.mean(by_chance)), float(np.quantile(by_chance, 0.95))],
        "accuracy": accuracy,
        "accuracy_by_chance": chance,
    }


@torch.inference_mode()
def channel_responses(model: SiameseRPN, device: str, clip: Clip) -> Floats:
    """Return the mean response [C] of the last level's classifying correlation at the target, over frames.

    The search regions have the target in the middle, where its response is averaged over 3 x 3 cells.

    Raises:
        UserError: the model has no depth-wise correlation.
    """
    model = model.to(device).eval()
    if not isinstance(model.rpn, DepthwiseRPN):
        raise UserError("channels needs a model with depth-wise correlation")
    level = len(model.config.backbone.stages) - 1
    frames = sampled_frames(clip)
    kernel = model.template(_images(template_patch(clip, model.config), device))[level].expand(len(frames), -1, -1, -1)
    patches = search_patches(clip, model.config, frames, np.zeros((len(frames), 2)))
    branches = [each for each in model.rpn.cls if isinstance(each, CorrelationBranch)]
    response = branches[level].correlate(model.features(_images(patches, device))[0][level], kernel)  # [K, C, m, m]
    middle = response.shape[-1] // 2
    near = slice(middle - _NEAR, middle + _NEAR + 1)
    mean: Floats = response[:, :, near, near].mean((0, 2, 3)).cpu().double().numpy()
    return mean


def _images(patches: Patches, device: str) -> Tensor:
    """Return [K, S, S, 3] uint8 as [K, 3, S, S] float on the device."""
    return torch.from_numpy(patches).to(device).permute(0, 3, 1, 2).float()


def standardise(responses: Floats) -> Floats:
    """Return responses as shares of each sequence's total, then with mean 0 and deviation 1 in each channel.

    The strength of the whole response differs between targets for reasons of its own, such as contrast. A channel that
    is the same for all is 0. Shape: [N, C], N sequences.
    """
    shares = responses / np.maximum(np.abs(responses).sum(1, keepdims=True), 1e-12)
    deviations = shares.std(0)
    scaled: Floats = (shares - shares.mean(0)) / np.where(deviations > 1e-12, deviations, 1)
    return scaled


def explained(values: Floats, names: Sequence[str]) -> float:
    """Return the share of the variance over sequences that lies between categories, the mean over channels.

    Shapes: values [N, C], standardised; names N.
    """
    groups = {name: values[[each == name for each in names]] for name in set(names)}
    between = sum(len(group) * group.mean(0) ** 2 for group in groups.values())  # [C]
    total = (values**2).sum(0)
    varies = total > 0
    return float((between[varies] / total[varies]).sum() / max(1, varies.sum()))


def leave_one_out(values: Floats, names: Sequence[str]) -> tuple[float | None, float | None]:
    """Return how often a sequence is nearest to its own category's mean, formed without it, and what chance gives.

    Only categories of several sequences take part; chance is the share of the largest of them. None if fewer than two
    do. Shapes: values [N, C]; names N.
    """
    counts = {name: count for name, count in Counter(names).items() if count > 1}
    if len(counts) < 2:
        return None, None
    right = []
    for number, name in enumerate(names):
        if name in counts:
            others = [index for index in range(len(names)) if index != number]
            distance = {
                each: np.linalg.norm(values[number] - values[[i for i in others if names[i] == each]].mean(0))
                for each in counts
            }
            right.append(min(distance, key=lambda each: distance[each]) == name)
    return float(np.mean(right)), max(counts.values()) / sum(counts.values())


def draw(numbers: dict[str, Any]) -> Figure:
    """Draw the table category x channel, the channels ordered by the category that they respond to most."""
    names = list(numbers["categories"])
    table = np.array([numbers["categories"][name]["response"] for name in names])  # [categories, C]
    best = table.argmax(0)
    order = np.lexsort((-table.max(0), best))
    limit = float(np.abs(table).max())
    with plots.figure(11, 1.6 + 0.34 * len(names)) as drawn:
        axes = drawn.add_subplot()
        image = axes.imshow(table[:, order], aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set_yticks(range(len(names)), [f"{name} ({numbers['categories'][name]['sequences']})" for name in names])
        marked = {channel for each in numbers["categories"].values() for channel in each["top"]}
        places = [place for place, channel in enumerate(order) if channel in marked]
        axes.set_xticks(places, [str(order[place]) for place in places], rotation=90, fontsize=7)
        axes.set(xlabel="channel (named: the top ones of a category)")
        axes.grid(False)
        drawn.colorbar(image, ax=axes, label="response, deviations")
    return drawn


def describe(numbers: dict[str, Any]) -> Section:
    """Return what the page says of it."""
    mean, high = numbers["explained_by_chance"]
    findings = [
        f"Categories explain {numbers['explained']:.0%} of the variance of the channels' responses between sequences; "
        f"with the categories dealt out at random it is {mean:.0%} on average and {high:.0%} in the highest of twenty."
    ]
    if numbers["accuracy"] is not None:
        findings.append(
            f"A sequence is nearest to the mean response of its own category, formed without it, in "
            f"{numbers['accuracy']:.0%} of the cases; always naming the largest category would be right in "
            f"{numbers['accuracy_by_chance']:.0%}."
        )
    members = {
        name: ", ".join(each for each, label in numbers["sequences"].items() if label == name)
        for name in numbers["categories"]
    }
    return Section(
        title="Channels",
        question="In the depth-wise response objects of one category light up the same channels, while other channels "
        "stay dark (SiamRPN++, section 3.4, figure 5).",
        method=f"{numbers['model']}, stage {numbers['stage']}: the correlation of template and search region that "
        "classifies, before its channels are mixed, at the target (3 x 3 cells), averaged over frames of a sequence. "
        "It is divided by its sum over channels, and each channel is given mean 0 and deviation 1 over sequences. The "
        "categories are read from the sequences' names unless a file gives them. The top channels of a category are "
        "those in which it is furthest above the next one.",
        findings=findings,
        columns=["category", "top channels", "sequences"],
        rows=[[name, ", ".join(map(str, each["top"])), members[name]] for name, each in numbers["categories"].items()],
    )
