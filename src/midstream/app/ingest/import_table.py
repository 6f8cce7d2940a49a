"""Import of a table or a query of PostgreSQL: each row is a change of an item or user, recorded once.

A row says all of its columns: one without a value takes its attribute away. Rows are identified as those of a file
without ids are, by what they say against what the log holds: a row that would change nothing is left out, and one whose
earlier values come back is recorded again.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from midstream.app.config.schema import Config
from midstream.app.ingest.import_file import ImportSummary, Notify, Warn, import_rows
from midstream.app.mapping.columns import ColumnOptions, place_names
from midstream.app.mapping.pieces import LinePiece, OpenFile, Piece, RowOrigin
from midstream.core.errors import Fault, Invalid
from midstream.core.kinds import Kind
from midstream.integrations.postgresql.table_rows import reading, source_name
from midstream.integrations.postgresql.tables import TABLE, TABLE_RIGHT

PAGE = "/docs/data.md"
IDS = {"item": "item_id", "user": "user_id"}
"""Field of the key of a row, by the type of the event that it becomes."""
QUERY_CHARS = 60
"""Of a query in the account of a run."""


@dataclass(frozen=True, slots=True)
class TableOptions:
    """Where the rows of an import are."""

    url: str
    table: str = ""
    query: str = ""
    """Instead of a table."""
    key: str = ""
    """Column of the ids of items or users."""

    @property
    def told(self) -> str:
        """The table, or the beginning of the query, for an account."""
        return self.table or " ".join(self.query.split())[:QUERY_CHARS]


def import_table(
    folder: Path,
    config: Config,
    table: TableOptions,
    columns: ColumnOptions,
    notify: Notify | None = None,
    warn: Warn | None = None,
) -> ImportSummary:
    """Record all rows of a table or query; else as ``import_rows`` does.

    Raises:
        Invalid: The options do not fit together, or not to the table; nothing was recorded.
    """
    chosen = row_columns(columns, table.key)
    _require_source(table)
    origin = RowOrigin(f"{source_name(table.url)} {table.told}", lambda: _opened(table, chosen))
    return import_rows(folder, config, origin, chosen, notify, warn)


def row_columns(columns: ColumnOptions, key: str, where: str = "--") -> ColumnOptions:
    """Return the mapping of the rows of a table: its key is the id, items unless users are asked for.

    Args:
        columns: As asked.
        key: Column of the ids.
        where: Begins the names of options, for what is refused.

    Raises:
        Invalid: The key is missing or mapped as well, or rows shall be something else.
    """
    kind = columns.constants.get("type", Kind.ITEM.name.lower())
    faults: list[Fault] = []
    if kind not in IDS or "type" in columns.columns:
        came = f'"{columns.columns.get("type", kind)}" came as the type of rows.'
        faults.append(Fault(f"{where}type", came, "item or user: a table holds what is, and no acts.", PAGE))
    own = IDS.get(kind, "item_id")
    if not key:
        faults.append(Fault(f"{where}key", "No column of ids came.", f"The column that is the {own} of its row.", PAGE))
    if own in columns.columns or own in columns.constants:
        faults.append(Fault(f"{where}map {own}", "It came beside key.", f"key alone says what the {own} is.", PAGE))
    if faults:
        raise Invalid(tuple(faults))
    fields = {own: key, **columns.columns}
    constants = {"type": kind, **columns.constants}
    return replace(columns, columns=fields, constants=constants, named_only=True, rows_are_whole=True)


def source_fields(columns: ColumnOptions) -> Mapping[str, Sequence[str]]:
    """Return the columns, or paths into them, that each field is made of."""
    return {name: place_names(column) for name, column in columns.columns.items()}


def _require_source(table: TableOptions) -> None:
    if bool(table.table) == bool(table.query):
        came = "Both a table and a query came." if table.table else "Neither a table nor a query came."
        raise Invalid((Fault("--table", came, "One of the two: --table public.products, or --query.", PAGE),))
    if table.table and not TABLE.fullmatch(table.table):
        raise Invalid((Fault("--table", f'"{table.table[:80]}" came.', f"{TABLE_RIGHT} Or --query.", PAGE),))


@contextmanager
def _opened(table: TableOptions, columns: ColumnOptions) -> Generator[OpenFile]:
    """Begin to read; what was read is on disk when the block ends, and the transaction with it."""
    with reading(table.url, table.table, table.query) as found:
        count = 0

        def rows(_: Sequence[str] | None) -> Iterator[Piece]:
            nonlocal count
            for some in found.rows(source_fields(columns)):
                yield LinePiece(b"\n".join(some) + b"\n", count)
                count += len(some)

        yield OpenFile(None, rows, lambda: count)
