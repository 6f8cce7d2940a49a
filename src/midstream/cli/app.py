"""The program: its commands, and how a failure leaves it.

Exit status 0: done. 1: an expected failure, printed as where, what came, what would be right, page. 2: wrong use.
Anything else that is raised is a bug and ends with its traceback.
"""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from midstream.cli import (
    backup,
    bench,
    check,
    dead_letters,
    demo,
    doctor,
    erase,
    evaluate,
    examples,
    explain,
    export,
    features,
    import_file,
    init,
    models,
    placements,
    rebuild,
    recommend,
    report,
    seal,
    serve,
    simulate,
    size,
    train,
)
from midstream.cli.console import out, say
from midstream.core.errors import Invalid, MidstreamError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    init,
    serve,
    import_file,
    export,
    examples,
    recommend,
    explain,
    check,
    erase,
    train,
    rebuild,
    seal,
    backup,
    size,
    report,
    doctor,
    bench,
    simulate,
    demo,
):
    app.add_typer(command.app)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(features.app, name="features")
app.add_typer(models.app, name="models")
app.add_typer(placements.app, name="placements")
app.add_typer(dead_letters.app, name="dead-letters")


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"midstream {version('midstream')}", markup=False)
        raise typer.Exit


@app.callback()
def program(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """A real-time recommendation engine: the next request sees the last click."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status.

    Args:
        arguments: Without the program's name; None = those of the process.
    """
    try:
        app(args=arguments, prog_name="midstream")
    except (MidstreamError, OSError) as error:
        # What the machine refuses (a port in use, a file that may not be read) is as expected as what we refuse.
        say(_said(error))
        sys.exit(1)


def _said(error: MidstreamError | OSError) -> str:
    """Return an error in words: what the machine says of which file, the faults of what is invalid, else the kind."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) if isinstance(error, Invalid) else f"{type(error).__name__}: {error}"
