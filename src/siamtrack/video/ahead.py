"""A thread that reads ahead of whoever uses what is read."""

from collections import deque
from collections.abc import Generator
from threading import Condition, Thread, current_thread
from typing import Generic, TypeVar

T = TypeVar("T")
_GOODBYE = 2.0  # seconds that close() waits for a thread in the middle of a read


class ReadAhead(Generic[T]):
    """Takes items from a generator in a thread of its own.

    The generator is only ever used by that thread, which also closes it. An exception there is raised by :meth:`take`
    once the items before it are taken.

    Args:
        items: what is read.
        room: how many items may wait at most.
        newest: drop the oldest waiting item when there is no room, instead of waiting for room.
    """

    dropped: int = 0
    """How many items were dropped for newer ones."""

    def __init__(self, items: Generator[T], room: int, newest: bool = False) -> None:
        self._items, self._room, self._newest = items, room, newest
        self._waiting: deque[T] = deque()
        self._change = Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread = Thread(target=self._read, name="read-ahead", daemon=True)
        self._thread.start()

    def take(self, patience: float | None = None) -> T | None:
        """Return the next item, None when there are no more.

        Args:
            patience: seconds to wait at most; None for as long as it takes.

        Raises:
            TimeoutError: nothing came for so long.
        """
        with self._change:
            if not self._change.wait_for(lambda: self._waiting or self._ended or self._closed, patience):
                raise TimeoutError
            if self._waiting:
                self._change.notify_all()
                return self._waiting.popleft()
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            return None

    def close(self) -> None:
        """End the thread; what waits is forgotten. A thread that is stuck in a read ends when that returns."""
        with self._change:
            self._closed = True
            self._waiting.clear()
            self._change.notify_all()
        if self._thread is not current_thread():  # which a garbage collection may well be in
            self._thread.join(_GOODBYE)

    def _read(self) -> None:
        try:
            for item in self._items:
                with self._change:
                    if self._newest and len(self._waiting) == self._room:
                        self._waiting.popleft()
                        self.dropped += 1
                    self._change.wait_for(lambda: len(self._waiting) < self._room or self._closed)
                    if self._closed:
                        break
                    self._waiting.append(item)
                    self._change.notify_all()
                del item  # a frame that was taken is not kept alive while the next one is read
            self._items.close()
        except BaseException as error:  # whoever takes the items has to know, whatever it is
            self._error = error
        finally:
            with self._change:
                self._ended = True
                self._change.notify_all()
