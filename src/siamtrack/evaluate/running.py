"""How a tracker is run over a sequence: a function a protocol.

They share their arguments: the tracker; the sequence; a function that is called after each frame, which may raise to
stop; and for a realtime experiment the frames a second at which the frames come (see :class:`Clock`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from siamtrack.boxes import Boxes
from siamtrack.errors import UserError
from siamtrack.evaluate import sequences as seq
from siamtrack.evaluate.follows import FollowsOne
from siamtrack.evaluate.results import FAILED, SKIPPED, STARTED, TRACKED, Result, SequenceResult
from siamtrack.regions import Region, decode_mask, enclosing_box, encode_mask, overlap
from siamtrack.tracking.state import TrackResult
from siamtrack.video.image import Image

RESTART_AFTER = 5
"""Frames from a failure to the next start (VOT2013 and later; Kristan et al., PAMI 2016, section 4)."""
GRACE = 3
"""Late answers after a start that a realtime experiment forgives, for trackers that warm up (VOT2017 and later)."""


def _nothing() -> None: ...


def one_pass(
    tracker: FollowsOne,
    sequence: seq.Sequence,
    on_frame: Callable[[], None] = _nothing,
    fps: float | None = None,
) -> SequenceResult:
    """Track ``sequence`` from the first frame that has a box to its end, whatever happens; frames before are SKIPPED.

    Raises:
        UserError: a frame cannot be read, the tracker refuses it, or there is no box.
    """
    return _once(tracker, sequence, on_frame, fps, fill=False)


def supervised(
    tracker: FollowsOne,
    sequence: seq.Sequence,
    on_frame: Callable[[], None] = _nothing,
    fps: float | None = None,
) -> SequenceResult:
    """Track ``sequence`` and help: where the answer does not overlap the truth inside the image at all, the tracker has
    FAILED and is started anew with the truth 5 frames later; the frames between are SKIPPED and have no box.

    It is started with :func:`start_box`. Frames without truth cannot fail, and no start is made in them.

    Raises:
        UserError: a frame cannot be read, or the tracker refuses it.
    """
    recording = Recording(sequence, range(len(sequence)), fps)
    following, restart = False, 0
    for place in range(len(sequence)):
        truth = sequence.truth(place)
        if following:
            answer = recording.follow(tracker, place)
            if truth is not None and not overlap(answer, truth, recording.size) > 0:
                recording.codes[place] = FAILED
                following, restart = False, place + RESTART_AFTER
        elif place >= restart and truth is not None:
            recording.start(tracker, place, start_box(truth))
            following = True
        on_frame()
    return (recording.result(),)


def multi_start(
    tracker: FollowsOne,
    sequence: seq.Sequence,
    on_frame: Callable[[], None] = _nothing,
    fps: float | None = None,
) -> SequenceResult:
    """Track ``sequence`` once from each anchor, forward to its last or backward to its first frame (VOT2020 and later).

    Raises:
        UserError: there are no anchors, there is no box in one, a frame cannot be read, or the tracker refuses it.
    """
    if not sequence.anchors:
        raise UserError(f"sequence {sequence.name} has no anchors, which multi-start needs; choose another protocol")
    results = []
    for anchor in sequence.anchors:
        frames = frames_from(sequence, anchor)
        recording = Recording(sequence, frames, fps)
        truth = sequence.truth(frames[0])
        if truth is None:
            raise UserError(f"sequence {sequence.name} has an anchor in frame {frames[0]}, but no box there")
        for place in range(len(frames)):
            if place == 0:
                recording.start(tracker, place, start_box(truth))
            else:
                recording.follow(tracker, place)
            on_frame()
        results.append(replace(recording.result(), start=frames[0], backward=anchor < 0))
    return tuple(results)


def one_object(
    tracker: FollowsOne,
    sequence: seq.Sequence,
    on_frame: Callable[[], None] = _nothing,
    fps: float | None = None,
) -> SequenceResult:
    """Track one object of a video for object segmentation: as :func:`one_pass`, with a mask in each frame from the
    start on. Boxes of trackers without masks count as filled. :func:`separate` puts the objects of a video together.

    Raises:
        UserError: a frame cannot be read, or the tracker refuses it.
    """
    return _once(tracker, sequence, on_frame, fps, fill=True)


def _once(
    tracker: FollowsOne, sequence: seq.Sequence, on_frame: Callable[[], None], fps: float | None, fill: bool
) -> SequenceResult:
    recording = Recording(sequence, range(len(sequence)), fps, fill)
    begin = first_known(sequence)
    for place in range(len(sequence)):
        if place == begin:
            recording.start(tracker, place, start_box(sequence.truth(place)))
        elif place > begin:
            recording.follow(tracker, place)
        on_frame()
    return (recording.result(),)


def separate(results: Sequence[SequenceResult]) -> list[SequenceResult]:
    """Give each pixel that several objects of a video claim to the one with the highest score, of equals the first."""
    singles = [result for (result,) in results]
    masks = [list(result.masks or ()) for result in singles]
    for frame in range(len(singles[0])):
        present = [number for number, each in enumerate(masks) if each[frame] is not None]
        present.sort(key=lambda number: (singles[number].scores[frame], -number))
        drawn = {number: decode_mask(str(masks[number][frame])) for number in present}
        height = max((mask.y + mask.pixels.shape[0] for mask in drawn.values()), default=0)
        width = max((mask.x + mask.pixels.shape[1] for mask in drawn.values()), default=0)
        owner = np.full((height, width), -1)
        for number, (x, y, pixels) in drawn.items():
            owner[y : y + pixels.shape[0], x : x + pixels.shape[1]][pixels] = number
        for number in present:
            masks[number][frame] = encode_mask(owner == number)
    return [(replace(result, masks=tuple(each)),) for result, each in zip(singles, masks, strict=True)]


def frames_from(sequence: seq.Sequence, anchor: int) -> range:
    """Return the frames that are seen from an anchor (see :class:`~siamtrack.evaluate.sequences.Sequence`) on."""
    return range(anchor, len(sequence)) if anchor >= 0 else range(~anchor, -1, -1)


def first_known(sequence: seq.Sequence) -> int:
    """Return the first frame that has a box.

    Raises:
        UserError: none has.
    """
    known = np.flatnonzero(np.isfinite(sequence.boxes).all(1))
    if not len(known):
        raise UserError(f"sequence {sequence.name} has no box in any frame")
    return int(known[0])


def start_box(region: Region) -> Boxes:
    """Return the box [4] that a tracker of boxes is started with, as PySOT does it.

    Of four corners: centred on their mean, as wide and high as the enclosing box scaled to the corners' own area, and
    a pixel more, for PySOT counts the pixels at both ends. Of anything else: the enclosing box.
    """
    if not isinstance(region, np.ndarray) or region.shape != (4, 2):
        return enclosing_box(region)
    extent = np.ptp(region, 0)
    area = np.linalg.norm(region[1] - region[0]) * np.linalg.norm(region[2] - region[1])
    size = np.sqrt(area / extent.prod()) * extent + 1
    return np.concatenate([region.mean(0) - (size - 1) / 2, size])


class Clock:
    """Whether a tracker is still busy when a frame comes.

    Time is simulated from measured seconds, so that decoding does not count: frames come every 1 / ``fps`` seconds, the
    tracker takes each that comes while it is free, and its answer, however late, counts for that frame. ``init``
    counts as any answer does. After a start, the first :data:`GRACE` late answers are forgiven, as in VOT.
    """

    def __init__(self, fps: float) -> None:
        self._interval = 1 / fps
        self._free, self._grace = 0.0, GRACE

    def started(self) -> None:
        """Forget what was before a new start."""
        self._free, self._grace = 0.0, GRACE

    def busy(self, place: int) -> bool:
        """Return whether the frame at a place comes too early."""
        return place * self._interval < self._free

    def spend(self, place: int, seconds: float) -> None:
        """Note how long the answer to the frame at a place took."""
        if seconds > self._interval and self._grace:
            self._grace -= 1
        else:
            self._free = place * self._interval + seconds


class Recording:
    """What a tracker gives, frame by frame; frames that it is not asked for are SKIPPED.

    Args:
        sequence: where the frames come from.
        frames: which of its frames are seen, in their order; their positions in here are called places.
        fps: frames that come while the tracker is busy are dropped: the last answer is repeated, and they are SKIPPED.
        fill: whether answers without masks get their boxes as masks.
    """

    def __init__(self, sequence: seq.Sequence, frames: range, fps: float | None = None, fill: bool = False) -> None:
        count = len(frames)
        self.size = (0, 0)
        """Width and height of the frames."""
        self.codes = np.full(count, SKIPPED, np.int8)
        self._sequence, self._frames, self._fill = sequence, frames, fill
        self._clock = None if fps is None else Clock(fps)
        self._boxes = np.full((count, 4), np.nan)
        self._scores, self._seconds = np.full(count, np.nan), np.full(count, np.nan)
        self._polygons: dict[int, Boxes] = {}
        self._masks: list[str | None] = [None] * count

    def start(self, tracker: FollowsOne, place: int, box: Boxes) -> None:
        """Start the tracker with ``box`` [4] in the frame at a place."""
        frame = self._sequence.frame(self._frames[place])
        if self._clock:
            self._clock.started()
        began = perf_counter()
        tracker.init(frame, box)
        self.record(place, frame, TrackResult(box, 1.0), STARTED, perf_counter() - began)

    def follow(self, tracker: FollowsOne, place: int) -> Region:
        """Ask the tracker for the frame at a place, unless it is busy, and return its answer, a polygon or box."""
        if self._clock and self._clock.busy(place):
            self._boxes[place], self._scores[place] = self._boxes[place - 1], self._scores[place - 1]
            self._masks[place] = self._masks[place - 1]
            if place - 1 in self._polygons:
                self._polygons[place] = self._polygons[place - 1]
        else:
            frame = self._sequence.frame(self._frames[place])
            began = perf_counter()
            answer = tracker.update(frame)
            self.record(place, frame, answer, TRACKED, perf_counter() - began)
        region: Region = self._polygons.get(place, self._boxes[place])
        return region

    def record(self, place: int, frame: Image, answer: TrackResult, code: int, seconds: float) -> None:
        """Note an answer and the seconds that it took."""
        self.size = frame.shape[1], frame.shape[0]
        self.codes[place], self._seconds[place] = code, seconds
        self._boxes[place], self._scores[place] = answer.box, answer.score
        if answer.polygon is not None:
            self._polygons[place] = answer.polygon
        if answer.mask is not None:
            self._masks[place] = encode_mask(answer.mask)
        elif self._fill:
            self._masks[place] = encode_mask(_filled(answer.box, self.size))
        if self._clock:
            self._clock.spend(place, seconds)

    def result(self) -> Result:
        """Return what was recorded. Beside polygons, the boxes of starts are given as polygons too."""
        polygons = None
        if self._polygons:
            x, y, w, h = self._boxes.T
            polygons = np.stack([x, y, x + w, y, x + w, y + h, x, y + h], 1).reshape(-1, 4, 2)
            polygons[list(self._polygons)] = list(self._polygons.values())
        masks = tuple(self._masks) if any(self._masks) else None
        return Result(self._boxes, self._scores, self._seconds, self.codes, polygons, masks)


def _filled(box: Boxes, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels [H, W] inside a box."""
    ends = np.clip(np.nan_to_num([box[:2], box[:2] + box[2:]]), 0, size)
    (left, top), (right, bottom) = np.rint(ends).astype(int)
    mask = np.zeros(size[::-1], bool)
    mask[top:bottom, left:right] = True
    return mask
