"""``midstream features``: what is declared, and what it was."""

import typer

from midstream.cli.features import as_of, check, load, now, suggest

app = typer.Typer(help="Declared features: what they are, were, and take.")
app.add_typer(now.app)
app.add_typer(as_of.app)
app.add_typer(check.app)
app.add_typer(load.app)
app.add_typer(suggest.app)
