"""A tracker that the VOT toolkit drives, through TraX (Čehovin, Neurocomputing 2017)."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from siamtrack.errors import UserError
from siamtrack.evaluate.running import start_box
from siamtrack.regions import Mask, Region
from siamtrack.tracker import Tracker
from siamtrack.tracking.state import TrackResult
from siamtrack.video.image import Image, read_image


def serve(tracker: Tracker, name: str, masks: bool = False) -> None:
    """Answer a TraX client on stdin and stdout until it quits.

    Each frame is answered with the rotated rectangle of a network with masks, with the box of any other. The tracker
    is started with :func:`~siamtrack.evaluate.running.start_box` of the region in the request; frames come as paths of
    image files.

    Args:
        tracker: what follows the object.
        name: what the client is told that the tracker is called.
        masks: answer with masks instead of rotated rectangles.

    Raises:
        UserError: vot-trax is not installed, nobody speaks TraX on stdin, the tracker refuses a frame, or masks are
            asked of a network without.
    """
    if find_spec("trax") is None:
        raise UserError("TraX needs vot-trax; pip install 'siamtrack[vot]'")
    from trax import TraxException
    from trax.image import Image as TraxImage
    from trax.region import Region as TraxRegion
    from trax.server import Server

    formats = [TraxRegion.RECTANGLE, TraxRegion.POLYGON, TraxRegion.MASK]
    server = Server(formats, [TraxImage.PATH], tracker_name=name, tracker_family="siamtrack")
    try:
        _answer(server, tracker, masks)
    except TraxException as error:
        raise UserError(f"no TraX client answers on stdin ({error}); this command is started by one") from None
    except UserError as error:
        server.quit(str(error))
        raise


def _answer(server: Any, tracker: Tracker, masks: bool) -> None:
    from trax import TraxStatus

    while (request := server.wait()).type != TraxStatus.QUIT:
        frame = _frame(request.image["color"].path())
        if request.type == TraxStatus.INITIALIZE:
            region, properties = request.objects[0]
            tracker.init(frame, start_box(_from_trax(region)))
            server.status([(region, properties)])
        else:
            found = tracker.update(frame)
            server.status([(_to_trax(found, masks), {"confidence": found.score})])


def _frame(path: str) -> Image:
    image = read_image(Path(path))
    if image is None:
        raise UserError(f"{path} is no image that can be read")
    return image


def _from_trax(region: Any) -> Region:
    if region.type == "rectangle":
        return np.array(region.bounds(), float)
    if region.type == "mask":
        x, y = region.offset()
        return Mask(x, y, region.array() > 0)
    return np.array(list(region), float)


def _to_trax(found: TrackResult, masks: bool) -> Any:
    from trax import region

    if masks:
        if found.mask is None:
            raise UserError("masks were asked for, but this model finds boxes only; leave --masks away")
        return region.Mask.create(found.mask.astype(np.uint8))
    if found.polygon is not None:
        return region.Polygon.create([(float(x), float(y)) for x, y in found.polygon])
    return region.Rectangle.create(*map(float, found.box))
