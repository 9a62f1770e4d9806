"""What to do when the memory of a GPU is too small for the batch."""

from collections.abc import Callable

import torch


def too_large(part: int, batch: int, accumulate: int, device: torch.device, attempt: Callable[[int], object]) -> str:
    """Return a sentence that says which batch would fit, measured with a small one.

    Args:
        part: pairs that did not fit, at a time on one GPU.
        batch: pairs a step, of all processes.
        accumulate: parts that a process computes one after the other.
        device: the GPU.
        attempt: computes the gradients of so many pairs.
    """
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    available = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - before
    torch.cuda.reset_peak_memory_stats(device)
    few = max(1, part // 8)
    try:
        attempt(few)
        each = (torch.cuda.max_memory_allocated(device) - before) / few
        fitting = int(0.9 * available / each)
    except torch.OutOfMemoryError:
        fitting = 0
    total = torch.cuda.get_device_properties(device).total_memory
    return advice(part, batch, accumulate, fitting, total / 2**30)


def advice(part: int, batch: int, accumulate: int, fitting: int, gib: float) -> str:
    """Return the sentence for a GPU of ``gib`` GiB that holds ``fitting`` pairs at a time. See :func:`too_large`."""
    said = f"{part} pairs at a time do not fit into the GPU's {gib:.1f} GiB"
    processes = batch // (part * accumulate)
    shares = [n for n in range(accumulate, batch // processes + 1) if batch % (n * processes) == 0]
    enough = [n for n in shares if batch // (n * processes) <= fitting]
    if not enough:
        return f"{said}, nor do {max(1, part // 8)}; free memory on it, or take a smaller model or another GPU"
    return (
        f"{said}, about {fitting} would; use --set train.accumulate={enough[0]} (the batch stays {batch}) "
        f"or --set train.batch={fitting * processes * accumulate}"
    )
