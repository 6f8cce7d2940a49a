"""Table that is followed: its identity, its columns, the statements that read it in order.

The identity is that of the cluster, the database and the table, so a table that was dropped and made again, or restored
into another server, is noticed; one of a standby that was promoted, or that was only written anew, is the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from midstream.core.errors import Fault, Invalid
from midstream.core.nearest import nearest
from midstream.integrations.postgresql.connection import PostgresqlServer
from midstream.integrations.postgresql.sweep import Place
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
    """Statements of one table, as its columns are now. Parameters are texts; times and keys are cast."""

    topic_id: str
    relation: str
    updated: str
    key: str
    row: str
    updated_type: str
    key_type: str
    live: str
    """Condition of the rows that are not deleted."""

    def page(self, place: Place, rows_max: int) -> tuple[str, dict[str, object]]:
        """Return the statement of the next rows behind a place: time, key, whether they are settled, JSON."""
        moment = f"({self.updated} AT TIME ZONE 'UTC')" if self.updated_type == NAIVE else self.updated
        statement = (
            f"SELECT {self.updated}::text, {self.key}::text, coalesce({moment} < %(settled)s::timestamptz, false), "  # noqa: S608  names are checked, and quoted
            f"convert_to({self.row}, 'UTF8') FROM {self.relation} AS t WHERE {self._behind(place)} "
            f"ORDER BY {self.updated}, {self.key} LIMIT {rows_max:d}"
        )
        return statement, self._values(place)

    def behind(self, place: Place) -> tuple[str, dict[str, object]]:
        """Return the statement of the number of rows behind a place."""
        inner = f"SELECT 1 FROM {self.relation} AS t WHERE {self._behind(place)} LIMIT {BEHIND_MAX}"  # noqa: S608  as above
        return f"SELECT count(*) FROM ({inner}) AS found", self._values(place)  # noqa: S608  as above

    def newest(self) -> str:
        """Return the statement of the last place there is."""
        return (
            f"SELECT {self.updated}::text, {self.key}::text FROM {self.relation} AS t WHERE {self._behind(Place())} "  # noqa: S608  as above
            f"ORDER BY {self.updated} DESC, {self.key} DESC LIMIT 1"
        )

    def untimed(self, rows_max: int) -> str:
        """Return the statement of the keys of rows without a time."""
        return f"SELECT {self.key}::text FROM {self.relation} AS t WHERE {self.updated} IS NULL LIMIT {rows_max:d}"  # noqa: S608  as above

    def keys(self) -> str:
        """Return the statement of the keys of all rows that are not deleted."""
        return f"SELECT {self.key}::text FROM {self.relation} AS t WHERE {self.live}"  # noqa: S608  as above

    def check(self, place: Place) -> tuple[str, dict[str, object]]:
        """Return the statement that fails where a place is none of this table."""
        values = self._values(place)
        casts = f"%(updated)s::{self.updated_type}, %(key)s::{self.key_type}"
        return f"SELECT {casts}", {"updated": None, "key": None, **values}

    def _behind(self, place: Place) -> str:
        if not place.updated:
            return f"{self.updated} IS NOT NULL AND {self.key} IS NOT NULL"
        if place.key is None:
            return f"{self.updated} >= %(updated)s::{self.updated_type} AND {self.key} IS NOT NULL"
        given = f"(%(updated)s::{self.updated_type}, %(key)s::{self.key_type})"
        return f"({self.updated}, {self.key}) > {given}"

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
    is_unique = identity.kind not in _TABLES or session.execute(UNIQUE, values).fetchone()[0]
    if faults := tuple(_faults(options, columns, is_unique=is_unique)):
        raise Invalid(faults)
    live, row = "true", row_json(columns, names)
    if options.deleted_at:
        live = f"t.{quoted(options.deleted_at)} IS NULL"
        gone = f"json_build_object({_literal(options.key)}, t.{quoted(options.key)}, '{OPERATION}', 'delete')::text"
        row = f"CASE WHEN {live} THEN {row} ELSE {gone} END"
    return FollowedTable(
        topic_id=identity.topic_id,
        relation=relation,
        updated=f"t.{quoted(options.updated_at)}",
        key=f"t.{quoted(options.key)}",
        row=row,
        updated_type=columns[options.updated_at],
        key_type=columns[options.key],
        live=live,
    )


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
