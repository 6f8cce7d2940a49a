"""``midstream import``: records a file of events or a table of items or users, each row once; lists and undoes runs."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midstream.cli.console import HERE, AsJson, Folder, out, print_json, say
from midstream.cli.faults import fault_text, groups_text
from midstream.cli.help import CommandHelp
from midstream.cli.progress import notify_of, progress

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from midstream.app.ingest.import_file import ImportSummary
    from midstream.app.mapping.columns import ColumnOptions
    from midstream.core.fault_groups import FaultGroup

app = typer.Typer()
ADDRESSES = ("postgresql://", "postgres://")
RATE_ROWS_MIN = 10_000
STARTING_TOLD_S = 10.0
"""A start of so many seconds is told apart from the import: it compiled, and does not the next time."""
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="FIELD=COLUMN", help="Read an event field from a column, such as user_id=visitor; repeatable."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Set an event field in all rows, such as type=view; repeatable."),
]
Types = Annotated[
    list[str] | None,
    typer.Option(
        "--types",
        metavar="VALUE=TYPE",
        help="Translate an event type, such as buy=purchase; repeatable.",
    ),
]
TimeFormat = Annotated[
    str,
    typer.Option(metavar="FORMAT", help="Format of times: auto, s, ms, us, ns, iso, or a pattern such as %Y-%m-%d."),
]


def is_address(source: str) -> bool:
    """Return whether a source of rows is a database, and no file."""
    return source.startswith(ADDRESSES)


def source_of(source: str | None) -> str | None:
    """Return a source of rows: the address of a database, or a file, which has to be there."""
    if source is None or is_address(source) or Path(source).is_file():
        return source
    what = "is a directory" if Path(source).is_dir() else "does not exist"
    message = f"File '{source}' {what}."
    raise typer.BadParameter(message)


@app.command(
    "import",
    cls=CommandHelp,
    epilog="""
    midstream import example.ndjson
    midstream import clicks.csv --type view --map user_id=visitor
      Records each row as a view, with the user id of the column visitor.
    midstream import postgresql://db/shop --table products --key sku
      Records each row of a table as an item; --map names its attributes.
    """,
)
def command(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            callback=source_of,
            help="CSV, TSV, NDJSON, Parquet or Arrow file, or postgresql://HOST/DATABASE.",
        ),
    ] = None,
    table: Annotated[
        str, typer.Option(metavar="TABLE", help="Table or view of the database, such as public.products.")
    ] = "",
    query: Annotated[str, typer.Option(metavar="SELECT", help="Query whose rows are read, in place of a table.")] = "",
    key: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column of a table or query with the ids of items or users.")
    ] = "",
    columns: Map = None,
    constants: Set = None,
    type_name: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Event type of all rows, such as view.")
    ] = None,
    types: Types = None,
    time_format: TimeFormat = "auto",
    runs: Annotated[bool, typer.Option("--runs", help="List the import runs that recorded events.")] = False,
    undo: Annotated[
        str | None, typer.Option("--undo", metavar="RUN", help="Remove the events that one run recorded.")
    ] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Record the rows of a file or table as events, each row once.

    Another import of the same rows records only those that are missing. A server may have the folder open, except
    with --undo, which rewrites the log without the events of a run.
    """
    if (file is not None) + runs + (undo is not None) != 1:
        message = "name a FILE, or --runs, or --undo RUN: one of the three"
        raise typer.BadParameter(message)
    options = options_of(columns, _constants(constants, type_name), types, time_format)
    if file is None:
        _require_no_file(columns, constants, type_name, types, time_format != "auto", table, query, key)
        show_runs(folder, undo, as_json=as_json)
        return
    summary = record_rows(folder, (file, table, query, key), options)
    print_json(summary) if as_json else print_summary(summary)
    if summary.conflicts or summary.rows == summary.rejected > 0:
        raise typer.Exit(1)


