"""``midstream features suggest``: first declarations, from what the log and the catalogue hold."""

import typer

from midstream.cli.console import HERE, Folder, out

app = typer.Typer()


@app.command("suggest")
def command(folder: Folder = HERE) -> None:
    """Print declarations of features for midstream.toml, each with the reason for it."""
    from midstream.app.opening import config_of
    from midstream.app.operate.feature_suggestions import suggest

    out.print(suggest(folder, config_of(folder)), markup=False, highlight=False, soft_wrap=True, end="")
