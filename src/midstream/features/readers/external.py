"""Columns of external tables: values of the newest row of an item or a user before the query's time.

A table is content of a plan, not state: it is read when a plan is made, never changes, and has every version of a row
of its file, so the same rule gives the values of any past moment. Rows at or after the query's time do not count.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.durations import Duration
from midstream.core.errors import Fault
from midstream.core.nearest import nearest
from midstream.core.types import Candidates, Moment
from midstream.features.readers.inputs import Reader, columns_from
from midstream.features.versions import Versions
from midstream.state.expressions.program import Columns, Expression
from midstream.state.ids.vocabulary import Vocabulary

PAGE = "/docs/features.md"
Entity: TypeAlias = Literal["item", "user", "global"]
EVERYBODY = 1
"""The one key of a global table."""
TABLES_MAX = 16
"""Of a configuration: at the default bounds 16 GiB, which a machine is more likely not to have than to need."""
ROWS_MAX = 5_000_000
BYTES_MAX = 1 << 30
"""Of a file, and of the table in memory: 5 M rows of 20 numbers are 0.9 GB."""
COLUMNS_MAX = 256
"""As many as all features of a plan may have."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[tables]]``: a file that another program writes."""

    name: str
    path: str
    """Parquet (``.parquet``), CSV (``.csv``) or TSV (``.tsv``), from the folder of the configuration on."""
    entity: Entity = "item"
    """Whose id a row has; a ``global`` table has no ids."""
    id: str = "id"
    """Column of ids: texts, or whole numbers, whose digits count."""
    time: str = "time"
    """Column of times: milliseconds since 1970, ISO 8601, or a timestamp; without a zone UTC."""
    columns: tuple[str, ...] = ()
    """Numbers or truth values that are read; empty = all there are."""
    ttl: Duration | None = None
    """A row of this age or older counts as none."""
    rows_max: int = ROWS_MAX
    bytes_max: int = BYTES_MAX
    """Of the file, and of the table in memory."""


@dataclass(frozen=True, slots=True)
class ExternalTable:
    """The content of a table; two are equal when they were read from equal bytes in the same way."""

    name: str
    entity: Entity
    columns: tuple[str, ...]
    """Names of the columns of ``versions``, in order."""
    ttl_ms: int
    """0 = rows do not age."""
    sha256: str
    """Of the file, 64 hex digits."""
    versions: Versions = field(compare=False, repr=False)
    bytes_max: int = field(compare=False)
    """Of the file, and of the table in memory."""
    rows: int = field(compare=False)
    incomplete_rows: int = field(compare=False)
    """Rows of the file without an id or a time; they are passed by."""
    newest_ms: int = field(compare=False)
    """Time of its newest row; -1 = it has none."""


Tables: TypeAlias = Mapping[str, ExternalTable]
"""By name."""


class External(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="external", kw_only=True):
    """Columns of an external table for the candidate, the user, or all requests.

    One column has the feature's name; of several each is named ``quality_score``. True is 1, false 0. NaN = the table
    has no row of that id before the query's time, its newest one is too old, or has no value there.
    """

    name: str
    table: str
    """Name of one of ``[[tables]]``."""
    columns: tuple[str, ...]

    def expressions(self) -> Mapping[str, Expression]:
        """Return the columns of the newest row with time < now, and now - time < ttl."""
        names = [self.name] if len(self.columns) == 1 else [f"{self.name}_{each}" for each in self.columns]
        return dict(zip(names, columns_from(TableColumns(self.table, self.columns)), strict=True))


@dataclass(frozen=True, slots=True)
class TableColumns:
    """Names of the columns to read; a plan with the table reads it through ``bound``."""

    table: str
    columns: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Number of columns."""
        return len(self.columns)

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Leave all columns NaN: there is no table yet."""


