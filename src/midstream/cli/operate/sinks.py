"""``midstream sinks``: shows the sinks of a server, and has one written anew."""

from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, out, print_json, say, table_of
from midstream.cli.help import CommandHelp, GroupHelp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midstream.engine.sinks.sink_group import SinkStatus

app = typer.Typer(
    cls=GroupHelp,
    no_args_is_help=True,
    help="Show and refill the tables of other stores.",
    epilog="""
    midstream sinks show
    midstream sinks backfill users
    """,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the sink, as in [[sinks]].")]


@app.command(
    "show",
    cls=CommandHelp,
    epilog="""
    midstream sinks show
      Lists state, lag and rows of each sink.
    """,
)
def show_command(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Show the sinks of the running server.

    With --json the columns of each table are listed too, with the half-lives of those that fade.
    """
    from midstream.app.operate.sinks import sinks_of

    found = sinks_of(folder)
    if as_json:
        print_json({"sinks": found})
    else:
        print_sinks(found)


@app.command(
    "backfill",
    cls=CommandHelp,
    epilog="""
    midstream sinks backfill users
      Reads every row of the sink anew and writes it.
    """,
)
def backfill_command(name: Name, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Write all rows of a sink anew.

    The running server does it beside its other work, and goes on to follow the log. A sink that waits for an order
    follows from here on.
    """
    from midstream.app.operate.sinks import backfill

    found = backfill(folder, name)
    if as_json:
        print_json(found)
    else:
        print_sinks([found])


def print_sinks(sinks: "Sequence[SinkStatus]") -> None:
    """Print a line for each sink, and its problem below."""
    if not sinks:
        say("no [[sinks]] in midstream.toml")
        return
    columns = ("sink", "store", "table", "state", "lag", "pass", "written", "deleted")
    out.print(table_of(columns, map(_row, sinks)))
    for each in sinks:
        if each.owner:
            say(f"{each.name}: {each.owner} writes it")
        if each.problem:
            say(f"{each.name}: {each.problem}")


def _row(each: "SinkStatus") -> tuple[object, ...]:
    lag = None if each.lag_events < 0 else each.lag_events
    left = f"{each.pass_done:,} of {each.pass_total:,}" if each.pass_done < each.pass_total else "done"
    return each.name, each.store, each.table, each.state, lag, left, each.rows_written, each.rows_deleted
