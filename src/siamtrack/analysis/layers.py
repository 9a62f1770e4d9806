"""Layers: what each level of the trunk is worth alone, and all together.

Source: SiamRPN++, section 3.3 (layer-wise aggregation) and table 1.
"""

import copy
import math
from itertools import combinations
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from siamtrack.analysis import plots
from siamtrack.analysis.experiment import Experiment, Trained
from siamtrack.analysis.section import Section, deviation, spread
from siamtrack.errors import UserError
from siamtrack.models.rpn import DepthwiseRPN
from siamtrack.models.siamese import SiameseRPN


def measure(experiment: Experiment) -> dict[str, Any]:
    """Return the AUC of each choice of levels, and the learned weights of the levels.

    Raises:
        UserError: the model has a single level.
    """
    whole = experiment.chosen_model() if not experiment.train else experiment.train_model("layers-all")
    stages = whole.preset.model.backbone.stages
    if len(stages) < 2:
        raise UserError(f"{whole.name} correlates a single level; layers compares models of several")
    subsets = [each for count in range(1, len(stages) + 1) for each in combinations(range(len(stages)), count)]
    variants = {
        " + ".join(str(stages[level]) for level in chosen): _variants(experiment, whole, chosen) for chosen in subsets
    }
    auc: dict[str, list[float]] = {name: [] for name in variants}
    for name, each in experiment.each("levels", [(name, each) for name, those in variants.items() for each in those]):
        auc[name].append(experiment.auc(each))
    return {
        "model": whole.name,
        "trained_apart": experiment.train,
        "stages": list(stages),
        "auc": auc,
        "weights": learned_weights(whole.model),
    }


def _variants(experiment: Experiment, whole: Trained, chosen: tuple[int, ...]) -> list[Trained]:
    """Return the networks that use the ``chosen`` levels only: one a seed if they are trained, else one."""
    model = whole.preset.model
    if not experiment.train:
        name = f"{whole.name} levels {chosen}"
        return [Trained(name, only_levels(whole.model, chosen), whole.preset)]
    if len(chosen) == len(model.backbone.stages):
        return [experiment.train_model("layers-all", seed=seed) for seed in range(experiment.seeds)]
    stages, widths = ([values[level] for level in chosen] for values in (model.backbone.stages, model.head.widths))
    name = "layers-" + "-".join(map(str, stages))
    settings = [f"model.backbone.stages={stages}", f"model.head.widths={widths}"]
    return [experiment.train_model(name, *settings, seed=seed) for seed in range(experiment.seeds)]


def only_levels(model: SiameseRPN, chosen: tuple[int, ...]) -> SiameseRPN:
    """Return a copy of a network whose fusion gives all weight to the ``chosen`` levels, in their learned ratio."""
    masked = copy.deepcopy(model)
    rpn = _depthwise(masked)
    dropped = [level for level in range(len(rpn.cls)) if level not in chosen]
    for name in ("cls_weight", "loc_weight"):
        before = getattr(rpn, name)
        weights = torch.zeros(len(rpn.cls)) if before is None else before.detach().clone()
        weights[dropped] = -math.inf  # softmax makes it 0
        setattr(rpn, name, nn.Parameter(weights, requires_grad=False))
    return masked


def learned_weights(model: SiameseRPN) -> dict[str, list[float]]:
    """Return the share of each level in classification and regression (softmax); equal where not learned."""
    rpn = _depthwise(model)
    levels = len(rpn.cls)
    weights = {"classification": rpn.cls_weight, "regression": rpn.loc_weight}
    return {
        name: (torch.zeros(levels) if each is None else each.detach().cpu().float()).softmax(0).tolist()
        for name, each in weights.items()
    }


def _depthwise(model: SiameseRPN) -> DepthwiseRPN:
    if not isinstance(model.rpn, DepthwiseRPN):  # the up-channel head has a single level, which measure refuses
        raise TypeError(f"expected levels that are fused, got {type(model.rpn).__name__}")
    return model.rpn


def draw(numbers: dict[str, Any]) -> Figure:
    """Draw the AUC of each choice, and the learned weights."""
    with plots.figure(8, 3.4) as drawn:
        scores, shares = drawn.subplots(1, 2, width_ratios=(1.4, 1))
        names, values = list(numbers["auc"]), list(numbers["auc"].values())
        counts = [name.count("+") for name in names]
        colours = [plots.COLOURS[count % len(plots.COLOURS)] for count in counts]
        scores.barh(names, np.mean(values, 1), 0.65, xerr=[deviation(each) for each in values], color=colours)
        scores.invert_yaxis()
        scores.set(xlabel="success AUC", ylabel="stages of the trunk")
        scores.grid(False, axis="y")
        places = np.arange(len(numbers["stages"]))
        for number, (name, each) in enumerate(numbers["weights"].items()):
            shares.bar(places + (number - 0.5) * 0.38, each, 0.36, color=plots.COLOURS[number], label=name)
        shares.set_xticks(places, [str(stage) for stage in numbers["stages"]])
        shares.set(xlabel="stage of the trunk", ylabel="share in the fused response")
        shares.grid(False, axis="x")
        shares.legend(frameon=False, fontsize=8)
    return drawn


def describe(numbers: dict[str, Any]) -> Section:
    """Return what the page says of it."""
    means = {name: float(np.mean(each)) for name, each in numbers["auc"].items()}
    alone = {name: value for name, value in means.items() if "+" not in name}
    single, whole = max(alone, key=lambda name: alone[name]), list(means)[-1]
    if numbers["trained_apart"]:
        how = "A network is trained for each choice of levels, all in the same way."
    else:
        how = (
            f"One trained network, {numbers['model']}: the levels that are not named get no weight in the fusion. Its "
            "levels were trained to work together, so a level alone is worth less here than if it had been trained "
            "alone (--train does that)."
        )
    weights = numbers["weights"]
    return Section(
        title="Layers",
        question="Early features say where, late ones what. SiamRPN++ correlates several levels and fuses them by "
        "learned weights (SiamRPN++, section 3.3, table 1).",
        method=f"{how} AUC of tracking all sequences with the preset's parameters. The weights are the softmax of "
        f"the learned ones{' (of the first seed)' if numbers['trained_apart'] else ''}.",
        findings=[f"The best level alone is stage {single}: {alone[single]:.3f}; all together: {means[whole]:.3f}."]
        + [
            f"In {name}, stage {numbers['stages'][int(np.argmax(each))]} weighs most: {max(each):.2f}."
            for name, each in weights.items()
        ],
        columns=["stages", "AUC"],
        rows=[[name, spread(each)] for name, each in numbers["auc"].items()]
        + [
            [f"weight of stage {stage}", " / ".join(f"{each[number]:.2f}" for each in weights.values())]
            for number, stage in enumerate(numbers["stages"])
        ],
    )
