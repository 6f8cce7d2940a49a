"""``midstream features load``: sets values of a feature from a file, each a change of an item or user."""

from pathlib import Path
from typing import Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, print_json
from midstream.cli.data.import_file import TimeFormat, print_summary, run_import
from midstream.cli.help import CommandHelp

app = typer.Typer()


@app.command(
    "load",
    cls=CommandHelp,
    epilog="""
    midstream features load price prices.csv --id sku --value eur --time ""
      Sets the feature price from the columns sku and eur, as of now.
    """,
)
def command(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Feature that reads an attribute of items or a profile field of users."),
    ],
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="CSV, TSV, NDJSON, Parquet or Arrow file."),
    ],
    id_column: Annotated[str, typer.Option("--id", metavar="COLUMN", help="Column of item or user ids.")] = "id",
    value_column: Annotated[str, typer.Option("--value", metavar="COLUMN", help="Column of values.")] = "value",
    time_column: Annotated[
        str, typer.Option("--time", metavar="COLUMN", help='Column of times; "" = the values are as of now.')
    ] = "time",
    time_format: TimeFormat = "auto",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Set values of a feature from a file.

    Each row is recorded once as a change of an item or user. Of several values the one with the newest time holds. A
    server may have the folder open.
    """
    from midstream.app.ingest.feature_values import ValueColumns, load_columns, own_options

    columns = load_columns(folder, name, ValueColumns(id_column, value_column, time_column, time_format))
    with own_options(columns):
        summary = run_import(folder, file, columns)
    print_json(summary) if as_json else print_summary(summary)
    if summary.rows == summary.rejected > 0:
        raise typer.Exit(1)
