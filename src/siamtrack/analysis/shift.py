"""Shift ablation: success AUC against the range of the shift in training (SiamRPN++, section 3.1, figure 3)."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from siamtrack.analysis import plots
from siamtrack.analysis.centre_bias import trained_by_shift
from siamtrack.analysis.clips import OFFSET
from siamtrack.analysis.experiment import Experiment, Tracking
from siamtrack.analysis.section import Section, deviation, spread

_TRACKING: dict[Tracking, str] = {
    "plain": "as the preset tracks",
    "no-window": "without the cosine window",
    "off-centre": "without it, targets off-centre",
}


def measure(experiment: Experiment) -> dict[str, Any]:
    """Train a network for each shift and seed, and return the AUC of each, tracking in three ways."""
    runs = trained_by_shift(experiment)
    shifts: dict[str, dict[str, list[float]]] = {str(shift): {each: [] for each in _TRACKING} for shift in runs}
    planned = [
        (str(shift), each, tracking) for shift, trained in runs.items() for each in trained for tracking in _TRACKING
    ]
    for shift, each, tracking in experiment.each("tracking", planned):
        shifts[shift][tracking].append(experiment.auc(each, tracking))
    return {"offset": OFFSET, "seeds": experiment.seeds, "shifts": shifts}


def draw(numbers: dict[str, Any]) -> Figure:
    """Draw a line for each way of tracking, with a dot for each seed."""
    shifts = numbers["shifts"]
    x = [int(shift) for shift in shifts]
    with plots.figure(5.2, 3.6) as drawn:
        axes = drawn.add_subplot()
        for number, (tracking, label) in enumerate(_TRACKING.items()):
            values = [each[tracking] for each in shifts.values()]
            colour = plots.COLOURS[number]
            spreads = [deviation(each) for each in values]
            axes.errorbar(x, np.mean(values, 1), spreads, fmt="o-", capsize=3, color=colour, label=label)
            for place, each in zip(x, values, strict=True):
                axes.plot([place] * len(each), each, ".", color=colour, alpha=0.5)
        axes.set_xticks(x)
        axes.set(xlabel="shift in training, pixels", ylabel="success AUC")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8)
    return drawn


def describe(numbers: dict[str, Any]) -> Section:
    """Return what the page says of it."""
    shifts = numbers["shifts"]
    means = {tracking: [float(np.mean(each[tracking])) for each in shifts.values()] for tracking in _TRACKING}
    best = {tracking: list(shifts)[int(np.argmax(each))] for tracking, each in means.items()}
    return Section(
        title="Shift ablation",
        question="How far must targets be shifted in training? In the paper's figure 3 the score rises with the shift "
        "up to 64 pixels (SiamRPN++, section 3.1).",
        method=f"The networks of the centre bias, tracked over all sequences; {numbers['seeds']} "
        f"seed{'s' if numbers['seeds'] > 1 else ''} each. The cosine window is a preference for the centre made by "
        "hand, so the second line is without it; for the third the search region is also moved in each frame by "
        f"uniform(-{numbers['offset']:g}, {numbers['offset']:g}) pixels of the region.",
        findings=[f"Best {label}: shift {best[t]}." for t, label in _TRACKING.items()],
        columns=["shift", *_TRACKING.values()],
        rows=[[shift, *(spread(each[tracking]) for tracking in _TRACKING)] for shift, each in shifts.items()],
    )
