"""When a device comes to a mark in its work."""

import time
from collections.abc import Callable
from typing import Any


class Marks:
    """The seconds of the parts of a device's work, each of which ends with a mark.

    Args:
        device: torch's. A GPU's times are its own (CUDA events), so that nothing waits for a mark.
        clock: gives the seconds of other devices, which have done their work when they come to a mark.
    """

    def __init__(self, device: Any, clock: Callable[[], float] = time.perf_counter) -> None:
        self._device, self._clock = device, clock
        self._names: list[str] = []
        self._times = [self._now()]

    def __call__(self, part: str) -> None:
        """End a part."""
        self._names.append(part)
        self._times.append(self._now())

    def seconds(self) -> dict[str, float]:
        """Wait for the device; return the seconds of each part, of parts with one name together."""
        spent = dict.fromkeys(self._names, 0.0)
        for name, began, ended in zip(self._names, self._times, self._times[1:], strict=False):
            spent[name] += self._between(began, ended)
        return spent

    def _now(self) -> Any:
        if self._device.type == "cpu":
            return self._clock()
        import torch

        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _between(self, began: Any, ended: Any) -> float:
        if self._device.type == "cpu":
            return float(ended - began)
        ended.synchronize()
        return float(began.elapsed_time(ended)) / 1000
