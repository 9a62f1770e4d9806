"""The ``siamtrack`` command."""

import sys
from typing import Annotated

import typer

from siamtrack.cli import (
    convert,
    demo,
    evaluate,
    export,
    import_results,
    models,
    report,
    search,
    submit,
    track,
    track_many,
    train,
    vot,
)
from siamtrack.errors import UserError
from siamtrack.version import __version__

app = typer.Typer(
    name="siamtrack",
    help="Follow one object, any object, through a video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("track")(track.track)
app.command("track-many")(track_many.track_many)
app.command("demo")(demo.demo)
app.command("eval")(evaluate.evaluate)
app.command("report")(report.report)
app.command("train")(train.train)
app.command("search")(search.search)
app.command("import")(import_results.import_results)
app.command("submit")(submit.submit)
app.command("vot")(vot.vot)
app.command("trax")(vot.serve)
app.command("convert")(convert.convert)
app.command("export")(export.export)
app.add_typer(models.app, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"siamtrack {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Follow one object, any object, through a video."""


def run() -> None:
    """Run the command; what the person can mend is one line on stderr and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # before there was anything to keep
        sys.exit(130)
    except OSError as error:  # no permission, a full disk, a folder where a file should be
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
