"""``midstream features``: what is declared, and what it was."""

import typer

from midstream.cli import features_as_of, features_check, features_load, features_now, features_suggest

app = typer.Typer(help="Declared features: what they are, were, and take.")
app.add_typer(features_now.app)
app.add_typer(features_as_of.app)
app.add_typer(features_check.app)
app.add_typer(features_load.app)
app.add_typer(features_suggest.app)
