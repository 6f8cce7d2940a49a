"""Import of a table or a query of PostgreSQL: each row is a change of an item or user, recorded once.

A row says all of its columns: one without a value takes its attribute away. Rows are identified as those of a file
without ids are, by what they say against what the log holds: a row that would change nothing is left out, and one whose
earlier values come back is recorded again.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from midstream.app.config.schema import Config
from midstream.app.ingest.import_file import ImportSummary, Notify, Warn, import_rows
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.mapping.pieces import LinePiece, OpenFile, Piece, RowOrigin
from midstream.app.mapping.table_columns import row_columns, source_fields
from midstream.core.errors import Fault, Invalid
from midstream.integrations.postgresql.table_rows import reading, source_name
from midstream.integrations.postgresql.tables import TABLE, TABLE_RIGHT

PAGE = "/docs/data.md"
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
