"""``midstream training``: what is trained by itself, what was decided on it and why, and a training now."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, err, out, print_json, say, table_of
from midstream.cli.help import CommandHelp, GroupHelp

if TYPE_CHECKING:
    from midstream.engine.trainings.views import TrainingView
    from midstream.training.decisions import TrainingDecision

app = typer.Typer(
    cls=GroupHelp,
    help="Show and order trainings that the server makes by itself.",
    epilog="""
    midstream training list
    midstream training history taste
    """,
)
Model = Annotated[str, typer.Argument(metavar="NAME", help="Name of a model in [[trainings]].")]
AnyModel = Annotated[str, typer.Argument(metavar="[NAME]", help="Name of a model; none = all.", show_default=False)]


@app.command(
    "list",
    cls=CommandHelp,
    epilog="""
    midstream training list
    """,
)
def list_(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List what is trained next, and the last decisions."""
    from midstream.app.opening import config_of
    from midstream.app.operate.trainings import list_trainings

    with err.status("reading"):
        found = list_trainings(folder, config_of(folder))
    if as_json:
        print_json({"trainings": found})
        return
    out.print(table_of(["model", "state", "next", "champion", "last decision"], [_row(each) for each in found]))


@app.command(
    "history",
    cls=CommandHelp,
    epilog="""
    midstream training history taste
      Prints each decision with its reason, the newest first.
    midstream training history taste --json
      With the figure and the bound of each gate.
    """,
)
def history(name: AnyModel = "", folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Print the decisions that are kept, the newest first."""
    from midstream.app.opening import config_of
    from midstream.app.operate.trainings import show_history

    with err.status("reading"):
        found = show_history(folder, config_of(folder), name)
    if as_json:
        print_json({"decisions": found})
        return
    if not found:
        say("no decision is kept" + (f" of {name}" if name else ""))
    for each in found:
        _print_decision(each)


@app.command(
    "run",
    cls=CommandHelp,
    epilog="""
    midstream training run taste
    """,
)
def run(name: Model, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Train a model now, as [[trainings]] says.

    A server that has the folder open trains it as soon as no other is. Else this command does.
    """
    from midstream.app.opening import config_of
    from midstream.app.training.by_hand import run_training

    with err.status("training"):
        found = run_training(folder, config_of(folder), name)
    if as_json:
        print_json(found)
    elif found.state in {"queued", "training"}:
        say(f"{found.model}: {found.state}; midstream training history {found.model} says what becomes of it")
    elif found.last is not None:
        _print_decision(found.last)


def _row(view: "TrainingView") -> list[str]:
    """Return one row of the list."""
    due = "" if view.next_ms is None else _time(view.next_ms)
    if view.events_left is not None:
        due = f"{due} {view.events_left:,} events left".strip()
    last = "" if view.last is None else f"{view.last.action} {view.last.candidate} {_time(view.last.at_ms)}"
    return [view.model, view.state, due, view.champion or "none", last]


def _print_decision(decision: "TrainingDecision") -> None:
    """Print a decision, and its gates below it."""
    version = decision.candidate or "-"
    say(f"{_time(decision.at_ms)}  {decision.model} {version}  {decision.action}: {decision.reason}")
    for each in decision.gates:
        say(f"    {each}")


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1_000, UTC):%Y-%m-%d %H:%M}"
