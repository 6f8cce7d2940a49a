"""``midstream keys``: makes, lists, rotates and revokes the API keys of a folder."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, out, print_json, say, table_of
from midstream.cli.help import CommandHelp, GroupHelp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from midstream.serving.access.api_keys import MadeKey
    from midstream.serving.access.key_views import KeyView

app = typer.Typer(
    cls=GroupHelp,
    no_args_is_help=True,
    help="Make, list, rotate and revoke API keys.",
    epilog="""
    midstream keys create shop-backend --scope events:write --scope recommend
    midstream keys list
    """,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the key.")]
NameOrId = Annotated[str, typer.Argument(metavar="NAME", help="Name or id of the key.")]
Scopes = Annotated[
    list[str],
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="What it may do: events:write, recommend, recommend:PLACEMENT, catalogue, placements, models, read, "
        "erase or admin; repeat it for several.",
    ),
]
Expires = Annotated[
    str, typer.Option(metavar="DURATION", help="How long it is valid, such as 90d; without it, always.")
]
Browser = Annotated[bool, typer.Option("--browser", help="Make a public key for web pages, with a secret for tokens.")]
Origins = Annotated[
    list[str] | None,
    typer.Option("--origin", metavar="ORIGIN", help="Pages that may use it, such as https://shop.example; repeatable."),
]
Grace = Annotated[str, typer.Option(metavar="DURATION", help="How long the old key stays valid; 0s: not at all.")]
Quota = Annotated[str, typer.Option(metavar="RATE", help="Requests a second, such as 100/s; and at once: 100/s:500.")]


@app.command(
    "create",
    cls=CommandHelp,
    epilog="""
    midstream keys create shop-backend --scope events:write --scope recommend
      Prints the key, once; from now on every route needs one.
    midstream keys create page --scope recommend --browser --origin https://a.b
    """,
)
def create_command(
    name: Name,
    scope: Scopes,
    expires: Expires = "",
    quota: Quota = "",
    browser: Browser = False,
    origin: Origins = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it once.

    Only its hash is kept. A running server accepts it within a second. Once a folder has a key, every route but health
    needs one.
    """
    from midstream.app.access.key_wishes import browser_origins, key_wish
    from midstream.app.access.keys import create_key

    origins = browser_origins(tuple(origin or ()), is_browser=browser)
    print_made(create_key(folder, key_wish(name, tuple(scope), expires, quota, origins)), as_json=as_json)


@app.command(
    "list",
    cls=CommandHelp,
    epilog="""
    midstream keys list
      Shows id, scopes and state of each key.
    """,
)
def list_command(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the keys without their secrets."""
    from midstream.app.access.keys import keys_of

    found = keys_of(folder)
    if as_json:
        print_json({"keys": found})
    else:
        print_keys(found)


@app.command(
    "rotate",
    cls=CommandHelp,
    epilog="""
    midstream keys rotate shop-backend
      Prints a new key; the old one is valid for another day.
    midstream keys rotate shop-backend --grace 1h
    """,
)
def rotate_command(name: NameOrId, grace: Grace = "24h", folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Make a new key in place of one, and end the old one later.

    The new key has the scopes, the quota and the life of the old one. Both are valid until the grace is over.
    """
    from midstream.app.access.key_wishes import read_grace
    from midstream.app.access.keys import rotate_key

    print_made(rotate_key(folder, name, read_grace(grace)), as_json=as_json)


@app.command(
    "revoke",
    cls=CommandHelp,
    epilog="""
    midstream keys revoke shop-backend
    """,
)
def revoke_command(name: NameOrId, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Revoke a key, or all keys of a name.

    A running server refuses it within a second. A revoked key stays in the list.
    """
    from midstream.app.access.keys import revoke_key

    found = revoke_key(folder, name)
    if as_json:
        print_json({"keys": found})
    else:
        print_keys(found)


def print_made(made: "MadeKey", *, as_json: bool) -> None:
    """Print a new key on standard output, and what to know of it on standard error."""
    if as_json:
        print_json({"key": made.key, "id": made.stored.id, "user_secret": made.user_secret})
        return
    out.print(made.key, markup=False)
    if made.user_secret:
        out.print(made.user_secret, markup=False)
        say("the second line is the secret under which the shop's server signs tokens of users")
    say(f"key {made.stored.id} ({made.stored.name}) with {', '.join(made.stored.scopes)}; it is not shown again")


def print_keys(keys: "Sequence[KeyView]") -> None:
    """Print a line for each key."""
    if not keys:
        say("no key was made: the server asks for none, and listens on loopback alone")
        return
    columns = ("id", "name", "state", "scopes", "made", "by", "expires", "last used")
    out.print(table_of(columns, map(_row, keys)))


def _row(each: "KeyView") -> tuple[object, ...]:
    made, expires, last_used = map(_day, (each.created_ms, each.expires_ms, each.last_used_ms))
    return each.id, each.name, each.state, ", ".join(each.scopes), made, each.created_by, expires, last_used


def _day(ms: int) -> str | None:
    return f"{datetime.fromtimestamp(ms / 1_000, UTC):%Y-%m-%d %H:%M}" if ms else None