def _require_no_file(*asked: object) -> None:
    """Refuse options that say how a file is read."""
    if any(asked):
        message = "--map, --set, --type, --types and --time-format say how a FILE is read, and here is none"
        raise typer.BadParameter(message)


def _constants(constants: list[str] | None, type_name: str | None) -> list[str]:
    """Return the constants of all rows, with the type of ``--type``."""
    found = constants or []
    if not type_name:
        return found
    if any(each.partition("=")[0].strip() == "type" for each in found):
        message = "both name the type of all rows: one of the two"
        raise typer.BadParameter(message, param_hint="--type, --set type")
    return [*found, f"type={type_name}"]


def record_rows(folder: Path, source: tuple[str, str, str, str], columns: "ColumnOptions") -> "ImportSummary":
    """Import a file, or what is named by address, table, query and key."""
    if is_address(source[0]):
        return record_table(folder, source, columns)
    if any(source[1:]):
        message = "--table, --query and --key say what is read of postgresql://…, and here is a file"
        raise typer.BadParameter(message)
    return record_file(folder, Path(source[0]), columns)


def record_file(folder: Path, file: Path, columns: "ColumnOptions") -> "ImportSummary":
    """Import a file."""
    with _told_interruption():
        return run_import(folder, file, columns)


def record_table(folder: Path, source: tuple[str, str, str, str], columns: "ColumnOptions") -> "ImportSummary":
    """Import a table or query, named by address, table, query and key."""
    from midstream.app.ingest.import_table import TableOptions, import_table
    from midstream.app.ingest.type_names import require_types
    from midstream.app.opening import config_of

    config = config_of(folder)
    require_types(config, types_named(columns))
    with _told_interruption(), progress() as bar:
        return import_table(folder, config, TableOptions(*source), columns, notify_of(bar), _warn)


@contextmanager
def _told_interruption() -> "Generator[None]":
    """Print the state after an interruption."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted; what was recorded stays, and the same command goes on from there")
        raise


def show_runs(folder: Path, undo: str | None, *, as_json: bool) -> None:
    """List the runs of a folder, or take one back."""
    from midstream.app.ingest.undo import list_runs, undo_run
    from midstream.app.opening import config_of

    if undo is not None:
        with progress() as bar:
            done = undo_run(folder, config_of(folder), undo, notify_of(bar))
        text = f"{done.run} ({done.file}): {done.removed:,} events taken back in {done.seconds:.1f} s"
        print_json(done) if as_json else out.print(text, markup=False)
        if done.erasures:
            say(f"{done.erasures:,} rows that the file brought stand, as they erase users: who was erased stays erased")
        return
    found = list_runs(folder)
    if as_json:
        print_json({"runs": found})
        return
    for each in found:
        asked = " ".join(f"{name}={value}" for name, value in each.mapping.items())
        state = "" if each.state == "recorded" else f"  ({each.state})"
        text = f"{each.run}  {each.time}  {each.recorded:>9,} recorded{state}  {each.file}  {asked}"
        out.print(text.rstrip(), markup=False)
    if not found:
        say("no import has recorded anything here")


def options_of(
    columns: list[str] | None, constants: list[str] | None, types: list[str] | None, time_format: str
) -> "ColumnOptions":
    """Return the mapping of a file's columns by the options of a command."""
    from midstream.app.mapping.columns import ColumnOptions, parse_pairs

    return ColumnOptions(
        parse_pairs(columns or (), "--map"),
        parse_pairs(constants or (), "--set"),
        parse_pairs(types or (), "--types"),
        time_format,
    )


def run_import(folder: Path, file: Path, columns: "ColumnOptions") -> "ImportSummary":
    """Import with a progress bar."""
    from midstream.app.ingest.import_file import import_file
    from midstream.app.ingest.type_names import require_types
    from midstream.app.opening import config_of

    config = config_of(folder)
    require_types(config, types_named(columns))
    with progress() as bar:
        return import_file(folder, config, file, columns, notify_of(bar), _warn)


