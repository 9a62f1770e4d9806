"""The ``siamtrack`` command."""

import shlex
import sys
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from siamtrack.cli import (
    analyze,
    benchmark,
    convert,
    data,
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
from siamtrack.errors import UserError, nearest
from siamtrack.version import __version__

_UsageError: type[Any] = typer.BadParameter.__mro__[1]  # Typer's own, or with older releases click's


class _Commands(TyperGroup):
    """The verbs; a command line that cannot be read is a UserError, too."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run a verb and exit.

        Raises:
            UserError: from the verb, or an option or argument is unknown, missing or has an unusable value.
        """
        try:
            code = super().main(*arguments, **{**options, "standalone_mode": False})
        except _UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # which has printed the help
                sys.exit(error.exit_code)
            raise UserError(_sentence(error)) from None
        sys.exit(code)


def _sentence(error: Any) -> str:
    """Return what is wrong with a command line, what was expected, and where to read on."""
    command = error.ctx.command_path if error.ctx else ""
    where = f"see '{command} --help'" if command else "see --help"
    if hasattr(error, "possibilities"):
        known = [name for parameter in error.ctx.command.params for name in parameter.opts if name.startswith("-")]
        name = error.option_name
        hint = nearest(name, [*known, "--help"]) if name.startswith("--") else ""
        return f"'{command}' has no option {name}{hint} ({where})"
    if getattr(error, "param", None) is None:
        reason = error.format_message().rstrip(".").replace(". Did you", "; did you")
        return f"{reason[:1].lower()}{reason[1:]} ({where})"
    option = error.param.param_type_name == "option"
    name = max(error.param.opts, key=len) if option else error.param.metavar or error.param.name.upper()
    if type(error).__name__ == "MissingParameter":
        about = (error.param.help or "").rstrip(".")
        return f"'{command}' needs {name}{f': {about}' if about else ''} ({where})"
    reason = error.message.removeprefix("Value error, ").partition(", unable")[0].rstrip(".")
    if isinstance(error.__cause__, ValidationError) and reason.startswith("Input "):
        given = shlex.quote(str(error.__cause__.errors()[0]["input"]))
        return f"{name} {given} {reason.removeprefix('Input ')} ({where})"
    return f"{name}: {reason} ({where})"


app = typer.Typer(
    name="siamtrack",
    cls=_Commands,
    help="Follow one object, any object, through a video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("track")(track.track)
app.command("track-many")(track_many.track_many)
app.command("demo")(demo.demo)
app.command("eval")(evaluate.evaluate)
app.command("benchmark")(benchmark.benchmark)
app.command("report")(report.report)
app.command("train")(train.train)
app.command("search")(search.search)
app.command("analyze")(analyze.analyze)
app.command("import")(import_results.import_results)
app.command("submit")(submit.submit)
app.command("vot")(vot.vot)
app.command("trax")(vot.serve)
app.command("convert")(convert.convert)
app.command("export")(export.export)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")


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
        app(prog_name="siamtrack")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:  # before there was anything to keep
        sys.exit(130)
    except OSError as error:  # no permission, a full disk, a folder where a file should be
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
