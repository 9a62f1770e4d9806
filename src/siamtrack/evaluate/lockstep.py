"""Sequences together, frame by frame in batches; far faster on a GPU."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import NamedTuple

import numpy as np

from siamtrack.boxes import Boxes, check_box
from siamtrack.errors import UserError
from siamtrack.evaluate import sequences as seq
from siamtrack.evaluate.results import STARTED, TRACKED, SequenceResult
from siamtrack.evaluate.running import Recording, first_known
from siamtrack.tracking.core import Core, Step
from siamtrack.tracking.state import TrackResult
from siamtrack.video.image import Image

_AHEAD = 4  # frames of each sequence that are decoded before they are needed


def decode_all(sequences: Sequence[seq.Sequence]) -> list[list[Image]]:
    """Return the frames of all sequences, decoded in threads."""
    with ThreadPoolExecutor() as pool:
        return [list(pool.map(sequence.frame, range(len(sequence)))) for sequence in sequences]


class Together(NamedTuple):
    """The answers for those sequences of a batch that go on."""

    alive: list[int]
    """Which they are."""
    frames: list[Image]
    """What they were shown."""
    found: Step
    seconds: float
    """How long it took, without decoding."""


def in_step(core: Core, frames: Sequence[Iterable[Image]], first: Boxes) -> Iterator[Together]:
    """Track B sequences together; yield the answers for each further frame. A sequence ends with its frames.

    Shapes: frames B times [H, W, 3] a frame; first [B, 4].
    """
    sources = [iter(each) for each in frames]
    alive = list(range(len(sources)))
    state = core.init([next(source) for source in sources], first)
    while True:
        images = [next(sources[index], None) for index in alive]
        kept = [place for place, image in enumerate(images) if image is not None]
        if not kept:
            return
        if len(kept) < len(alive):
            alive, state = [alive[place] for place in kept], state.take(kept)
        shown = [image for image in images if image is not None]
        began = perf_counter()
        state, found = core.step(shown, state)
        yield Together(alive, shown, found, perf_counter() - began)


def run_in_step(core: Core, frames: Sequence[Sequence[Image]], first: Boxes) -> list[Boxes]:
    """Track all sequences together.

    Shapes: frames B lists of T_b times [H, W, 3]; first [B, 4]; result: B times [T_b, 4].
    """
    boxes = [[box] for box in first]
    for alive, _, found, _ in in_step(core, frames, first):
        for index, box in zip(alive, found.boxes, strict=True):
            boxes[index].append(box)
    return [np.stack(each) for each in boxes]


def one_pass_in_step(
    core: Core, sequences: Sequence[seq.Sequence], on_frame: Callable[[], None]
) -> list[SequenceResult | UserError]:
    """Do :func:`siamtrack.evaluate.running.one_pass` with all sequences together.

    The time of a frame is its share of the batch's, without the start's. A sequence that cannot be tracked does not
    stop the others; its error is in its place.
    """
    outcomes: list[SequenceResult | UserError] = []
    recordings = [Recording(sequence, range(len(sequence))) for sequence in sequences]
    chosen: list[_Frames] = []
    with ThreadPoolExecutor() as pool:
        for number, sequence in enumerate(sequences):
            try:
                source = _Frames(number, sequence, pool)
            except UserError as error:
                outcomes.append(error)
                continue
            outcomes.append(())
            recordings[number].record(source.index, source.first, TrackResult(source.box, 1.0), STARTED, np.nan)
            chosen.append(source)
            for _ in range(source.index + 1):
                on_frame()
        if chosen:
            for alive, frames, found, seconds in in_step(core, chosen, np.stack([source.box for source in chosen])):
                for place, (index, frame) in enumerate(zip(alive, frames, strict=True)):
                    source, answer = chosen[index], core.result(found, place)
                    recordings[source.number].record(source.index, frame, answer, TRACKED, seconds / len(alive))
                    on_frame()
    for source in chosen:
        outcomes[source.number] = source.error or (recordings[source.number].result(),)
    return outcomes


class _Frames:
    """The frames of a sequence from the first with a box on, decoded ahead; they end early where one is unusable.

    Raises:
        UserError: there is no usable box.
    """

    def __init__(self, number: int, sequence: seq.Sequence, pool: ThreadPoolExecutor) -> None:
        self.number = number
        self.index = first_known(sequence)
        """The last frame that was given."""
        self.first = sequence.frame(self.index)
        self.box = check_box(sequence.boxes[self.index], self.first.shape[1], self.first.shape[0])
        self.error: UserError | None = None
        self._sequence, self._pool = sequence, pool

    def __iter__(self) -> Iterator[Image]:
        yield self.first
        rest = range(self.index + 1, len(self._sequence))
        ahead = deque(self._pool.submit(self._sequence.frame, index) for index in rest[:_AHEAD])
        for index in rest:
            if index + _AHEAD < rest.stop:
                ahead.append(self._pool.submit(self._sequence.frame, index + _AHEAD))
            try:
                frame = ahead.popleft().result()
            except (UserError, OSError) as error:
                self.error = UserError(str(error))
                return
            self.index = index
            yield frame
