"""``midstream users``: the users of a folder, page by page."""

from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, print_json
from midstream.cli.data.listed import (
    Cursor,
    Fields,
    Limit,
    attribute_cells,
    attribute_columns,
    print_rows,
    say_more,
    time_text,
)
from midstream.cli.help import CommandHelp, GroupHelp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midstream.core.answers.lists import UserPage

app = typer.Typer(
    cls=GroupHelp,
    no_args_is_help=True,
    help="List the users of a folder.",
    epilog="""
    midstream users list -n 20
    """,
)
Filter = Annotated[
    str | None,
    typer.Option("--filter", metavar="TEXT", help='Condition on profiles, such as user.country == "de".'),
]


@app.command(
    "list",
    cls=CommandHelp,
    epilog="""
    midstream users list --filter 'user.country == "de"' --field country
    """,
)
def command(
    user_filter: Filter = None,
    fields: Fields = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """List users, the one seen last first.

    Erased, deleted and evicted users are left out. A server may have the folder open.
    """
    from midstream.app.inspect.list_pages import PageRange, list_users
    from midstream.app.opening import config_to_read
    from midstream.engine.lists.user_pages import UserListing

    asked = UserListing(user_filter, tuple(fields) if fields else None)
    found = list_users(folder, config_to_read(folder), asked, PageRange(cursor, limit))
    print_json(found) if as_json else _print_users(found, fields)


def _print_users(found: "UserPage", fields: "Sequence[str] | None") -> None:
    rows = [
        (
            each.user_id,
            time_text(each.first_seen),
            time_text(each.last_seen),
            ", ".join(f"{name} {count}" for name, count in each.counts.items() if count),
            *attribute_cells(each.attributes, fields),
        )
        for each in found.users
    ]
    print_rows(("user", "first seen", "last seen", "acts", *attribute_columns(fields)), rows, found.scanned)
    say_more(found.next_cursor)
