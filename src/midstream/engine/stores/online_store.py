"""Online store: one table of rows by text id in a store that other services read, with writes fenced by log position.

A row is replaced only by a higher version, so writes may come twice, out of order and from several writers: the row of
the highest version stays. A deleted row keeps its version as a fence for a time, so that a late write does not bring
the row back. A row is written as a whole, in one step; a batch is not: after a failure some of its rows are written,
and the same call again writes the others.

All that types cannot say is checked by ``midstream.testing.online_store_conformance``, on every implementation.
"""

import asyncio
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from midstream.core.errors import ShapeMismatch, StoreUnavailable

StoreValue: TypeAlias = float | int | str | Sequence[str] | None
StoredValue: TypeAlias = float | int | str | tuple[str, ...] | None
StoreKind: TypeAlias = Literal["number", "integer", "text", "texts"]
"""``number`` is a float64, infinities too, NaN = missing; ``integer`` an int64; ``texts`` a list of texts."""

VERSION_MAX = 2**63 - 1
"""Versions are from 0 to this: a log position has 63 bits."""
ID_BYTES_MAX = 1_024
"""Of UTF-8, four for each of the 256 characters that an id may have."""
TEXT_BYTES_MAX = 65_536
"""Of one text of a row: a description has a few thousand."""
COLUMNS_MAX = 256
"""Of one table: 65 declared features of users and items would be many."""
ROWS_MAX = 10_000
"""Of one call, which the store cuts into chunks of its own: 10 MB of rows with 1 kB."""
SCAN_ROWS = 1_000
"""Ids of one page, about: a page is read in a few milliseconds, and is looked up in the state in turns."""
TURN_VALUES = 500
"""Values that are checked or encoded before others have the event loop: each takes about a microsecond."""
NAME_CHARS_MAX = 48
"""Of a table or column: PostgreSQL cuts names at 63 bytes, and Cassandra at 48 characters."""
FENCE_DAYS = 10
"""For which a deleted row keeps its version: Cassandra's own time for tombstones. A write that is later by more brings
the row back."""
_NAME = re.compile(rf"[a-z][a-z0-9_]{{0,{NAME_CHARS_MAX - 1}}}")
RESERVED = frozenset({"id", "version", "deleted_at"})
"""Columns that each table has beside its own."""


class StoreRefused(StoreUnavailable):
    """The store is there and refuses the client or the call: a wrong password, a table of another shape."""


