"""siamtrack follows one object, any object, through a video.

>>> from siamtrack import Tracker
>>> tracker = Tracker()
>>> for result in tracker.track("video.mp4", box=(120, 80, 60, 140)):
...     print(result.frame, result.box, result.score)

Names are loaded when they are first used, so that ``import siamtrack`` costs almost nothing.
"""

from typing import TYPE_CHECKING

from siamtrack.version import __version__

if TYPE_CHECKING:
    from siamtrack.errors import UserError
    from siamtrack.multi import MultiTracker, Target
    from siamtrack.tracker import Tracker
    from siamtrack.tracking.state import TrackResult

__all__ = ["MultiTracker", "Target", "TrackResult", "Tracker", "UserError", "__version__"]

_HOMES = {
    "MultiTracker": "siamtrack.multi",
    "Target": "siamtrack.multi",
    "Tracker": "siamtrack.tracker",
    "TrackResult": "siamtrack.tracking.state",
    "UserError": "siamtrack.errors",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'siamtrack' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
