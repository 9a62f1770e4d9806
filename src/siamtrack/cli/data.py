"""``siamtrack data``: an index of training data, what it holds, and what the network sees of it."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import cv2
import typer

from siamtrack import files
from siamtrack.cli.progress import progress_bar
from siamtrack.data.check import decodable
from siamtrack.data.index import Index, IndexBuilder, read_index, summed, write_index
from siamtrack.data.sources import SOURCES, add_source, wanted
from siamtrack.data.summary import summarize
from siamtrack.errors import UserError
from siamtrack.models import zoo

app = typer.Typer(help="Training data: index data sets, count what an index holds, and look at it.")

Indexed = Annotated[Path, typer.Argument(help="An index (.parquet), or a folder of index.jsonl and tar files.")]


@app.command("index")
def index(
    out: Annotated[Path, typer.Option("--out", help="The .parquet file to write.")],
    kind: Annotated[
        str | None, typer.Argument(help=f"What the source is: {', '.join(SOURCES)}; KIND:NAME gives it a name.")
    ] = None,
    folder: Annotated[Path | None, typer.Argument(help="The folder that it was unpacked to.")] = None,
    more: Annotated[
        list[str] | None, typer.Option("--source", help="KIND=FOLDER or KIND:NAME=FOLDER, another source; repeat.")
    ] = None,
    rejected: Annotated[
        Path | None, typer.Option("--rejected", help="Text file for what was left out: source, reason, where.")
    ] = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Also decode all pictures and masks, which is slow.")
    ] = False,
) -> None:
    """Make one index of data sets in their published layouts.

    The header of every picture is read. What cannot be used is left out and counted by reason. Pictures stay where they
    are: the index names them relative to its own folder if they lie below it.
    """
    if not find_spec("pyarrow"):
        raise UserError("an index in Parquet needs pyarrow; pip install 'siamtrack[train]'")
    if kind and not folder:
        raise UserError(f"data index {kind}: give the folder too, as 'siamtrack data index {kind} FOLDER --out FILE'")
    given = [(kind, folder)] if kind and folder else []
    for text in more or []:
        name, sign, path = text.partition("=")
        if not (name and sign and path):
            raise UserError(f"--source {text}: expected KIND=FOLDER, such as coco=/data/coco")
        given.append((name, Path(path)))
    if not given:
        raise UserError(f"data index: give a source and its folder; sources are {', '.join(SOURCES)}")
    if files.writable(out).suffix.lower() != ".parquet":
        raise UserError(f"cannot write {out}: the name must end in .parquet")
    listed = rejected and files.writable(rejected)
    sources = [wanted(name, path) for name, path in given]
    builder = IndexBuilder(out.parent.absolute())
    for source in sources:
        with progress_bar(f"index {source.name}", None, "pictures") as bar:
            for count in add_source(builder, source):
                bar.update(bar.task_ids[0], completed=count)
    made = builder.build()
    if decode:
        with progress_bar("decode", len(made.pictures), "pictures") as bar:
            made = decodable(made, lambda count: bar.update(bar.task_ids[0], completed=count))
    write_index(made, out)
    if listed:
        rows = (f"{each.source}\t{each.reason}\t{each.where}\t{each.count}" for each in made.rejected)
        files.write_text(listed, "".join(f"{row}\n" for row in ("source\treason\twhere\tcount", *rows)))
    _print(made)
    print(f"wrote {out}" + (f"; what was left out is in {listed}" if listed else ""))


@app.command("stats")
def stats(index: Indexed) -> None:
    """Count pictures, tracks, boxes and masks of each source, and what was left out by reason."""
    _print(read_index(index))


@app.command("preview")
def preview(
    index: Indexed,
    out: Annotated[Path, typer.Option("--out", help="The .png file to write.")] = Path("preview.png"),
    preset: Annotated[str, typer.Option("--preset", help="Name of a model, or a preset's .yaml file.")] = zoo.DEFAULT,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the preset's, e.g. train.sampling.negative=1.")
    ] = None,
    pairs: Annotated[int, typer.Option("--pairs", min=1, max=256, help="How many pairs.")] = 16,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Other pairs.")] = 0,
) -> None:
    """Draw training pairs as the network sees them, with the target and the anchors assigned to it.

    Left the template, right the search region: the target's box green (red in a negative pair), its mask magenta,
    positive anchors blue, the middles of negative ones red.
    """
    if not find_spec("torch"):
        raise UserError("training pairs need PyTorch; pip install 'siamtrack[train]'")
    if files.writable(out).suffix.lower() != ".png":
        raise UserError(f"cannot write {out}: the name must end in .png")
    loaded = zoo.load(preset, settings or [])
    from siamtrack.data.preview import preview as draw
    from siamtrack.train.config import TrainConfig

    config = loaded.section("train", TrainConfig)
    sheet = draw(read_index(index), loaded.model, config.sampling, config.targets, config.data.canvas, pairs, seed)
    with files.atomic(out) as temporary:
        temporary.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())
    print(f"wrote {out}: {pairs} pairs, {sheet.shape[1]}x{sheet.shape[0]} pixels")


def _print(index: Index) -> None:
    line = "{:14} {:>9} {:>7} {:>7} {:>9} {:>9} {:>9} {:>7}  {:>10}  {}"
    print(line.format("source", "pictures", "videos", "tracks", "boxes", "in stills", "masks", "absent", "picture",
                      "side of a box, 5/50/95 %"))  # fmt: skip
    for each in summarize(index):
        size, side = "{}x{}".format(*each.size), "/".join(f"{value:.0f}" for value in each.side)
        print(line.format(each.source, each.pictures, each.videos, each.tracks, each.boxes, each.still_boxes,
                          each.masks, each.absent, size, side))  # fmt: skip
    for left in sorted(summed(index.rejected), key=lambda left: (left.source, -left.count)):
        print(f"left out of {left.source}: {left.count} x {left.reason}; the first: {left.where}")