@dataclass(frozen=True, slots=True, eq=False)
class StoreRows:
    """Rows to write, as columns."""

    ids: Sequence[str]
    """Distinct, each of 1 to ``ID_BYTES_MAX`` bytes without NUL."""
    columns: Mapping[str, Sequence[StoreValue]]
    """All columns of the table, each as long as ``ids``; None = missing."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredRows:
    """Rows that were read, in the order of the ids that were asked for."""

    versions: Sequence[int | None]
    """None = there is no such row, or it is deleted."""
    columns: Mapping[str, Sequence[StoredValue]]
    """None = there is no such row, or the row has no such value."""


@dataclass(frozen=True, slots=True, eq=False)
class ScannedIds:
    """One page of the ids that a table has."""

    ids: Sequence[str]
    """Of rows that are there; deleted ones are left out."""
    versions: Sequence[int]
    """Version of each."""
    cursor: str | None
    """Where the next page begins; None = this is the last one."""


class OnlineStore(Protocol):
    """One table of an outside store, from one event loop.

    Calls may run beside one another. None of them holds the thread, and each ends within the time of the options.
    """

    @property
    def columns(self) -> Mapping[str, StoreKind]:
        """Columns of the table by name, beside ``id`` and ``version``."""
        ...

    @property
    def left(self) -> int:
        """Writes and deletes of rows since the start that were left: what lies at their place is not of this table."""
        ...

    async def open(self) -> None:
        """Connect, create the table if there is none, and add the columns that it lacks; again after a failure.

        Raises:
            StoreUnavailable: The store does not answer; the same call may succeed later.
            StoreRefused: The store refuses the client, or has a column of another kind.
            ExtraMissing: The client library is not installed.
        """
        ...

    async def read(self, ids: Sequence[str], columns: Sequence[str]) -> StoredRows:
        """Return some columns of rows, in the order of ``ids``, which may repeat.

        Raises:
            StoreUnavailable: No answer in time.
            ShapeMismatch: A column is none of the table, or there are more than ``ROWS_MAX`` ids.
        """
        ...

    async def scan(self, cursor: str) -> ScannedIds:
        """Return the next page of all ids: at most ``ROWS_MAX``, and maybe none, also before the last page.

        A row that is there from the first page to the last is in one of them at least; one that is written or deleted
        meanwhile may be in none.

        Args:
            cursor: Of the page before, empty = from the beginning. It is of this client, and of no use to another.

        Raises:
            StoreUnavailable: No answer in time; the same call may succeed later.
        """
        ...

    async def write(self, rows: StoreRows, version: int) -> None:
        """Write each row whole, where the stored one, or its fence, has a lower version. Durable on return.

        A version names one content of a row: the caller never writes others, nor deletes, under the same version.

        Args:
            rows: At most ``ROWS_MAX``.
            version: Log position of the state that the rows are of.

        Raises:
            StoreUnavailable: No answer in time; each row is as it was or as written.
            ShapeMismatch: ``rows`` is no batch of this table; nothing was written.
        """
        ...

    async def delete(self, ids: Sequence[str], version: int) -> None:
        """Delete rows of lower versions; ``version`` stays as their fence for ``FENCE_DAYS``.

        Raises:
            StoreUnavailable: No answer in time; each row is as it was or deleted.
            ShapeMismatch: The ids are none; nothing was deleted.
        """
        ...

    async def position(self, name: str) -> str | None:
        """Return what was set last under a name, beside the rows of this table; None = nothing.

        Raises:
            StoreUnavailable: No answer in time.
        """
        ...

    async def set_position(self, name: str, position: str) -> None:
        """Keep a text of the caller's, such as how far a sink is, under a name; durable on return.

        Raises:
            StoreUnavailable: No answer in time.
        """
        ...

    async def close(self) -> None:
        """Release connections and threads; calls that are under way fail. Twice is right as well."""
        ...


def check_names(table: str, columns: Mapping[str, StoreKind]) -> None:
    """Raise for a table or columns whose names are no plain identifiers: they stand in statements as they are.

    Raises:
        ShapeMismatch: A name is wrong, reserved, or there are too many.
    """
    if not _NAME.fullmatch(table):
        raise _mismatch(f"table {table!r}", NAME_RIGHT)
    if len(columns) > COLUMNS_MAX:
        raise _mismatch(f"{len(columns)} columns", f"at most {COLUMNS_MAX}")
    for each in columns:
        if not _NAME.fullmatch(each) or each in RESERVED:
            raise _mismatch(f"column {each!r}", f"{NAME_RIGHT}, none of {', '.join(sorted(RESERVED))}")


NAME_RIGHT = f"a name of a letter and up to {NAME_CHARS_MAX - 1} letters, digits and _, in lower case"


def check_known(columns: Sequence[str], known: Mapping[str, StoreKind]) -> None:
    """Raise for a column that a table does not have.

    Raises:
        ShapeMismatch: It is named.
    """
    if unknown := [each for each in columns if each not in known]:
        raise _mismatch(f"column {', '.join(map(repr, unknown))}", f"one of {', '.join(known) or 'none'}")


def check_ids(ids: Sequence[str], *, are_distinct: bool) -> None:
    """Raise for ids that no row has.

    Raises:
        ShapeMismatch: There are too many, one is empty, too long, no text of UTF-8, or comes twice.
    """
    if len(ids) > ROWS_MAX:
        raise _mismatch(f"{len(ids):,} ids", f"at most {ROWS_MAX:,}")
    for each in ids:
        _check_text("id", each, ID_BYTES_MAX)
        if not each:
            raise _mismatch("an empty id", "a text")
    if are_distinct and len(set(ids)) != len(ids):
        raise _mismatch("an id that comes twice", "distinct ids")


def check_version(version: int) -> None:
    """Raise for a version out of range.

    Raises:
        ShapeMismatch: It is no log position.
    """
    if not 0 <= version <= VERSION_MAX:
        raise _mismatch(f"version {version}", f"0 to {VERSION_MAX}")


def checked_columns(rows: StoreRows, known: Mapping[str, StoreKind]) -> Mapping[str, list[StoredValue]]:
    """Return the values of rows by column, in the order of the table; NaN has become None.

    Raises:
        ShapeMismatch: The ids are none, a column lacks or is unknown, is of another length, or has a wrong value.
    """
    _check_shape(rows, known)
    return {name: [_value(name, kind, each) for each in rows.columns[name]] for name, kind in known.items()}


async def columns_in_turns(rows: StoreRows, known: Mapping[str, StoreKind]) -> Mapping[str, list[StoredValue]]:
    """Return what ``checked_columns`` does, and let others have the event loop meanwhile.

    Raises:
        ShapeMismatch: As there.
    """
    _check_shape(rows, known)
    found: dict[str, list[StoredValue]] = {name: [] for name in known}
    for places in turns_of(len(rows.ids), len(known)):
        for name, kind in known.items():
            found[name] += [_value(name, kind, each) for each in rows.columns[name][places.start : places.stop]]
        await asyncio.sleep(0)
    return found


def turns_of(rows: int, columns: int, values_max: int = TURN_VALUES) -> Iterator[range]:
    """Yield places of rows, as many at once as have so many values, and at least one.

    Example:
        >>> list(turns_of(5, 250))
        [range(0, 2), range(2, 4), range(4, 5)]
    """
    step = max(1, values_max // max(1, columns))
    for start in range(0, rows, step):
        yield range(start, min(start + step, rows))


def _check_shape(rows: StoreRows, known: Mapping[str, StoreKind]) -> None:
    """Raise for rows that are no batch of a table, whatever their values are."""
    check_ids(rows.ids, are_distinct=True)
    check_known(tuple(rows.columns), known)
    if missing := [each for each in known if each not in rows.columns]:
        raise _mismatch(f"rows without {', '.join(missing)}", "all columns of the table")
    for name in known:
        if len(rows.columns[name]) != len(rows.ids):
            raise _mismatch(f"{name}: {len(rows.columns[name])} values", f"{len(rows.ids)}, one a row")


def is_storable(kind: StoreKind, value: StoreValue) -> bool:
    """Return whether a store can hold a value: a text of UTF-8 without NUL and not too long, a number in range."""
    try:
        _value("", kind, value)
    except ShapeMismatch:
        return False
    return True


def _value(name: str, kind: StoreKind, value: StoreValue) -> StoredValue:
    """Return a value of a kind."""
    if value is None:
        return None
    if kind == "text" and isinstance(value, str):
        return _check_text(name, value, TEXT_BYTES_MAX)
    if kind == "texts" and isinstance(value, (list, tuple)):
        return tuple(_check_text(name, each, TEXT_BYTES_MAX) for each in value)
    if kind == "integer" and isinstance(value, int) and -VERSION_MAX - 1 <= value <= VERSION_MAX:
        return int(value)
    if kind == "number" and isinstance(value, (int, float)):
        number = float(value)
        return None if math.isnan(number) else number
    raise _mismatch(f"{name}: {type(value).__name__} {str(value)[:32]!r}", f"a value of the kind {kind}")


def _check_text(name: str, text: object, bytes_max: int) -> str:
    if not isinstance(text, str):
        raise _mismatch(f"{name}: {type(text).__name__}", "a text")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise _mismatch(f"{name}: half of a surrogate pair", "a text of UTF-8") from None
    if size > bytes_max or "\0" in text:
        raise _mismatch(f"{name}: a text of {size:,} bytes", f"at most {bytes_max:,} bytes, without NUL")
    return text


def _mismatch(came: str, right: str) -> ShapeMismatch:
    return ShapeMismatch(f"{came} came where {right} is right")
