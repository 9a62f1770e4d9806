"""Sequences together, frame by frame in batches; far faster on a GPU."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np

from siamtrack.boxes import Boxes, check_box
from siamtrack.errors import UserError
from siamtrack.evaluate import sequences as seq
from siamtrack.evaluate.results import STARTED, TRACKED, SequenceResult
from siamtrack.evaluate.running import Recording, first_known
from siamtrack.runtimes.load import out_of_memory
from siamtrack.tracking.core import Core, Floats, Step
from siamtrack.tracking.state import TrackResult
from siamtrack.video.image import Image

T = TypeVar("T")

_log = logging.getLogger(__name__)
_AHEAD = 4  # frames of each sequence that are decoded before they are needed


def decode_all(sequences: Sequence[seq.Sequence]) -> list[list[Image]]:
    """Return the frames of all sequences, decoded in threads."""
    with ThreadPoolExecutor() as pool:
        return [list(pool.map(sequence.frame, range(len(sequence)))) for sequence in sequences]


class Together(NamedTuple):
    """The answers for those sequences that go on."""

    alive: list[int]
    """Which they are, by their place among all."""
    frames: list[Image]
    """What they were shown."""
    found: Step
    seconds: float
    """How long it took, without decoding."""


Start = tuple[Iterable[Image], Floats]
"""A sequence: its frames, and the box [4] in the first of them."""


def in_step(core: Core, sequences: Iterable[Start], together: int | None = None) -> Iterator[Together]:
    """Track sequences, a frame of each at a time; yield the answers for each further frame.

    A sequence ends with its frames. The next one then begins in its place, so that batches stay full. Where memory does
    not suffice for all, they take turns in each frame, and a warning of the logger ``siamtrack.evaluate.lockstep`` says
    how many fit.

    Args:
        core: tracks them.
        sequences: the next is asked for when it can begin.
        together: how many go at a time; None for all.

    Raises:
        UserError: memory does not even suffice for one.
    """
    waiting = enumerate(sequences)
    fitting = _Fitting()
    sources: dict[int, Iterator[Image]] = {}  # of those that go on, in the order of the state
    state: Any = None
    while True:
        images = [next(source, None) for source in sources.values()]
        kept = [place for place, image in enumerate(images) if image is not None]
        states = []
        if kept:
            if len(kept) < len(images):
                alive = list(sources)
                sources = {alive[place]: sources[alive[place]] for place in kept}
                state = state.take(kept)
            shown = [image for image in images if image is not None]
            began = perf_counter()
            state, found = fitting.step(core, shown, state)
            yield Together(list(sources), shown, found, perf_counter() - began)
            states.append(state)
        else:
            sources = {}
        first, boxes = [], []
        while (together is None or len(sources) < together) and (entry := next(waiting, None)):
            index, (frames, box) = entry
            sources[index] = iter(frames)
            first.append(next(sources[index]))
            boxes.append(box)
        if first:
            states.append(fitting.init(core, first, np.stack(boxes)))
        if not states:
            return
        state = states[0] if len(states) == 1 else type(states[0]).join(states)


class _Fitting:
    """Begins and steps in parts that fit into memory."""

    def __init__(self) -> None:
        self._most: int | None = None

    def init(self, core: Core, frames: Sequence[Image], boxes: Floats) -> Any:
        """Do :meth:`Core.init`."""
        states = self._parts(len(frames), lambda part: core.init(frames[part], boxes[part]))
        return states[0] if len(states) == 1 else type(states[0]).join(states)

    def step(self, core: Core, frames: Sequence[Image], state: Any) -> tuple[Any, Step]:
        """Do :meth:`Core.step`."""
        places = range(len(frames))

        def work(part: slice) -> tuple[Any, Step]:
            return core.step(frames[part], state if part == slice(0, len(frames)) else state.take(places[part]))

        done = self._parts(len(frames), work)
        if len(done) == 1:
            return done[0]
        return type(state).join([each for each, _ in done]), Step.join([found for _, found in done])

    def _parts(self, count: int, work: Callable[[slice], T]) -> list[T]:
        """Return what ``work`` gives for each part of ``count`` sequences."""
        done: list[T] = []
        start = 0
        while start < count:
            size = min(self._most or count, count - start)
            try:
                done.append(work(slice(start, start + size)))
            except Exception as error:
                if not out_of_memory(error) or (size == 1 and isinstance(error, UserError)):
                    raise
            else:
                start += size
                continue
            # Only here what the failed work held in memory is released.
            if size == 1:
                raise UserError("memory does not suffice even for one sequence; take a smaller model or another device")
            self._most = -(-size // 2)
            _log.warning(
                "memory suffices for %d sequences at a time, not for %d; they now go in batches of %d",
                self._most, size, self._most,
            )  # fmt: skip
        return done


def run_in_step(core: Core, frames: Sequence[Sequence[Image]], first: Boxes) -> list[Boxes]:
    """Track all sequences together.

    Shapes: frames B lists of T_b times [H, W, 3]; first [B, 4]; result: B times [T_b, 4].
    """
    boxes = [[box] for box in first]
    for alive, _, found, _ in in_step(core, zip(frames, first, strict=True)):
        for index, box in zip(alive, found.boxes, strict=True):
            boxes[index].append(box)
    return [np.stack(each) for each in boxes]


def one_pass_in_step(
    core: Core, sequences: Sequence[seq.Sequence], on_frame: Callable[[], None], together: int | None = None
) -> Iterator[tuple[int, SequenceResult | UserError]]:
    """Do :func:`siamtrack.evaluate.running.one_pass` with so many sequences together; None for all.

    The time of a frame is its share of the batch's, without the start's. A sequence that cannot be tracked does not
    stop the others.

    Yields:
        The place of a sequence that has ended, and its result, or the error.
    """
    going: dict[int, _Frames] = {}  # as they are numbered in step
    refused: list[tuple[int, UserError]] = []

    with ThreadPoolExecutor() as pool:

        def starts() -> Iterator[Start]:
            number = 0
            for place, sequence in enumerate(sequences):
                try:
                    source = _Frames(place, sequence, pool)
                except (UserError, OSError) as error:
                    refused.append((place, UserError(str(error))))
                    continue
                going[number] = source
                number += 1
                for _ in range(source.index + 1):
                    on_frame()
                yield source, source.box

        def ended() -> Iterator[tuple[int, SequenceResult | UserError]]:
            yield from refused
            refused.clear()
            for number in [number for number, source in going.items() if source.ended]:
                source = going.pop(number)
                yield source.place, source.error or (source.recording.result(),)

        for alive, frames, found, seconds in in_step(core, starts(), together):
            for place, (number, frame) in enumerate(zip(alive, frames, strict=True)):
                source, answer = going[number], core.result(found, place)
                source.recording.record(source.index, frame, answer, TRACKED, seconds / len(alive))
                on_frame()
            yield from ended()
        yield from ended()


class _Frames:
    """The frames of a sequence from the first with a box on, decoded ahead, and what is recorded of them.

    They end early where one is unusable.

    Raises:
        UserError: there is no usable box.
    """

    def __init__(self, place: int, sequence: seq.Sequence, pool: ThreadPoolExecutor) -> None:
        self.place = place
        self.index = first_known(sequence)
        """The last frame that was given."""
        self.first = sequence.frame(self.index)
        self.box = check_box(sequence.boxes[self.index], self.first.shape[1], self.first.shape[0])
        self.recording = Recording(sequence, range(len(sequence)))
        self.recording.record(self.index, self.first, TrackResult(self.box, 1.0), STARTED, np.nan)
        self.ended = False
        self.error: UserError | None = None
        self._sequence, self._pool = sequence, pool

    def __iter__(self) -> Iterator[Image]:
        rest = range(self.index + 1, len(self._sequence))
        ahead = deque(self._pool.submit(self._sequence.frame, index) for index in rest[:_AHEAD])
        yield self.first
        for index in rest:
            if index + _AHEAD < rest.stop:
                ahead.append(self._pool.submit(self._sequence.frame, index + _AHEAD))
            try:
                frame = ahead.popleft().result()
            except (UserError, OSError) as error:
                self.error = UserError(str(error))
                break
            self.index = index
            yield frame
        self.ended = True
