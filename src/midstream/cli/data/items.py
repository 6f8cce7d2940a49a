"""``midstream items``: the items of a folder, page by page."""

from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, print_json
from midstream.cli.data.listed import Cursor, Fields, Limit, attribute_cells, attribute_columns, print_rows, say_more
from midstream.cli.help import CommandHelp, GroupHelp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midstream.core.answers.lists import ItemPage

app = typer.Typer(
    cls=GroupHelp,
    no_args_is_help=True,
    help="List the items of a folder.",
    epilog="""
    midstream items list -n 20
    """,
)
Filter = Annotated[
    str | None, typer.Option("--filter", metavar="TEXT", help="Condition on items, such as item.price < 50.")
]

_YES = ("no", "yes")


@app.command(
    "list",
    cls=CommandHelp,
    epilog="""
    midstream items list --filter "item.price < 50" --field price
      Lists the items below this price, with a column of prices.
    """,
)
def command(
    item_filter: Filter = None,
    fields: Fields = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """List items, in the order in which they became known.

    Deleted items are left out. A server may have the folder open.
    """
    from midstream.app.inspect.list_pages import PageRange, list_items
    from midstream.app.opening import config_to_read
    from midstream.engine.lists.item_pages import ItemListing

    asked = ItemListing(item_filter, tuple(fields) if fields else None)
    found = list_items(folder, config_to_read(folder), asked, PageRange(cursor, limit))
    print_json(found) if as_json else _print_items(found, fields)


def _print_items(found: "ItemPage", fields: "Sequence[str] | None") -> None:
    rows = [
        (each.item_id, _YES[each.available], _YES[each.in_catalogue], *attribute_cells(each.attributes, fields))
        for each in found.items
    ]
    print_rows(("item", "available", "in catalogue", *attribute_columns(fields)), rows, found.scanned)
    say_more(found.next_cursor)
