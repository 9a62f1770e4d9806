"""``siamtrack vot`` and ``siamtrack trax``: driven by the VOT toolkit."""

from pathlib import Path
from typing import Annotated

import typer

from siamtrack.cli import options
from siamtrack.errors import UserError
from siamtrack.evaluate import trax, workspace
from siamtrack.models.zoo import DEFAULT
from siamtrack.tracker import Tracker

Masks = Annotated[bool, typer.Option("--masks", help="Answer with masks (VOT2020 on), not with rotated rectangles.")]


def vot(
    folder: Annotated[Path, typer.Argument(metavar="WORKSPACE", help="Folder of the workspace, new or not.")],
    stack: Annotated[str, typer.Option("--stack", help="The toolkit's stack, e.g. vot2022/shortterm, or a YAML file.")],
    sequences: Annotated[
        Path | None,
        typer.Option("--sequences", help="Sequences in VOT's layout; without, the toolkit downloads the stack's."),
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", help="A model's name or file; repeat for several.")
    ] = None,
    masks: Masks = False,
    settings: options.Tracking = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Make a workspace in which the VOT toolkit drives siamtrack's models, through TraX.

    The toolkit needs a virtual environment of its own, with a release that can run all its experiments:
    python -m venv VENV && VENV/bin/pip install vot-toolkit==0.7.4 attributee==0.1.9
    """
    trackers: dict[str, list[str]] = {}
    for model in models or [DEFAULT]:
        name = workspace.tracker_name(model)
        if name in trackers:
            raise UserError(f"two of the models would be called {name!r}; rename one of the files")
        found = str(Path(model).resolve()) if Path(model).is_file() else model
        trackers[name] = ["--model", found, "--device", device]
        trackers[name] += ["--threads", str(threads)] if threads else []
        trackers[name] += [part for setting in settings or [] for part in ("--set", setting)]
        trackers[name] += ["--masks"] if masks else []
    for model in models or [DEFAULT]:  # what the toolkit would only report as a tracker that does not answer
        made = Tracker(model, device=device, threads=threads, tracking=options.tracking_values(settings))
        if masks and not made.preset.model.mask:
            raise UserError(f"--masks: {model} gives boxes only; take a SiamMask model, or leave --masks out")
    workspace.write_workspace(folder, stack, sequences, trackers)
    print(f"wrote {folder / 'config.yaml'} and {folder / 'trackers.ini'}; with the toolkit's environment run")
    for verb in ("evaluate", "analysis"):
        print(f"  vot {verb} --workspace {folder} {' '.join(trackers)}")


def serve(
    model: options.Model = DEFAULT,
    masks: Masks = False,
    settings: options.Tracking = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Follow an object for a TraX client, such as the VOT toolkit, on stdin and stdout."""
    tracker = Tracker(model, device=device, threads=threads, tracking=options.tracking_values(settings))
    trax.serve(tracker, workspace.tracker_name(model), masks)
