"""``midstream erase``: users are forgotten."""

from typing import Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, err, out, print_json, table_of

app = typer.Typer()


@app.command("erase")
def command(
    users: Annotated[list[str], typer.Argument(help="Ids of users.", metavar="USER...")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Forget users, at once in all that is asked and within days in every file.

    Each with every id that was merged into it. Through the server that has the folder open, if there is one.
    """
    from midstream.app.erasing import erase_users
    from midstream.app.running import config_of

    with err.status("erasing; the first time on a machine this compiles for about a minute"):
        erased = erase_users(folder, config_of(folder), users)
    if as_json:
        print_json({"erased": erased})
    else:
        rows = [(each.user_id, each.ids_count, each.erase_by) for each in erased]
        out.print(table_of(["user", "ids", "gone from every file by"], rows))
