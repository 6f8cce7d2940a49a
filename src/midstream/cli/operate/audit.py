"""``midstream audit``: who changed what, when and from where."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, out, print_json, say, table_of
from midstream.cli.help import CommandHelp

if TYPE_CHECKING:
    from midstream.core.answers.lists import AuditRow

app = typer.Typer()
Count = Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, max=100_000, help="Changes at most.")]
Who = Annotated[str, typer.Option(metavar="CALLER", help="Changes of this caller alone, such as key:1a2b3c4d.")]
Route = Annotated[str, typer.Option(metavar="ROUTE", help="Changes by this route alone, such as /v1/rebuild.")]


@app.command(
    "audit",
    cls=CommandHelp,
    epilog="""
    midstream audit -n 20
      Prints the last 20 changes, the newest first.
    midstream audit --who cli:ann
    """,
)
def command(
    limit: Count = 50, who: Who = "", route: Route = "", folder: Folder = HERE, as_json: AsJson = False
) -> None:
    """List the changes of a folder: who, when, what, from where.

    They are requests that changed the catalogue, placements, models or the server, and changes of API keys. Events and
    recommendations are not among them.
    """
    from midstream.app.access.audit import audit_of

    found = audit_of(folder, limit, who, route)
    if as_json:
        print_json({"changes": found})
    elif not found:
        say("no change was recorded")
    else:
        columns = ("time", "who", "from", "what", "target")
        out.print(table_of(columns, map(_row, found)))


def _row(each: "AuditRow") -> tuple[object, ...]:
    return _time(each.time), each.who, each.address, f"{each.method} {each.route}", each.target


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1_000, UTC):%Y-%m-%d %H:%M:%S}"
