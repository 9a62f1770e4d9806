"""What is timed: a tracker's step for some targets, in the whole and in parts."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from siamtrack.benchmark.marks import Marks
from siamtrack.boxes import Boxes
from siamtrack.evaluate.opencv import OpenCVTracker
from siamtrack.models.prediction import Prediction
from siamtrack.tracker import Tracker
from siamtrack.tracking.core import TrackerCore
from siamtrack.tracking.network import Array, Network, Patches
from siamtrack.video.image import Image

T = TypeVar("T")


class Parts(NamedTuple):
    """Where the seconds of a step went."""

    upload: float
    """The frame brought to a device that does the whole step; 0 elsewhere."""
    crop: float
    """Until the network was called: the search regions cut out and resized."""
    network: float
    """In the network: its response, and the masks that it draws."""
    boxes: float
    """Decoding of candidates, penalties, the choice and the new state; masks drawn into the frame."""
    rest: float
    """The answer brought to the host, and its form: thresholds and rectangles of masks."""


@dataclass(frozen=True)
class Label:
    """What a row of the results is called."""

    model: str
    runtime: str
    device: str = "cpu"
    targets: int = 1
    precision: str = "fp32"
    """Of the network's products: fp32, fp16 or int8."""


class Contender(Protocol):
    """Follows B targets in one video."""

    label: Label

    def start(self, frame: Image, boxes: Boxes) -> None:
        """Begin anew. Shapes: frame [H, W, 3]; boxes [B, 4]."""
        ...

    def update(self, frame: Image) -> None:
        """Find all targets in the next frame, and have the answer in host memory."""
        ...

    def split(self, frame: Image) -> Parts | None:
        """Do :meth:`update` and say where the time went; None from trackers that cannot."""
        ...


class OpenCV:
    """One of OpenCV's trackers, with a tracker a target.

    Args:
        name: of :data:`siamtrack.evaluate.opencv.NAMES`.

    Raises:
        UserError: this OpenCV does not have it.
    """

    def __init__(self, name: str, targets: int = 1) -> None:
        self.label = Label(name, "opencv", targets=targets)
        self._trackers = [OpenCVTracker(name) for _ in range(targets)]

    def start(self, frame: Image, boxes: Boxes) -> None:
        """See :class:`Contender`."""
        for tracker, box in zip(self._trackers, boxes, strict=True):
            tracker.init(frame, box)

    def update(self, frame: Image) -> None:
        """See :class:`Contender`."""
        for tracker in self._trackers:
            tracker.update(frame)

    def split(self, frame: Image) -> None:
        """Return nothing: OpenCV does not say."""


class Ours:
    """A tracker of this package.

    Args:
        tracker: its functions are used.
        name: of the model, for the label.
        synchronize: waits until the device has done what it was told.
        clock: gives the seconds of :meth:`split`.
        pipelined: of a GPU's graph, let the answers come a frame late.
    """

    def __init__(
        self,
        tracker: Tracker,
        name: str,
        device: str,
        targets: int = 1,
        synchronize: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        pipelined: bool = False,
    ) -> None:
        self._core = cast(Any, tracker.core)  # a GPU's has more than the protocol
        runtime, precision = tracker.runtime, getattr(self._core.network, "precision", "fp32")
        if pipelined:
            runtime += ", pipelined"
            self._core = type(self._core)(self._core.network, self._core.config, "pipelined")
        self.label = Label(name, runtime, device, targets, precision)
        self._watch: _Watch | None = None
        if isinstance(tracker.core, TrackerCore):  # others do the whole step on the device
            self._watch = _Watch(tracker.core.network, synchronize or (lambda: None), clock)
            self._timed = TrackerCore(self._watch, tracker.preset.model, tracker.tracking)
        self._targets, self._clock = targets, clock
        self._state: Any = None

    def start(self, frame: Image, boxes: Boxes) -> None:
        """See :class:`Contender`."""
        self._state = self._core.init([frame] * self._targets, boxes)

    def update(self, frame: Image) -> None:
        """See :class:`Contender`."""
        self._answer(self._core, frame)

    def split(self, frame: Image) -> Parts | None:
        """See :class:`Contender`."""
        watch = self._watch
        if not watch:
            return self._split_on_device(frame)
        watch.clear()
        began = self._clock()
        stepped, ended = self._answer(self._timed, frame)
        boxes = stepped - began - watch.before(began) - watch.seconds
        return Parts(0.0, watch.before(began), watch.seconds, boxes, ended - stepped)

    def _split_on_device(self, frame: Image) -> Parts | None:
        if self._core.latency == "pipelined":  # what the host waits for is the frame before
            return None
        began, marks = self._clock(), Marks(self._core.network.device, self._clock)
        _, ended = self._answer(self._core, frame, marks)
        spent = marks.seconds()
        return Parts(**spent, rest=max(ended - began - sum(spent.values()), 0.0))

    def _answer(self, core: Any, frame: Image, *marks: Marks) -> tuple[float, float]:
        """Do a step and shape its answers; return when the step and when all was done."""
        self._state, found = core.step([frame] * self._targets, self._state, *marks)
        stepped = self._clock()
        for index in range(self._targets):
            core.result(found, index)
        return stepped, self._clock()


class _Watch:
    """A network that is timed from outside."""

    def __init__(self, network: Network, synchronize: Callable[[], None], clock: Callable[[], float]) -> None:
        self._network, self._synchronize, self._clock = network, synchronize, clock
        self.runtime = network.runtime
        self.clear()

    def clear(self) -> None:
        """Forget what was measured."""
        self.seconds, self._first = 0.0, 0.0

    def before(self, began: float) -> float:
        """Return the seconds from ``began`` until the network was first called."""
        return self._first - began

    def template(self, patches: Patches) -> tuple[Array, ...]:
        """See :class:`~siamtrack.tracking.network.Network`."""
        return self._timed(lambda: self._network.template(patches))

    def search(self, patches: Patches, features: tuple[Array, ...]) -> Prediction:
        """See :class:`~siamtrack.tracking.network.Network`."""
        return self._timed(lambda: self._network.search(patches, features))

    def draw(self, context: tuple[Array, ...], cell: NDArray[np.int64]) -> NDArray[np.float32]:
        """See :class:`~siamtrack.tracking.network.Network`."""
        return self._timed(lambda: self._network.draw(context, cell))

    def _timed(self, call: Callable[[], T]) -> T:
        began = self._clock()
        self._first = self._first or began
        result = call()
        self._synchronize()
        self.seconds += self._clock() - began
        return result


def spread(parts: Sequence[Parts]) -> Parts:
    """Return the median of each part."""
    return Parts(*(float(np.median(each)) for each in zip(*parts, strict=True)))
