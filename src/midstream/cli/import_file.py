"""``midstream import``: a file of events into the log, each row once; and runs of it, listed and taken back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, NewFolder, notify_of, out, print_json, progress, say, table_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from midstream.app.import_columns import ColumnOptions
    from midstream.app.importing import ImportSummary

app = typer.Typer()
RATE_ROWS_MIN = 10_000
Map = Annotated[list[str] | None, typer.Option("--map", help="FIELD=COLUMN, such as user_id=visitor; may be repeated.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE for all rows; may be repeated.")]
Types = Annotated[list[str] | None, typer.Option("--types", help="VALUE=TYPE, such as click=view; may be repeated.")]


@app.command("import")
def command(
    file: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="CSV, TSV, NDJSON, Parquet or Arrow.")
    ] = None,
    columns: Map = None,
    constants: Set = None,
    type_name: Annotated[str | None, typer.Option("--type", help="Type of all rows, such as view.")] = None,
    types: Types = None,
    time_format: Annotated[str, typer.Option(help="auto, s, ms, us, ns, iso, or a pattern: %Y-%m-%d.")] = "auto",
    runs: Annotated[bool, typer.Option("--runs", help="List the runs that recorded something.")] = False,
    undo: Annotated[str | None, typer.Option("--undo", metavar="RUN", help="Take a run back.")] = None,
    folder: NewFolder = HERE,
    as_json: AsJson = False,
) -> None:
    """Record every row of a file once.

    Run again, it records what is missing and nothing twice. With --undo the log is written anew without what a run
    recorded, while no server has the folder open.
    """
    if (file is not None) + runs + (undo is not None) != 1:
        message = "name a FILE, or --runs, or --undo RUN: one of the three"
        raise typer.BadParameter(message)
    if file is None:
        show_runs(folder, undo, as_json=as_json)
        return
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
    if summary.conflicts or summary.rows == summary.rejected > 0:
        raise typer.Exit(1)


def show_runs(folder: Path, undo: str | None, *, as_json: bool) -> None:
    """List the runs of a folder, or take one back."""
    from midstream.app.import_undo import list_runs, undo_run
    from midstream.app.running import config_of

    if undo is not None:
        with progress() as bar:
            done = undo_run(folder, config_of(folder), undo, notify_of(bar))
        text = f"{done.run} ({done.file}): {done.removed:,} events taken back in {done.seconds:.1f} s"
        print_json(done) if as_json else out.print(text, markup=False)
        return
    found = list_runs(folder)
    if as_json:
        print_json({"runs": found})
        return
    rows = [(each.run, each.time, each.file, each.recorded, each.state, _told_text(each.mapping)) for each in found]
    out.print(table_of(["run", "began", "file", "recorded", "", "options"], rows))


def _told_text(mapping: "Mapping[str, str]") -> str:
    return " ".join(f"{name}={value}" for name, value in mapping.items())


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

    with progress() as bar:
        return import_file(folder, config_of(folder), file, columns, notify_of(bar))


def print_summary(summary: "ImportSummary") -> None:
    """Say what became of the rows."""
    through = f" through {summary.through}" if summary.through else ""
    # Of few rows it would be the rate of the start.
    rate = f" ({summary.recorded / summary.seconds:,.0f}/s)" if summary.recorded >= RATE_ROWS_MIN else ""
    out.print(f"{summary.file}: {summary.recorded:,} recorded{through} in {summary.seconds:.1f} s{rate}")
    if summary.run:
        out.print(f"run {summary.run}: midstream import --undo {summary.run} takes it back", markup=False)
    if summary.known:
        all_of_it = " Nothing is new in this file." if not summary.recorded else ""
        out.print(f"{summary.known:,} were in the log before and were left out.{all_of_it}")
    if summary.known_untimed:
        say(
            f"{summary.known_untimed:,} of them have no time, so their content alone says that they were there: a "
            "later act of the same content needs a time, or an event_id of its own"
        )
    if summary.conflicts:
        say(f"{summary.conflicts:,} rows were NOT recorded: their event_id has other content already; the first:")
        for fault in summary.conflict_faults:
            say(str(fault))
    if summary.refused:
        out.print(f"{summary.refused:,} refused: their items are unknown, or there is no room for more.")
    if summary.unused_columns:
        say(f"columns that go nowhere: {', '.join(summary.unused_columns)}; --map FIELD=COLUMN takes one in")
    if summary.late:
        say(f"{summary.late:,} are more than 24 h older than the log's end: a history is best imported first")
    if summary.rejected:
        say(f"{summary.rejected:,} rows rejected, {kept_text(summary)}; the first:")
        for fault in summary.faults:
            say(str(fault))
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