def _warn(groups: "Sequence[FaultGroup]") -> None:
    """Warn while the file is read that its first rows are no events."""
    say("none of the first rows is an event (nothing is recorded before all are read; Ctrl-C ends it):")
    say(groups_text(groups))


def types_named(columns: "ColumnOptions") -> "Iterator[tuple[str, str]]":
    """Yield each option that names a type, and that type."""
    if "type" in columns.constants:
        yield "--type", columns.constants["type"]
    yield from (("--types", name) for name in columns.types.values())


def print_summary(summary: "ImportSummary") -> None:
    """Print the outcomes of the rows."""
    through = f" through {summary.through}" if summary.through else ""
    working = max(summary.seconds - summary.starting_seconds, 0.001)
    # Of few rows it would be the rate of opening the folder.
    rate = f" ({summary.recorded / working:,.0f}/s)" if summary.recorded >= RATE_ROWS_MIN else ""
    took = f"in {summary.seconds:.1f} s"
    if summary.starting_seconds >= STARTING_TOLD_S:
        took = f"in {working:.1f} s, after a start of {summary.starting_seconds:.0f} s"
    out.print(f"{summary.file}: {summary.recorded:,} recorded{through} {took}{rate}", markup=False)
    if summary.run:
        out.print(f"run {summary.run}: midstream import --undo {summary.run} takes it back", markup=False)
    if summary.known:
        all_of_it = " Nothing is new in this file." if not summary.recorded else ""
        out.print(f"{summary.known:,} were in the log before and were left out.{all_of_it}", markup=False)
    if summary.refused:
        out.print(f"{summary.refused:,} refused:", markup=False)
        out.print(groups_text(summary.refusals), markup=False)
        unnamed = summary.refused - sum(each.count for each in summary.refusals)
        if unnamed > 0:
            out.print(f"and {unnamed:,} more, of which the server named no reason", markup=False)
    for note in _notes(summary):
        say(note)


def _notes(summary: "ImportSummary") -> "Iterator[str]":
    """Yield notes on rows that an operator should check."""
    if summary.known_untimed:
        yield (
            f"{summary.known_untimed:,} of them have no time, so their content alone says that they were there: a "
            "later act of the same content needs a time, or an event_id of its own"
        )
    if summary.conflicts:
        yield f"{summary.conflicts:,} rows were NOT recorded: their event_id has other content already; the first:"
        yield "\n\n".join(map(fault_text, summary.conflict_faults))
    if summary.unused_columns:
        yield f"columns that go nowhere: {', '.join(summary.unused_columns)}; --map FIELD=COLUMN takes one in"
    if summary.late_items:
        yield (
            f"{summary.late_items:,} items were acted on before this file described them, and its rows have no time, "
            "so they are of now: what is asked as of those acts finds no attributes. A ranker that learns from replay "
            "reads the first ones all the same; to have them from the beginning, import the catalogue into an empty "
            "log and the acts behind it (`midstream import --undo RUN` takes the last runs back)"
        )
    if summary.late:
        yield f"{summary.late:,} are more than 24 h older than the log's end: a history is best imported first"
    if summary.through and summary.recorded:
        yield "recorded through a server, so this is no run that can be taken back"
    if summary.rejected:
        yield f"{summary.rejected:,} rows rejected, {kept_text(summary)}; the first:"
        yield groups_text(summary.faults)
        if summary.faults_others:
            yield f"\nand {summary.faults_others:,} of further kinds"
        if any("looks like seconds" in each.first.came for each in summary.faults):
            yield "times in seconds are read with --time-format s"
    if summary.rows == summary.rejected > 0:
        yield "no row of the file is an event"


def kept_text(summary: "ImportSummary") -> str:
    """Return which of the rejected rows are kept, and where."""
    where = f"data/{summary.rejected_file}"
    if summary.rejected_kept == summary.rejected:
        return f"all of them in {where}"
    dropped = summary.rejected - summary.rejected_kept
    last = f"the last {summary.rejected_kept:,} of them in {where} and {where}.old"
    return f"{last}, which hold no more: {dropped:,} are not"
