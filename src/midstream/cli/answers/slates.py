"""``midstream slates``: the slates that were served, page by page."""

from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, print_json
from midstream.cli.data.listed import Cursor, Limit, Since, Until, moments, print_rows, say_more, time_text
from midstream.cli.help import CommandHelp, GroupHelp

if TYPE_CHECKING:
    from midstream.core.answers.lists import ListedRequest

app = typer.Typer(
    cls=GroupHelp,
    no_args_is_help=True,
    help="List the slates that were served.",
    epilog="""
    midstream slates list -n 20
    """,
)
User = Annotated[str | None, typer.Option("--user", metavar="ID", help="Slates of this user alone.")]
Placement = Annotated[
    str | None, typer.Option(metavar="NAME", help="Slates of this placement alone, and of its experiments.")
]

_COLUMNS = ("time", "request", "placement", "tier", "user", "items")


@app.command(
    "list",
    cls=CommandHelp,
    epilog="""
    midstream slates list --user u14 --since 1d
      Lists what this user was served in the last day.
    """,
)
def command(
    user: User = None,
    placement: Placement = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """List served slates, the newest first.

    midstream explain REQUEST_ID explains one. Slates of erased users are left out. A server may have the folder open.
    """
    from midstream.app.inspect.list_pages import PageRange, list_slates
    from midstream.app.opening import config_to_read
    from midstream.engine.lists.request_pages import RequestListing

    times = moments(since, until)
    asked = RequestListing(user, placement, *times)
    found = list_slates(folder, config_to_read(folder), asked, PageRange(cursor, limit))
    if as_json:
        print_json(found)
        return
    print_rows(
        ("time", "request", "placement", "tier", "user", "items"), list(map(_row, found.requests)), found.scanned
    )
    say_more(found.next_cursor, *times)


def _row(each: "ListedRequest") -> tuple[object, ...]:
    items = ", ".join(each.items)
    return time_text(each.time), each.request_id, each.placement, each.tier, each.user_id or "", items
