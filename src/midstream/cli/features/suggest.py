"""``midstream features suggest``: derives declarations from the log and the catalogue."""

import typer

from midstream.cli.console import HERE, Folder, out
from midstream.cli.help import CommandHelp

app = typer.Typer()


@app.command(
    "suggest",
    cls=CommandHelp,
    epilog="""
    midstream features suggest > suggested.toml
      Writes declarations to review and to append to midstream.toml.
    """,
)
def command(folder: Folder = HERE) -> None:
    """Suggest declarations of features for midstream.toml.

    The suggestions follow from the events and items of the folder, each with its reason. Nothing is changed.
    """
    from midstream.app.opening import config_of
    from midstream.app.operate.feature_suggestions import suggest

    out.print(suggest(folder, config_of(folder)), markup=False, end="")
