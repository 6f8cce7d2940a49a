"""``midstream outputs``: shows and moves what a server delivers to brokers."""

from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, UNKNOWN, AsJson, Folder, err, out, print_json, say, table_of
from midstream.cli.help import CommandHelp, GroupHelp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midstream.engine.outbox.output_group import OutputView

app = typer.Typer(
    cls=GroupHelp,
    no_args_is_help=True,
    help="Show and move what a server delivers to brokers.",
    epilog="""
    midstream outputs show
    midstream outputs move slates now
    """,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the output.")]
To = Annotated[str, typer.Argument(metavar="TO", help="A log position, now or beginning.")]


@app.command(
    "show",
    cls=CommandHelp,
    epilog="""
    midstream outputs show
    """,
)
def show(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Print state, position and lag of each output.

    A server must have the folder open.
    """
    from midstream.app.operate.outputs import outputs_of_server

    with err.status("asking"):
        found = outputs_of_server(folder)
    if as_json:
        print_json({"outputs": found})
    else:
        _print(found)


@app.command(
    "move",
    cls=CommandHelp,
    epilog="""
    midstream outputs move slates 1200
      Delivers on from log position 1200.
    """,
)
def move(name: Name, to: To, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Have an output go on from another log position.

    Events between are left out, or delivered again. A server must have the folder open.
    """
    from midstream.app.operate.outputs import move_output

    with err.status("asking"):
        found = move_output(folder, name, int(to) if to.isdecimal() else to)
    if as_json:
        print_json(found)
    else:
        _print([found])


def _print(found: "Sequence[OutputView]") -> None:
    names = ["output", "topic", "records", "state", "log position", "lag"]
    rows = [(each.name, each.topic, each.records, each.state, *_numbers(each)) for each in found]
    out.print(table_of(names, rows))
    for each in found:
        if each.owner:
            say(f"{each.name}: {each.owner} delivers it")
        if each.problem:
            say(each.problem)


def _numbers(each: "OutputView") -> tuple[object, object]:
    """Return position and lag, as far as they are known."""
    position = UNKNOWN if each.log_position is None else each.log_position
    return position, UNKNOWN if each.lag_events < 0 else each.lag_events
