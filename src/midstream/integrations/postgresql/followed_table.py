"""Table that is followed: its identity, its columns, the statements that read it in order.

The identity is that of the cluster, the database and the table, so a table that was dropped and made again, or restored
into another server, is noticed; one of a standby that was promoted, or that was only written anew, is the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from midstream.core.errors import Fault, Invalid
from midstream.core.nearest import nearest
from midstream.integrations.postgresql.connection import PostgresqlServer
from midstream.integrations.postgresql.sweep import KEY_SHOWN, Place
from midstream.integrations.postgresql.tables import (
    NAIVE,
    chosen_columns,
    columns_of,
    quoted,
    relation_of,
    row_json,
)

PAGE = "/docs/inputs.md"
OPERATION = "midstream_operation"
"""Member of a row that is deleted; no column should be named so."""
TIMES = {"timestamp with time zone", NAIVE}
KEYS = {"smallint", "integer", "bigint", "text", "character varying", "uuid", "citext"}
"""Types whose text is that of the id: 7.00 and padded text would be others."""
START_MS_MAX = 253_402_300_799_999
"""End of the year 9999, the last that a time of Python has."""
ROW_BYTES_MAX = 1 << 20
"""Of a row as JSON: an event has a quarter of it at most."""
BEHIND_MAX = 1_000_000
"""Rows are counted so far: an index is read, and a lag of a million says enough."""
IDENTITY = (
    "SELECT (SELECT system_identifier FROM pg_control_system())::text || '/' || "
    "(SELECT oid FROM pg_database WHERE datname = current_database()) || '/' || c.oid, c.relkind, pg_is_in_recovery() "
    "FROM pg_class AS c WHERE c.oid = to_regclass(%(table)s)"
)
UNIQUE = (
    "SELECT coalesce(bool_or(i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts = 1 "
    "AND a.attname = %(key)s AND a.attnotnull), false) FROM pg_index AS i JOIN pg_attribute AS a "
    "ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] WHERE i.indrelid = to_regclass(%(table)s)"
)
_TABLES = {"r", "p"}
_CUT = f"CASE WHEN octet_length(content) > {ROW_BYTES_MAX} THEN NULL ELSE content END"


@dataclass(frozen=True, slots=True)
class FollowedTableOptions:
    """Which table is followed, by which columns."""

    server: PostgresqlServer
    table: str
    key: str
    updated_at: str
    fields: Mapping[str, Iterable[str]]
    """Of an event, each with the columns, or paths into them, that it is made of."""
    deleted_at: str = ""
    start: str = "earliest"
    """``earliest``, ``latest``, or milliseconds since 1970."""
    every_s: float = 1.0
    skew_s: float = 10.0
    """By how much the time of a row may be before the begin of the transaction that writes it."""
    reconcile_s: float | None = None
    """Between two comparisons of all keys; None = never."""


class Identity(NamedTuple):
    """Which table a name means now."""

    topic_id: str
    """Empty = there is none of that name."""
    kind: str = ""
    is_standby: bool = False


@dataclass(frozen=True, slots=True)
class FollowedTable:
    """Statements of one table, as its columns are now. Parameters are texts; times and keys are cast.

    All statements are sent with parameters, also where they have none: a % in the name of a column is doubled.
    """

    topic_id: str
    relation: str
    updated: str
    key: str
    row: str
    updated_type: str
    key_type: str
    live: str
    """Condition of the rows that are not deleted."""

    def page(self, place: Place, rows_max: int, bytes_max: int) -> tuple[str, dict[str, object]]:
        """Return the statement of the next rows behind a place, as many as ``bytes_max`` has room for, one at least.

        Columns are time, key, whether the row is settled, JSON, its bytes, and how many rows there were without regard
        to bytes. There is no JSON of a row of more than ``ROW_BYTES_MAX``.
        """
        size = "coalesce(octet_length(content), 0)"
        inner = (
            f"SELECT {self.updated} AS at, {self.key} AS key, {self._is_settled} AS settled, "  # noqa: S608  names are checked, and quoted
            f"convert_to({self.row}, 'UTF8') AS content FROM {self.relation} AS t WHERE {self._behind(place)} "
            f"ORDER BY {self.updated}, {self.key} LIMIT {rows_max:d}"
        )
        before = f"sum({size}) OVER (ORDER BY at, key ROWS UNBOUNDED PRECEDING) - {size}"
        counted = f"SELECT p.*, count(*) OVER () AS found, {before} AS before FROM ({inner}) AS p"  # noqa: S608  as above
        statement = (
            f"SELECT at::text, key::text, settled, {_CUT}, {size}, found FROM ({counted}) AS q "  # noqa: S608  as above
            f"WHERE before < {bytes_max:d} ORDER BY q.at, q.key"
        )
        return statement, self._values(place)

    def heads(self, place: Place, rows_max: int) -> tuple[str, dict[str, object]]:
        """Return the statement of the next rows behind a place without what is in them."""
        statement = (
            f"SELECT {self.updated}::text, {self.key}::text, {self._is_settled} FROM {self.relation} AS t "  # noqa: S608  as above
            f"WHERE {self._behind(place)} ORDER BY {self.updated}, {self.key} LIMIT {rows_max:d}"
        )
        return statement, self._values(place)

    def rows(self, keys: Sequence[str]) -> tuple[str, dict[str, object]]:
        """Return the statement of the rows of some keys: key, time, JSON."""
        inner = (
            f"SELECT {self.key}::text AS key, {self.updated}::text AS at, convert_to({self.row}, 'UTF8') AS content "  # noqa: S608  as above
            f"FROM {self.relation} AS t WHERE {self.key} = ANY(%(keys)s::{self.key_type}[])"
        )
        return f"SELECT key, at, {_CUT} FROM ({inner}) AS p", {"keys": list(keys)}  # noqa: S608  as above

    def behind(self, place: Place) -> tuple[str, dict[str, object]]:
        """Return the statement of the number of rows behind a place."""
        inner = f"SELECT 1 FROM {self.relation} AS t WHERE {self._behind(place)} LIMIT {BEHIND_MAX}"  # noqa: S608  as above
        return f"SELECT count(*) FROM ({inner}) AS found", self._values(place)  # noqa: S608  as above

    def newest(self, *, is_settled: bool) -> str:
        """Return the statement of the last place there is, or the last one that is settled."""
        condition = self._behind(Place()) + (f" AND {self._is_settled}" if is_settled else "")
        return (
            f"SELECT {self.updated}::text, {self.key}::text FROM {self.relation} AS t WHERE {condition} "  # noqa: S608  as above
            f"ORDER BY {self.updated} DESC, {self.key} DESC LIMIT 1"
        )

    def untimed(self, rows_max: int) -> str:
        """Return the statement of the keys of rows without a time that has a place in the order."""
        return f"SELECT {self.key}::text FROM {self.relation} AS t WHERE {self._is_untimed} LIMIT {rows_max:d}"  # noqa: S608  as above

    def untimed_count(self) -> str:
        """Return the statement of their number."""
        inner = f"SELECT 1 FROM {self.relation} AS t WHERE {self._is_untimed} LIMIT {BEHIND_MAX}"  # noqa: S608  as above
        return f"SELECT count(*) FROM ({inner}) AS found"  # noqa: S608  as above

    def keys(self, place: Place) -> tuple[str, dict[str, object]]:
        """Return the statement of the keys of all rows that are not deleted, and whether each is up to a place."""
        is_passed = f"{self._has_time} AND NOT ({self._behind(place)})" if place.updated else "false"
        condition = f"{self.live} AND {self.key} IS NOT NULL"
        statement = f"SELECT {self.key}::text, coalesce({is_passed}, false) FROM {self.relation} AS t WHERE {condition}"  # noqa: S608  as above
        return statement, self._values(place)

    def repeated(self) -> str:
        """Return the statement of a key that several rows have."""
        return (
            f"SELECT {self.key}::text FROM {self.relation} AS t WHERE {self.key} IS NOT NULL "  # noqa: S608  as above
            f"GROUP BY {self.key} HAVING count(*) > 1 LIMIT 1"
        )

    def check(self, place: Place) -> tuple[str, dict[str, object]]:
        """Return the statement that fails where a place is none of this table."""
        values = self._values(place)
        casts = f"%(updated)s::{self.updated_type}, %(key)s::{self.key_type}"
        return f"SELECT {casts}", {"updated": None, "key": None, **values}

    @property
    def _is_settled(self) -> str:
        moment = f"({self.updated} AT TIME ZONE 'UTC')" if self.updated_type == NAIVE else self.updated
        return f"coalesce({moment} < %(settled)s::timestamptz, false)"

    @property
    def _is_untimed(self) -> str:
        return f"{self.updated} IS NULL OR {self.updated} IN ('infinity', '-infinity')"

    @property
    def _has_time(self) -> str:
        return f"{self.updated} > '-infinity' AND {self.updated} < 'infinity' AND {self.key} IS NOT NULL"

    def _behind(self, place: Place) -> str:
        if not place.updated:
            return self._has_time
        if place.key is None:
            return f"{self.updated} >= %(updated)s::{self.updated_type} AND {self._has_time}"
        given = f"(%(updated)s::{self.updated_type}, %(key)s::{self.key_type})"
        return f"({self.updated}, {self.key}) > {given} AND {self._has_time}"

    def _values(self, place: Place) -> dict[str, object]:
        found: dict[str, object] = {"updated": place.updated} if place.updated else {}
        return found if place.key is None else {**found, "key": place.key}


def identity_of(session: Any, table: str) -> Identity:  # noqa: ANN401  a session of the library
    """Return which table a name means now."""
    row = session.execute(IDENTITY, {"table": relation_of(table)}).fetchone()
    return Identity("") if row is None else Identity(*row)


def table_of(session: Any, options: FollowedTableOptions) -> FollowedTable:  # noqa: ANN401  as above
    """Return a table as it is now.

    Raises:
        Invalid: There is none, or it cannot be followed by these columns.
    """
    identity = identity_of(session, options.table)
    if not identity.topic_id:
        raise Invalid((Fault("table", f'There is no table "{options.table}".', "One that its role may read.", PAGE),))
    if identity.is_standby:
        came = "The server is a standby, where open transactions of the primary cannot be seen."
        raise Invalid((Fault("url", came, "The address of the primary.", PAGE),))
    relation = relation_of(options.table)
    columns = columns_of(session, relation)
    needed = {"key": (options.key,), "updated_at": (options.updated_at,)}
    if options.deleted_at:
        needed["deleted_at"] = (options.deleted_at,)
    chosen_columns(columns, needed, "column")
    names = chosen_columns(columns, options.fields, "map")
    values = {"table": relation, "key": options.key}
    is_unique = session.execute(UNIQUE, values).fetchone()[0]
    if faults := tuple(_faults(options, columns, is_unique=is_unique or identity.kind not in _TABLES)):
        raise Invalid(faults)
    live, row = "true", row_json(columns, names)
    if options.deleted_at:
        live = f"t.{quoted(options.deleted_at)} IS NULL"
        gone = f"json_build_object({_literal(options.key)}, t.{quoted(options.key)}, '{OPERATION}', 'delete')::text"
        row = f"CASE WHEN {live} THEN {row} ELSE {gone} END"
    table = FollowedTable(
        topic_id=identity.topic_id,
        relation=relation,
        updated=_doubled(f"t.{quoted(options.updated_at)}"),
        key=_doubled(f"t.{quoted(options.key)}"),
        row=_doubled(row),
        updated_type=columns[options.updated_at],
        key_type=columns[options.key],
        live=_doubled(live),
    )
    if not is_unique and (found := session.execute(table.repeated(), {}).fetchone()) is not None:
        raise Invalid((repeated_key(options.key, found[0]),))
    return table


def repeated_key(column: str, key: str) -> Fault:
    """Return what is wrong with a view in which several rows have one key: it cannot be put in order."""
    came = f'Several rows have "{key[:KEY_SHOWN]}" in "{column}".'
    return Fault("key", came, "A column, or an expression of the view, that each row has its own of.", PAGE)


def _faults(options: FollowedTableOptions, columns: Mapping[str, str], *, is_unique: bool) -> Iterable[Fault]:
    """Yield why rows cannot be put in order by their time and key."""
    if columns[options.updated_at] not in TIMES:
        came = f'The column "{options.updated_at}" is of the type {columns[options.updated_at]}.'
        yield Fault("updated_at", came, "timestamptz, which says when its row was written.", PAGE)
    if columns[options.key] not in KEYS:
        came = f'The column "{options.key}" is of the type {columns[options.key]}.'
        yield Fault("key", came, f"One of: {', '.join(sorted(KEYS))}.", PAGE)
    if not is_unique:
        came = f'No unique index on "{options.key}" alone, which is NOT NULL.'
        yield Fault("key", came, f"The primary key.{nearest(options.key, columns)}", PAGE)


def _literal(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def _doubled(text: str) -> str:
    """Return a part of a statement that is sent with parameters, which begin with %."""
    return text.replace("%", "%%")
