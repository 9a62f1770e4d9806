"""Ctrl-C as a wish to stop, not as a crash."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def until_interrupted(patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed; a second Ctrl-C stops at once, unless ``patient``."""
    pressed = False

    def note(number: int, _: object) -> None:
        nonlocal pressed
        pressed = True
        if not patient:
            signal.signal(number, signal.default_int_handler)

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, previous)
