"""Ctrl-C and SIGTERM as a wish to stop, not as a crash."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Interrupt:
    """Whether to stop."""

    by = ""
    """What asked for it, ``Ctrl-C`` or ``SIGTERM`` (of ``kill``, ``docker stop``, systemd)."""

    def __call__(self) -> bool:
        """Return whether to stop."""
        return bool(self.by)


@contextmanager
def until_interrupted(patient: bool = False) -> Iterator[Interrupt]:
    """Yield what tells whether Ctrl-C was pressed or SIGTERM sent; a second one stops at once, unless ``patient``."""
    interrupt = Interrupt()

    def note(number: int, _: object) -> None:
        interrupt.by = _NAMES[signal.Signals(number)]
        if not patient:
            for each in _NAMES:
                signal.signal(each, signal.default_int_handler)

    previous = {each: signal.signal(each, note) for each in _NAMES}
    try:
        yield interrupt
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
