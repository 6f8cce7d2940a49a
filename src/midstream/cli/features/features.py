"""``midstream features``: group of the commands about features."""

import typer

from midstream.cli.features import as_of, check, load, now, suggest
from midstream.cli.help import GroupHelp

app = typer.Typer(
    cls=GroupHelp,
    help="List, compute, check and load features.",
    epilog="""
    midstream features list
    midstream features as-of --served 7d.. --out slates.parquet
    """,
)
app.add_typer(now.app)
app.add_typer(as_of.app)
app.add_typer(check.app)
app.add_typer(load.app)
app.add_typer(suggest.app)
