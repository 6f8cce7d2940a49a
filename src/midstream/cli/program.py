"""Frame of the command-line program: its name and version, its own help, and the exit status of failures.

Exit status 0: done. 1: an expected failure. 2: wrong use, or an invalid configuration. 130: Ctrl-C. ``cli.faults``
prints a failure: where, what came, what would be right, page. Any other exception is a bug and ends with its traceback.
"""

import gc
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from midstream.cli.console import out
from midstream.cli.faults import DONE, USAGE_ERROR, say_error, status_of
from midstream.cli.help import ProgramHelp
from midstream.core.errors import MidstreamError

GC_ALLOCATIONS = 50_000
"""New containers between two looks for cycles: what a command imports is looked through 2 times instead of 200, a tenth
of its time. A server has its own number."""


def framed() -> typer.Typer:
    """Return the program without a command."""
    app = typer.Typer(
        cls=ProgramHelp,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback(
        epilog="""
    midstream init shop
    midstream import shop/example.ndjson --folder shop
    midstream serve --folder shop
    """
    )(program)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        out.print(f"midstream {version('midstream')}", markup=False)
        raise typer.Exit


def program(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A real-time recommendation engine: the next request sees the last click.

    See midstream COMMAND --help for the options and examples of a command.
    """


def _command_of(arguments: Sequence[str]) -> str:
    """Return which command was called, for whoever reads what it said."""
    name = next((each for each in arguments if not each.startswith("-")), "")
    return f"midstream {name}".rstrip()


def run(app: typer.Typer, arguments: Sequence[str] | None) -> NoReturn:
    """Run one command and exit with its status.

    Args:
        app: The program, with that command.
        arguments: Without the program's name; None = those of the process.
    """
    if arguments is None:
        gc.set_threshold(GC_ALLOCATIONS)
    try:
        status: object = app(args=arguments, prog_name="midstream", standalone_mode=False)
    except (MidstreamError, OSError, USAGE_ERROR) as error:
        # What the machine refuses (a port in use, a file that may not be read) is as expected as what we refuse.
        say_error(error, _command_of(sys.argv[1:] if arguments is None else arguments))
        sys.exit(status_of(error))
    sys.exit(status if isinstance(status, int) else DONE)
