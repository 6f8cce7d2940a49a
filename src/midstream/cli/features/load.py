"""``midstream features load``: values of a feature from a file, each a change of the item or user that has it."""

from pathlib import Path
from typing import Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, print_json
from midstream.cli.data.import_file import print_summary, run_import

app = typer.Typer()


@app.command("load")
def command(
    name: Annotated[str, typer.Argument(help="Of a declared feature that reads an attribute or a profile field.")],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV, TSV, NDJSON, Parquet or Arrow.")],
    id_column: Annotated[str, typer.Option("--id", help="Column of ids of items or users.")] = "id",
    value_column: Annotated[str, typer.Option("--value", help="Column of values.")] = "value",
    time_column: Annotated[str, typer.Option("--time", help='Column of times; "" = the values are of now.')] = "time",
    time_format: Annotated[str, typer.Option(help="auto, s, ms, us, ns, iso, or a pattern: %Y-%m-%d.")] = "auto",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Set values of a feature from a file, each row once; the newest time wins."""
    from midstream.app.ingest.feature_values import ValueColumns, load_columns, own_options

    columns = load_columns(folder, name, ValueColumns(id_column, value_column, time_column, time_format))
    with own_options(columns):
        summary = run_import(folder, file, columns)
    print_json(summary) if as_json else print_summary(summary)
    if summary.rows == summary.rejected > 0:
        raise typer.Exit(1)
