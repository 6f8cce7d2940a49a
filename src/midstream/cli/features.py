"""``midstream features``: what is declared, and what it was."""

import typer

from midstream.cli import features_as_of, features_load

app = typer.Typer(help="Declared features: as they were.")
app.add_typer(features_as_of.app)
app.add_typer(features_load.app)
