"""``midstream events``: the events of one user, page by page."""

from collections.abc import Mapping
from typing import Annotated, cast

import typer

from midstream.cli.console import HERE, AsJson, Folder, print_json
from midstream.cli.data.listed import Cursor, Limit, Since, Until, json_text, moments, print_rows, say_more, time_text
from midstream.cli.help import CommandHelp, GroupHelp

app = typer.Typer(
    cls=GroupHelp,
    no_args_is_help=True,
    help="List the events of a user.",
    epilog="""
    midstream events list u14
    """,
)
User = Annotated[str, typer.Argument(metavar="USER", help="Id of the user, or one that was merged into it.")]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="TYPE", help="An interaction, impression, or user for profiles; repeatable."),
]
_IN_COLUMNS = {"log_time", "type", "item_id", "user_id"}


@app.command(
    "list",
    cls=CommandHelp,
    epilog="""
    midstream events list u14 --type purchase --since 30d
      Lists what this user bought in the last 30 days.
    """,
)
def command(
    user: User,
    types: Types = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """List the events of a user, the newest first.

    Without --type interactions and impressions are listed. A server may have the folder open.
    """
    from midstream.app.inspect.list_pages import PageRange, list_events
    from midstream.app.opening import config_to_read
    from midstream.engine.lists.event_pages import EventListing

    times = moments(since, until)
    asked = EventListing(user, tuple(types or ()), *times)
    found = list_events(folder, config_to_read(folder), asked, PageRange(cursor, limit))
    if as_json:
        print_json(found)
        return
    print_rows(("time", "type", "item", "more"), list(map(_row, found.events)), found.scanned)
    say_more(found.next_cursor, *times)


def _row(event: Mapping[str, object]) -> tuple[object, ...]:
    more = {name: value for name, value in event.items() if name not in _IN_COLUMNS}
    return time_text(cast("int", event["log_time"])), event["type"], event.get("item_id"), json_text(more)
