"""``midstream consume``: reads the inputs of a folder, or follows the server that does."""

from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, out, print_json, say
from midstream.cli.help import CommandHelp
from midstream.cli.progress import notify_of, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from midstream.app.operate.consume import Consumed
    from midstream.engine.types import InputView

app = typer.Typer()
Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Names of inputs; all without any.")]
UntilEnd = Annotated[bool, typer.Option("--until-end", help="Stop when all that the topics have is read.")]


@app.command(
    "consume",
    cls=CommandHelp,
    epilog="""
    midstream consume --until-end
    midstream consume clicks --folder shop
      Reads one input until Ctrl-C.
    """,
)
def command(names: Names = None, until_end: UntilEnd = False, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Read inputs from brokers into the log, without a server.

    A server that has the folder open reads them itself: then its progress is shown. The command ends with Ctrl-C, or
    with --until-end. The next run, or the server, goes on from there. The exit status is 1 when --until-end did not
    reach an end.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.consume import ConsumeOptions, consume

    options = ConsumeOptions(tuple(names or ()), until_end)
    with progress() as bar:
        notify = notify_of(bar)
        done = consume(folder, config_of(folder), options, _told(notify), notify)
    print_json(done) if as_json else print_consumed(done)
    raise typer.Exit(1 if until_end and not done.at_end else 0)


def _told(notify: "Callable[[str, int, int], None]") -> "Callable[[Sequence[InputView]], None]":
    """Return what shows events that came and messages that are left."""

    def tell(views: "Sequence[InputView]") -> None:
        events, lag = sum(each.events for each in views), sum(each.lag for each in views)
        notify(f"reading {', '.join(each.name for each in views)}", events, events + lag)

    return tell


def print_consumed(done: "Consumed") -> None:
    """Print the totals of a run, and what needs attention."""
    if done.server:
        say(f"{done.server} has the folder open and reads the inputs: its progress was followed")
    for each in done.inputs:
        rate = f" ({each.events / done.seconds:,.0f}/s)" if done.seconds >= 1 else ""
        left = f"; {each.lag:,} messages are left" if each.lag else ""
        rejected = f"; {each.rejected:,} dead letters" if each.rejected else ""
        out.print(f"{each.name}: {each.events:,} events in {done.seconds:.1f} s{rate}{rejected}{left}", markup=False)
        if each.problem:
            say(f"{each.name}: {each.problem}")
    out.print(f"log position {done.log_position}", markup=False)
