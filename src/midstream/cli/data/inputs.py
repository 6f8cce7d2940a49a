"""``midstream inputs``: state and positions of inputs from brokers, and an operator's word where one reads on."""

from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, err, out, print_json, say, table_of
from midstream.cli.help import CommandHelp, GroupHelp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midstream.engine.types import InputView

app = typer.Typer(
    cls=GroupHelp,
    no_args_is_help=True,
    help="Show and move positions of inputs from brokers.",
    epilog="""
    midstream inputs show
    midstream inputs move clicks 0=42
    """,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the input, as in [[inputs]].")]
Positions = Annotated[
    list[str],
    typer.Argument(metavar="POSITION", help="PARTITION=POSITION for each that moves; or earliest, latest or a time."),
]


@app.command("show", cls=CommandHelp, epilog="\n    midstream inputs show\n    midstream inputs show --json\n")
def command(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Print state, position and lag of each partition.

    A server that has the folder open is asked. Without one the positions of the log are printed, and no lag.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.inputs import inputs_of

    found = inputs_of(folder, config_of(folder))
    print_json({"inputs": found}) if as_json else print_inputs(found)


@app.command(
    "move",
    cls=CommandHelp,
    epilog="""
    midstream inputs move clicks 0=42 1=40
    midstream inputs move clicks earliest
      Reads the whole topic again; events whose ids are remembered are left out.
    """,
)
def move_command(name: Name, positions: Positions, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Have an input read on from other positions.

    The move is durable when the command ends. What lies between is left out, or read again. The broker is asked first,
    and a position that it does not have is refused. A server may have the folder open.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.inputs import move_input

    where = positions_of(positions)
    with err.status("asking the broker"):
        moved = move_input(folder, config_of(folder), name, where)
    print_json(moved) if as_json else print_inputs((moved,))


def positions_of(texts: "Sequence[str]") -> dict[str, str] | str:
    """Return positions by partition, or the one place for all partitions."""
    from midstream.app.config.broker_inputs import start_text

    if len(texts) == 1 and "=" not in texts[0] and (start := start_text(texts[0])):
        return start
    found: dict[str, str] = {}
    for each in texts:
        partition, _, position = each.partition("=")
        found[partition] = position
    if len(found) < len(texts) or not all(found) or not all(found.values()):
        message = "PARTITION=POSITION for each that moves, each once; or one of earliest, latest or a time alone"
        raise typer.BadParameter(message, param_hint="POSITION")
    return found


def print_inputs(views: "Sequence[InputView]") -> None:
    """Print a line for each partition, then what needs attention."""
    rows: list[Sequence[object]] = [
        [view.name, view.topic, view.state, each.partition, each.position, "–" if each.lag is None else each.lag]
        for view in views
        for each in view.partitions
    ]
    rows += [[view.name, view.topic, view.state, "–", "–", "–"] for view in views if not view.partitions]
    out.print(table_of(["input", "topic", "state", "partition", "position", "lag"], rows))
    for view in views:
        if view.owner:
            say(f"{view.name}: {view.owner} reads it")
        if view.problem:
            say(f"{view.name}: {view.problem}")
    if not views:
        say("midstream.toml has no [[inputs]], and the log has no positions; midstream docs inputs says how to begin")
