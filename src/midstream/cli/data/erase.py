"""``midstream erase``: users are forgotten."""

from typing import Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, err, out, print_json, table_of

app = typer.Typer()


@app.command("erase")
def command(
    users: Annotated[list[str] | None, typer.Argument(help="Ids of users.", metavar="USER...")] = None,
    now: Annotated[bool, typer.Option("--now", help="Write the log anew at once, and wait for it.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Forget users, at once in all that is asked and within days in every file; with --now there at once too.

    Each with every id that was merged into it. Through the server that has the folder open, if there is one.
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
