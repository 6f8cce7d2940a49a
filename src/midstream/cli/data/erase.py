"""``midstream erase``: erases users."""

from typing import Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, err, out, print_json, table_of
from midstream.cli.help import CommandHelp

app = typer.Typer()


@app.command(
    "erase",
    cls=CommandHelp,
    epilog="""
    midstream erase u14
      Prints by when the user is gone from every file.
    midstream erase u14 u15 --now
    """,
)
def command(
    users: Annotated[list[str] | None, typer.Argument(metavar="USER", help="Ids of the users to erase.")] = None,
    now: Annotated[bool, typer.Option("--now", help="Rewrite the log at once, for all erased users.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Erase users and their personal data.

    An erased user is unknown to recommendations and lookups at once, under every id that was merged into it. The user
    is gone from all files within [users] erase_days_max days, or with --now when the command ends. Counts that name no
    user stay. A server may have the folder open.
    """
    if not users and not now:
        message = "name a user, or let --now do what waits"
        raise typer.BadParameter(message)
    from midstream.app.opening import config_of
    from midstream.app.operate.erase import erase_users

    with err.status("erasing; the first time on a machine this compiles for about a minute"):
        erased = erase_users(folder, config_of(folder), users or (), now=now)
    if as_json:
        print_json({"erased": erased})
    else:
        rows = [(each.user_id, each.ids_count, each.erase_by) for each in erased]
        out.print(table_of(["user", "ids", "gone from every file by"], rows))
