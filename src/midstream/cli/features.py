"""``midstream features``: what is declared, and what it was."""

import typer

from midstream.cli import features_as_of

app = typer.Typer(help="Declared features: as they were.")
app.add_typer(features_as_of.app)
