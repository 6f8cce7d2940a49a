"""``midstream import``: a file of events into the log, each row once."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, notify_of, out, print_json, progress, say
from midstream.cli.faults import say_groups
from midstream.core.fault_groups import FaultGroups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from midstream.app.import_columns import ColumnOptions
    from midstream.app.importing import ImportSummary

app = typer.Typer()
RATE_ROWS_MIN = 10_000
Map = Annotated[list[str] | None, typer.Option("--map", help="FIELD=COLUMN, such as user_id=visitor; may be repeated.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE for all rows; may be repeated.")]
Types = Annotated[list[str] | None, typer.Option("--types", help="VALUE=TYPE, such as click=view; may be repeated.")]


@app.command("import")
def command(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV, TSV, NDJSON, Parquet or Arrow.")],
    columns: Map = None,
    constants: Set = None,
    type_name: Annotated[str | None, typer.Option("--type", help="Type of all rows, such as view.")] = None,
    types: Types = None,
    time_format: Annotated[str, typer.Option(help="auto, s, ms, us, ns, iso, or a pattern: %Y-%m-%d.")] = "auto",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Record every row of a file once.

    Run again, it records what is missing and nothing twice.
    """
    more = [f"type={type_name}"] if type_name else []
    options = options_of(columns, [*(constants or []), *more], types, time_format)
    try:
        summary = run_import(folder, file, options)
    except KeyboardInterrupt:
        say("interrupted; what was recorded stays, and the same command goes on from there")
        raise
    if as_json:
        print_json(summary)
    else:
        print_summary(summary)
    if summary.rows == summary.rejected > 0:
        say("no row of the file is an event")
        raise typer.Exit(1)


def options_of(
    columns: list[str] | None, constants: list[str] | None, types: list[str] | None, time_format: str
) -> "ColumnOptions":
    """Return what the options of a command say of a file's columns."""
    from midstream.app.import_columns import ColumnOptions, parse_pairs

    return ColumnOptions(
        parse_pairs(columns or (), "--map"),
        parse_pairs(constants or (), "--set"),
        parse_pairs(types or (), "--types"),
        time_format,
    )


def run_import(folder: Path, file: Path, columns: "ColumnOptions") -> "ImportSummary":
    """Import with a progress bar."""
    from midstream.app.importing import import_file
    from midstream.app.running import config_of
    from midstream.app.type_names import require_types

    config = config_of(folder)
    require_types(config, types_named(columns))
    with progress() as bar:
        return import_file(folder, config, file, columns, notify_of(bar))


def types_named(columns: "ColumnOptions") -> "Iterator[tuple[str, str]]":
    """Yield each option that names a type, and that type."""
    if "type" in columns.constants:
        yield "--type", columns.constants["type"]
    yield from (("--types", name) for name in columns.types.values())


def print_summary(summary: "ImportSummary") -> None:
    """Say what became of the rows."""
    through = f" through {summary.through}" if summary.through else ""
    # Of few rows it would be the rate of the start.
    rate = f" ({summary.recorded / summary.seconds:,.0f}/s)" if summary.recorded >= RATE_ROWS_MIN else ""
    out.print(f"{summary.file}: {summary.recorded:,} recorded{through} in {summary.seconds:.1f} s{rate}")
    if summary.known:
        all_of_it = " Nothing is new in this file." if not summary.recorded else ""
        out.print(f"{summary.known:,} were in the log before and were left out.{all_of_it}")
    if summary.conflicts:
        out.print(f"{summary.conflicts:,} ids were in the log before with other content; the first ones stay.")
    if summary.refused:
        out.print(f"{summary.refused:,} refused: their items are unknown, or there is no room for more.")
    if summary.unused_columns:
        say(f"columns that go nowhere: {', '.join(summary.unused_columns)}; --map FIELD=COLUMN takes one in")
    if summary.late:
        say(f"{summary.late:,} are more than 24 h older than the log's end: a history is best imported first")
    if summary.rejected:
        say(f"{summary.rejected:,} rows rejected, {kept_text(summary)}; the first:")
        say_groups(FaultGroups(summary.faults))
        if any("looks like seconds" in fault.came for fault in summary.faults):
            say("times in seconds are read with --time-format s")


def kept_text(summary: "ImportSummary") -> str:
    """Return which of the rejected rows are kept, and where."""
    where = f"data/{summary.rejected_file}"
    if summary.rejected_kept == summary.rejected:
        return f"all of them in {where}"
    dropped = summary.rejected - summary.rejected_kept
    last = f"the last {summary.rejected_kept:,} of them in {where} and {where}.old"
    return f"{last}, which hold no more: {dropped:,} are not"