@dataclass(frozen=True, slots=True)
class BoundColumns:
    """Reads columns of a table: a ``Reader``."""

    table: ExternalTable
    columns: tuple[str, ...]
    places: NDArray[np.int64] = field(compare=False, repr=False)
    """Of the columns in the table, (rows,)."""

    @property
    def rows(self) -> int:
        """Number of columns."""
        return len(self.places)

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Read one row of a user or of a global table for all candidates, and one for each item."""
        table, now_ms = self.table, int(moment.query.now_ms)
        if table.entity == "item":
            hashes = moment.table(Vocabulary).item_hash[candidates.item_index]
            hashes[candidates.item_index < 0] = 0
        else:
            hashes = np.array([EVERYBODY if table.entity == "global" else moment.user_hash], dtype=np.uint64)
        found[:] = table.versions.read(hashes, now_ms, table.ttl_ms, self.places)


def bound(reader: Reader, tables: Tables) -> Reader:
    """Return the reader itself, or the reader of its table; a missing table gives NaN."""
    if not isinstance(reader, TableColumns) or reader.table not in tables:
        return reader
    table = tables[reader.table]
    places = np.array([table.columns.index(each) for each in reader.columns], dtype=np.int64)
    return BoundColumns(table, reader.columns, places)


def table_faults(tables: Sequence[Table], features: Sequence[object]) -> Iterator[Fault]:
    """Yield the faults of tables and of features that read them, without reading a file."""
    if len(tables) > TABLES_MAX:
        yield Fault("$.tables", f"{len(tables)} came.", f"At most {TABLES_MAX}.", PAGE)
    names = [table.name for table in tables]
    for number, table in enumerate(tables):
        where = f"$.tables[{number}]"
        if not table.name.isidentifier() or names.index(table.name) != number:
            came = f'"{table.name}" came{" twice" if table.name.isidentifier() else ""}.'
            yield Fault(f"{where}.name", came, "A name of its own: letters, digits and _, no digit first.", PAGE)
        for bound_name, most in (("rows_max", 100_000_000), ("bytes_max", 1 << 36)):
            came = getattr(table, bound_name)
            if not 1 <= came <= most:
                yield Fault(f"{where}.{bound_name}", f"{came} came.", f"From 1 to {most:,}.", PAGE)
        if len(table.columns) > COLUMNS_MAX or len(set(table.columns)) < len(table.columns):
            yield Fault(f"{where}.columns", f"{len(table.columns)} came.", f"At most {COLUMNS_MAX}, each once.", PAGE)
        if table.ttl is not None and table.ttl.ms < 1:
            yield Fault(f"{where}.ttl", f"{table.ttl} came.", "At least 1ms.", PAGE)
    for number, feature in enumerate(features):
        if isinstance(feature, External):
            yield from _feature_faults(f"$.features[{number}]", feature, {table.name: table for table in tables})


def _feature_faults(where: str, feature: External, tables: Mapping[str, Table]) -> Iterator[Fault]:
    if feature.table not in tables:
        came = f'There is no table "{feature.table}".{nearest(feature.table, tables)}'
        yield Fault(f"{where}.table", came, f"One of [[tables]]: {', '.join(tables) or 'there are none'}.", PAGE)
        return
    if not feature.columns or len(set(feature.columns)) < len(feature.columns):
        came = f"{len(feature.columns)} came." if not feature.columns else "One came twice."
        yield Fault(f"{where}.columns", came, "At least one column, each once.", PAGE)
    chosen = tables[feature.table].columns
    yield from missing_columns(where, feature, chosen) if chosen else ()


def missing_columns(where: str, feature: External, columns: Sequence[str]) -> Iterator[Fault]:
    """Yield a fault for each column of a feature that its table has not."""
    for each in feature.columns:
        if each not in columns:
            came = f'The table "{feature.table}" has no column "{each}".{nearest(each, columns)}'
            yield Fault(f"{where}.columns", came, f"Columns: {', '.join(columns)}", PAGE)
