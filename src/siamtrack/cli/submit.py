"""``siamtrack submit``: archives for evaluation servers."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from siamtrack.errors import UserError
from siamtrack.evaluate.datasets import read_dataset
from siamtrack.evaluate.results import read_run
from siamtrack.evaluate.submit import form_of, write_submission
from siamtrack.files import writable


def submit(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path, typer.Option("--out", help="The .zip file to write.")],
    form: Annotated[
        Literal["got10k", "trackingnet", "vot"] | None,
        typer.Option("--format", help="Who takes it; what the run's data set asks for if not given."),
    ] = None,
) -> None:
    """Write a run as the archive that the servers of GOT-10k and TrackingNet take, or as results of the VOT toolkit."""
    if writable(out).suffix.lower() != ".zip":
        raise UserError(f"cannot write {out}: the name must end in .zip")
    content = read_run(run)
    chosen = form or form_of(content)
    root = Path(str(content.facts.get("root", "")))
    only = tuple(content.facts.get("only") or ())
    dataset = read_dataset(content.dataset, root, only) if content.facts.get("root") and root.is_dir() else None
    write_submission(content, chosen, out, dataset)
    print(f"wrote {out}: {chosen}, {len(content.results)} sequences")
    if dataset is None:
        print(f"whether that is all of {content.dataset} was not checked: {root} is not there")
    elif only:
        print(f"these are not all sequences: the run was for {', '.join(only)} only")
