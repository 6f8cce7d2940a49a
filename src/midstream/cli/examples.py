"""``midstream examples``: what was served, what scorers saw of it, and what came of it, as a table to train on."""

from pathlib import Path
from typing import Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, notify_of, print_json, progress, say

app = typer.Typer()
Served = Annotated[str, typer.Argument(help="FROM..TO: which slates, by log position or time; .. for all.")]
Out = Annotated[Path, typer.Option("--out", dir_okay=False, help="Written when whole.")]
Format = Annotated[str | None, typer.Option("--format", help="parquet, arrow or csv; default: by the name of OUT.")]


@app.command("examples")
def command(
    served: Served, out: Out, file_format: Format = None, folder: Folder = HERE, as_json: AsJson = False
) -> None:
    """Write a training example for each position that was served."""
    from midstream.app.examples import write_served_examples

    with progress() as bar:
        summary = write_served_examples(folder, served, out, file_format, notify_of(bar))
    if as_json:
        print_json(summary)
    else:
        say(f"{summary.rows} examples of {summary.served.asked} slates written")
