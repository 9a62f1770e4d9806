"""Distractor-aware tracking (DaSiamRPN, Zhu et al., ECCV 2018, section 3.3).

The paper ranks a proposal p by f(z, p) - a mean_i f(d_i, p): the similarity to target z less that to distractors d_i.
Correlation is linear in its kernel, so the kernel of z less a times the distractors' mean kernel ranks the same in one
correlation, and a mean over time makes it incremental (eqs. 3 and 4). Only kernels of classification are changed, and
the target's own template stays the first one.
"""

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from siamtrack.boxes import iou
from siamtrack.tracking.config import DistractorConfig
from siamtrack.tracking.network import Array

_APART = 0.1  # overlap below which two candidates are different objects


def find(boxes: NDArray[np.float64], rank: NDArray[np.float64], config: DistractorConfig) -> NDArray[np.float64]:
    """Return the boxes of one target's distractors: ranked near the best candidate, and apart from it and each other.

    Shapes: boxes [N, 4] as x, y, w, h; rank [N]; result [K, 4], K <= ``most``.
    """
    order = np.argsort(-rank)
    order = order[rank[order] >= config.threshold * rank[order[0]]]
    found = [boxes[order[0]]]
    for index in order[1:]:
        if iou(boxes[index], np.array(found)).max() < _APART:
            found.append(boxes[index])
        if len(found) > config.most:
            break
    return np.array(found[1:]).reshape(-1, 4)


def empty_memory(kernels: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return a memory without distractors: for each kernel a weighted sum, then weight and age of the sums.

    Shapes: kernels [B, ...] each; the last is [B, 2].
    """
    xp = array_namespace(kernels[0])
    ages = xp.zeros((kernels[0].shape[0], 2), dtype=kernels[0].dtype, device=device(kernels[0]))
    return (*(xp.zeros_like(kernel) for kernel in kernels), ages)


def subtract(kernels: tuple[Array, ...], memory: tuple[Array, ...], strength: float) -> tuple[Array, ...]:
    """Return the target's kernels less ``strength`` times the distractors' mean over time. Shapes: [B, ...] each."""
    *sums, ages = memory
    xp = array_namespace(ages)
    weight = xp.clip(ages[:, 0], 1e-9, None)
    return tuple(
        kernel - strength * total / xp.reshape(weight, (-1,) + (1,) * (kernel.ndim - 1))
        for kernel, total in zip(kernels, sums, strict=True)
    )


def add(
    memory: tuple[Array, ...], kernels: tuple[Array, ...], owners: NDArray[np.intp], rate: float
) -> tuple[Array, ...]:
    """Return the memory with the distractors of a frame: for each target that has some, their mean.

    A frame's weight is sum_{i < t} (rate / (1 - rate))^i for the t-th such frame (eq. 4).

    Shapes: kernels [K, ...] each; owners [K]: whose distractor each is.
    """
    *sums, ages = memory
    xp, place = array_namespace(ages), device(ages)
    count = ages.shape[0]
    ratio = rate / (1 - rate)
    share = np.zeros((count, len(owners)))
    share[owners, np.arange(len(owners))] = 1
    share /= np.maximum(share.sum(1, keepdims=True), 1)
    seen = xp.asarray(share.sum(1), dtype=ages.dtype, device=place)  # [B] 1 where there are distractors
    age = ages[:, 1] + seen
    weight = seen * (1 - ratio**age) / (1 - ratio)
    shares = xp.asarray(share, dtype=ages.dtype, device=place) * weight[:, None]  # [B, K]
    grown = [
        total + xp.reshape(xp.matmul(shares, xp.reshape(kernel, (len(owners), -1))), total.shape)
        for total, kernel in zip(sums, kernels, strict=True)
    ]
    return (*grown, xp.stack([ages[:, 0] + weight, age], axis=1))
