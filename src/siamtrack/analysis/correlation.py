"""Up-channel against depth-wise correlation on the same trunk (SiamRPN++, section 3.4, figure 4)."""

from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from siamtrack.analysis import plots
from siamtrack.analysis.experiment import Experiment
from siamtrack.analysis.section import Section, deviation, spread
from siamtrack.models import zoo
from siamtrack.models.config import ModelConfig
from siamtrack.models.siamese import SiameseRPN, count_gmac

_KINDS = {"depthwise": "depth-wise", "upchannel": "up-channel"}
_REPEATS = 30
"""Search crops of each head that are timed, in turns."""


def measure(experiment: Experiment) -> dict[str, Any]:
    """Train both heads on the last level of the same trunk, and return their sizes, speed and AUC."""
    model = zoo.load(experiment.preset, experiment.settings).model
    stage, width = model.backbone.stages[-1], model.head.widths[-1]
    one = (f"model.backbone.stages=[{stage}]", f"model.head.widths=[{width}]", "model.head.weighted=false")
    dense = (*one, "model.head.separable=false")  # the up-channel head has no separable form
    trained = {
        kind: [
            experiment.train_model(f"correlation-{kind}", *dense, f"model.head.kind={kind}", seed=seed)
            for seed in range(experiment.seeds)
        ]
        for kind in _KINDS
    }
    auc: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    for kind, each in experiment.each("tracking", [(kind, each) for kind, those in trained.items() for each in those]):
        auc[kind].append(experiment.auc(each))
    config = trained["depthwise"][0].preset.model
    seconds = time_heads(config, experiment.device)
    heads = {kind: {**sizes(_with_head(config, kind)), **seconds[kind], "auc": auc[kind]} for kind in _KINDS}
    return {"trunk": config.backbone.name, "stage": stage, "width": width, "device": experiment.device, "heads": heads}


def _with_head(config: ModelConfig, kind: str) -> SiameseRPN:
    """Return an untrained network with a head of ``kind``."""
    values = config.model_dump()
    values["head"]["kind"] = kind
    return SiameseRPN(ModelConfig.model_validate(values)).eval()


def sizes(model: SiameseRPN) -> dict[str, float]:
    """Return parameters, of all and of the head, and billions of multiply-accumulates of a template and a search."""
    template, search = count_gmac(model, model.config.search_size)
    return {
        "parameters": sum(each.numel() for each in model.parameters()),
        "head_parameters": sum(each.numel() for each in model.rpn.parameters()),
        "gmac_template": template,
        "gmac_search": search,
    }


@torch.inference_mode()
def time_heads(config: ModelConfig, device: str) -> dict[str, dict[str, float]]:
    """Return by kind of head the median milliseconds of a search crop and of the head alone, batch 1, in turns."""
    place = torch.device(device)
    models = {kind: _with_head(config, kind).to(place) for kind in _KINDS}
    z, x = (torch.zeros(1, 3, size, size, device=place) for size in (config.template_size, config.search_size))
    kernels = {kind: model.template(z) for kind, model in models.items()}
    levels = {kind: model.features(x)[0] for kind, model in models.items()}
    seconds: dict[str, dict[str, list[float]]] = {kind: {"ms": [], "head_ms": []} for kind in _KINDS}
    for repeat in range(_REPEATS + 3):  # the first ones warm up
        for kind, model in models.items():
            for part, call in (
                ("ms", partial(model.search, x, kernels[kind])),
                ("head_ms", partial(model.rpn, levels[kind], kernels[kind])),
            ):
                began = perf_counter()
                call()
                if place.type == "cuda":
                    torch.cuda.synchronize(place)
                if repeat >= 3:
                    seconds[kind][part].append(1e3 * (perf_counter() - began))
    return {kind: {part: float(np.median(each)) for part, each in parts.items()} for kind, parts in seconds.items()}


def draw(numbers: dict[str, Any]) -> Figure:
    """Draw a pair of bars for each of: parameters, operations, time, AUC."""
    heads = numbers["heads"]
    panels = {
        "head, M parameters": [each["head_parameters"] / 1e6 for each in heads.values()],
        "GMAC of a template": [each["gmac_template"] for each in heads.values()],
        "GMAC of a search crop": [each["gmac_search"] for each in heads.values()],
        "ms of a search crop": [each["ms"] for each in heads.values()],
        "ms of its head": [each["head_ms"] for each in heads.values()],
        "success AUC": [float(np.mean(each["auc"])) for each in heads.values()],
    }
    with plots.figure(11, 2.7) as drawn:
        for axes, (title, values) in zip(drawn.subplots(1, len(panels)), panels.items(), strict=True):
            bars = axes.bar([_KINDS[kind] for kind in heads], values, 0.6, color=plots.COLOURS[: len(values)])
            axes.bar_label(bars, [f"{value:.3g}" for value in values], fontsize=8)
            axes.set_title(title)
            axes.grid(False, axis="x")
            axes.margins(y=0.12)
        spreads = [deviation(each["auc"]) for each in heads.values()]
        axes.errorbar(range(len(values)), values, spreads, fmt="none", ecolor="#333333", capsize=3)
    return drawn


def describe(numbers: dict[str, Any]) -> Section:
    """Return what the page says of it."""
    deep, up = numbers["heads"]["depthwise"], numbers["heads"]["upchannel"]
    return Section(
        title="Correlation",
        question="SiamRPN lifts the template to a kernel for each output (up-channel): most of its parameters are "
        "there, and both sides are unbalanced. SiamRPN++ correlates channel by channel (depth-wise) and mixes the "
        "channels afterwards, with a tenth of the parameters (section 3.4, figure 4).",
        method=f"Both heads on stage {numbers['stage']} of {numbers['trunk']}, {numbers['width']} channels, trained in "
        "the same way. GMAC: billions of multiply-accumulates, of convolutions. Time: median of a search crop, "
        f"and of the part after the trunk alone, batch 1, the two heads in turns on {numbers['device']}, in "
        "PyTorch. AUC: tracking all sequences with the preset's parameters.",
        findings=[
            f"The up-channel head has {up['head_parameters'] / deep['head_parameters']:.1f} times the parameters of "
            f"the depth-wise one, and a search crop takes {up['ms'] / deep['ms']:.2f} times as long "
            f"(its head alone {up['head_ms'] / deep['head_ms']:.2f} times).",
            f"AUC: depth-wise {spread(deep['auc'])}, up-channel {spread(up['auc'])}.",
        ],
        columns=[
            "head",
            "parameters",
            "of them in the head",
            "GMAC template",
            "GMAC search",
            "time, depth-wise = 1",
            "of the head alone",
            "AUC",
        ],
        rows=[
            [
                _KINDS[kind],
                f"{each['parameters']:,.0f}",
                f"{each['head_parameters']:,.0f}",
                f"{each['gmac_template']:.3f}",
                f"{each['gmac_search']:.3f}",
                f"{each['ms'] / deep['ms']:.2f}",
                f"{each['head_ms'] / deep['head_ms']:.2f}",
                spread(each["auc"]),
            ]
            for kind, each in numbers["heads"].items()
        ],
    )
