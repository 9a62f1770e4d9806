"""Weights that are a pure function of name and shape, so that no file of weights is needed to compare networks."""

import zlib

import numpy as np
import torch


def tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the made-up value of an entry of PySOT's state dict (without batch norm's statistics)."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    if len(shape) == 4:
        scale = np.float32(np.sqrt(2 / (shape[1] * shape[2] * shape[3])))
        value = generator.standard_normal(shape, dtype=np.float32) * scale
    elif len(shape) == 1 and name.endswith("weight") and not name.endswith(("cls_weight", "loc_weight")):
        value = generator.uniform(0.5, 1.5, shape).astype(np.float32)
    else:
        value = generator.standard_normal(shape).astype(np.float32) * np.float32(0.1)
    if ".loc.head.3." in name:
        value *= np.float32(0.02)
    if ".cls.head.3." in name:
        value *= np.float32(0.3)
    return torch.from_numpy(np.ascontiguousarray(value))
