"""Online store in PostgreSQL: a row a row, and an upsert that compares versions in one statement.

Rows are sent as arrays, one a column, so that a chunk of any size is one statement of one text. Arrays are sent as
text: the client library takes 3 µs for each value of a list, at once, and their text a tenth of it, in turns. They are
in the order of their ids: two writers that lock the same rows in other orders would wait for each other.

A table has ``MARK`` as its comment. One without it is somebody else's and is refused before anything in it is changed.

A deleted row keeps ``id``, ``version`` and ``deleted_at``. A start removes those that are older than ``FENCE_DAYS``,
beside the writing, by an index of deleted rows alone.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import cast

import msgspec

from midstream.core.errors import StoreUnavailable
from midstream.engine.stores.online_store import (
    FENCE_DAYS,
    SCAN_ROWS,
    ScannedIds,
    StoredRows,
    StoredValue,
    StoreKind,
    StoreRefused,
    StoreRows,
    check_ids,
    check_known,
    check_names,
    check_version,
    columns_in_turns,
    turns_of,
)
from midstream.integrations.postgresql.connection import PostgresqlServer, new_connection

WRITTEN_MAX = 1_000
"""Rows of one statement: 64,000 rows a second were measured with as many, and not more with larger ones."""
VALUES_MAX = 5_000
"""Values of one statement, as text 100 kB."""
READ_MAX = 2_000
"""Rows of one statement."""
POSITIONS = "midstream_positions"
MARK = "midstream: rows by id and version"
"""Comment of each table that was created here."""
REMOVED_MAX = 1_000
"""Fences that one statement removes, well within the time of one."""
_OWN = {"id": "text", "version": "bigint", "deleted_at": "timestamp with time zone"}
_TYPES: Mapping[StoreKind, str] = {
    "number": "double precision",
    "integer": "bigint",
    "text": "text",
    "texts": "text[]",
}
_LOCK = 0x6D69_6473
"""Of the advisory lock that one creation of tables at a time holds."""


class PostgresqlStoreOptions(
    PostgresqlServer, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="postgresql"
):
    """A store in PostgreSQL."""

    schema: str = "public"
    """Of the tables; it is there already."""


class PostgresqlStore:
    """An ``OnlineStore``; see the module."""

    def __init__(self, options: PostgresqlStoreOptions, table: str, columns: Mapping[str, StoreKind]) -> None:
        """Prepare a client that is not connected.

        Raises:
            ShapeMismatch: A name is wrong.
        """
        check_names(table, columns)
        check_names(options.schema, {})
        self.columns = dict(columns)
        self.left = 0
        self._schema, self._name = options.schema, table
        self._table = f'"{options.schema}"."{table}"'
        self._positions = f'"{options.schema}"."{POSITIONS}"'
        self._connection = new_connection(options, is_read_only=False)
        self._write = _write_statement(self._table, self.columns)
        self._removing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, create what lacks, begin to remove old fences."""
        await self._connection.opened()
        known = await self._known()
        if {*_OWN, *self.columns} - set(known):
            await self._connection.call(lambda sessions: sessions.run_all(self._missing()))
            known = await self._known()
        wanted = {**_OWN, **{name: _TYPES[kind] for name, kind in self.columns.items()}}
        for name, right in wanted.items():
            if known.get(name) != right:
                message = f"column {name} of {self._table} is of type {known.get(name)} where {right} is right"
                raise StoreRefused(message)
        if self._removing is None:
            self._removing = asyncio.get_running_loop().create_task(self._remove_old())

    async def read(self, ids: Sequence[str], columns: Sequence[str]) -> StoredRows:
        """Return rows."""
        check_known(columns, self.columns)
        check_ids(ids, are_distinct=False)
        names = "".join(f', "{each}"' for each in columns)
        statement = f"SELECT id, version{names} FROM {self._table} WHERE id = ANY(%(ids)s) AND deleted_at IS NULL"  # noqa: S608  names are checked
        found: dict[object, Sequence[object]] = {}
        for start in range(0, len(ids), READ_MAX):
            for own, *values in await self._run(statement, {"ids": list(ids[start : start + READ_MAX])}):
                found[own] = values
        rows = [found.get(each) for each in ids]
        versions = [None if each is None else cast("int", each[0]) for each in rows]
        return StoredRows(
            versions,
            {
                name: [None if each is None else _stored(each[place]) for each in rows]
                for place, name in enumerate(columns, 1)
            },
        )

    async def scan(self, cursor: str) -> ScannedIds:
        """Return the next page, in the order of the primary key."""
        statement = (
            f"SELECT id, version FROM {self._table} WHERE id > %(after)s AND deleted_at IS NULL "  # noqa: S608  names are checked
            f"ORDER BY id LIMIT {SCAN_ROWS}"
        )
        found = await self._run(statement, {"after": cursor})
        ids, versions = [str(own) for own, _ in found], [cast("int", each) for _, each in found]
        return ScannedIds(ids, versions, ids[-1] if len(ids) == SCAN_ROWS else None)

    async def write(self, rows: StoreRows, version: int) -> None:
        """Replace rows of lower versions, ``WRITTEN_MAX`` at a time."""
        check_version(version)
        columns = await columns_in_turns(rows, self.columns)
        order = sorted(range(len(rows.ids)), key=lambda place: rows.ids[place])
        for turn in turns_of(len(order), max(len(columns), VALUES_MAX // WRITTEN_MAX), VALUES_MAX):
            places = order[turn.start : turn.stop]
            values: dict[str, object] = {"version": version, "ids": _array([rows.ids[each] for each in places])}
            for number, name in enumerate(self.columns):
                values[f"c{number}"] = _array([columns[name][each] for each in places])
                await asyncio.sleep(0)
            await self._run(self._write, values)

    async def delete(self, ids: Sequence[str], version: int) -> None:
        """Replace rows of lower versions by a fence."""
        check_version(version)
        check_ids(ids, are_distinct=True)
        cleared = "".join(f', "{each}" = NULL' for each in self.columns)
        statement = (
            f"INSERT INTO {self._table} AS stored (id, version, deleted_at) "  # noqa: S608  names are checked
            "SELECT given, %(version)s, now() FROM unnest(%(ids)s::text[]) AS given "
            f"ON CONFLICT (id) DO UPDATE SET version = EXCLUDED.version, deleted_at = EXCLUDED.deleted_at{cleared} "
            "WHERE stored.version < EXCLUDED.version"
        )
        order = sorted(ids)
        for start in range(0, len(order), WRITTEN_MAX):
            await self._run(statement, {"version": version, "ids": _array(order[start : start + WRITTEN_MAX])})

    async def position(self, name: str) -> str | None:
        """Return what was set."""
        statement = f"SELECT position FROM {self._positions} WHERE table_name = %(table)s AND name = %(name)s"  # noqa: S608  as above
        found = await self._run(statement, {"table": self._name, "name": name})
        return str(found[0][0]) if found else None

    async def set_position(self, name: str, position: str) -> None:
        """Keep it."""
        statement = (
            f"INSERT INTO {self._positions} VALUES (%(table)s, %(name)s, %(position)s) "  # noqa: S608  as above
            "ON CONFLICT (table_name, name) DO UPDATE SET position = EXCLUDED.position"
        )
        await self._run(statement, {"table": self._name, "name": name, "position": position})

    async def close(self) -> None:
        """Close all sessions."""
        if self._removing is not None:
            self._removing.cancel()
            await asyncio.gather(self._removing, return_exceptions=True)
        await self._connection.close()

    async def _run(self, statement: str, values: dict[str, object]) -> Sequence[Sequence[object]]:
        return await self._connection.call(lambda sessions: sessions.run(statement, values))

    async def _known(self) -> Mapping[str, str]:
        """Return the type of each column that the table has, of none where there is no table.

        Raises:
            StoreRefused: There is one, which was not created here.
        """
        statement = (
            "SELECT attname, format_type(atttypid, atttypmod), obj_description(attrelid, 'pg_class') FROM pg_attribute "
            "WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped"
        )
        found = await self._run(statement, {"table": self._table})
        if any(mark != MARK for _, _, mark in found):
            message = (
                f"{self._table} was not created by midstream and is left as it is; give the sink a table of its own "
                f"(`table`). A table that is midstream's has the comment '{MARK}'"
            )
            raise StoreRefused(message)
        return {str(name): str(kind) for name, kind, _ in found}

    def _missing(self) -> Sequence[str]:
        """Return the statements that create what lacks; they fail where somebody else's table has come meanwhile."""
        own = "".join(f', "{name}" {_TYPES[kind]}' for name, kind in self.columns.items())
        return (
            f"SELECT pg_advisory_xact_lock({_LOCK})",
            (
                f"DO $$ BEGIN IF to_regclass('{self._table}') IS NULL THEN "
                f'CREATE TABLE {self._table} (id text COLLATE "C" PRIMARY KEY, version bigint NOT NULL, '
                f"deleted_at timestamptz{own}) WITH (fillfactor = 70); "
                f"COMMENT ON TABLE {self._table} IS '{MARK}'; "
                f"CREATE INDEX ON {self._table} (deleted_at) WHERE deleted_at IS NOT NULL; "
                f"ELSIF obj_description(to_regclass('{self._table}'), 'pg_class') IS DISTINCT FROM '{MARK}' THEN "
                "RAISE EXCEPTION 'the table was not created by midstream'; END IF; END $$"
            ),
            *(
                f'ALTER TABLE {self._table} ADD COLUMN IF NOT EXISTS "{name}" {_TYPES[kind]}'
                for name, kind in self.columns.items()
            ),
            (
                f"CREATE TABLE IF NOT EXISTS {self._positions} "
                "(table_name text, name text, position text NOT NULL, PRIMARY KEY (table_name, name))"
            ),
        )

    async def _remove_old(self) -> None:
        """Remove fences that are older than ``FENCE_DAYS``; what a failure leaves is removed by the next start."""
        statement = (
            f"WITH gone AS (DELETE FROM {self._table} WHERE id IN (SELECT id FROM {self._table} "  # noqa: S608  names are checked
            f"WHERE deleted_at < now() - interval '{FENCE_DAYS} days' LIMIT {REMOVED_MAX}) "
            f"AND deleted_at < now() - interval '{FENCE_DAYS} days' RETURNING 1) SELECT count(*) FROM gone"
        )
        with suppress(StoreUnavailable):
            removed = True
            while removed:
                removed = bool((await self._run(statement, {}))[0][0])


def _write_statement(table: str, columns: Mapping[str, StoreKind]) -> str:
    """Return the upsert; lists of texts are sent as JSON, since an array of arrays of other lengths is none."""
    names = "".join(f', "{each}"' for each in columns)
    arrays = "".join(
        f", %(c{number})s::{'text' if kind == 'texts' else _TYPES[kind]}[]"
        for number, kind in enumerate(columns.values())
    )
    given = "".join(f", c{number}" for number in range(len(columns)))
    taken = "".join(
        f", CASE WHEN c{number} IS NULL THEN NULL ELSE ARRAY(SELECT jsonb_array_elements_text(c{number}::jsonb)) END"
        if kind == "texts"
        else f", c{number}"
        for number, kind in enumerate(columns.values())
    )
    replaced = "".join(f', "{each}" = EXCLUDED."{each}"' for each in columns)
    return (
        f"INSERT INTO {table} AS stored (id, version{names}) "  # noqa: S608  names are checked
        f"SELECT own, %(version)s{taken} FROM unnest(%(ids)s::text[]{arrays}) AS given (own{given}) "
        f"ON CONFLICT (id) DO UPDATE SET version = EXCLUDED.version, deleted_at = NULL{replaced} "
        "WHERE stored.version < EXCLUDED.version"
    )


def _array(values: Sequence[StoredValue]) -> str:
    r"""Return values of one column as the text of an array; a list of texts is one text of JSON.

    Example:
        >>> print(_array([0.5, None, 'a "lamp"', ("red",)]))
        {0.5,NULL,"a \"lamp\"","[\"red\"]"}
    """
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: StoredValue) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (float, int)):
        return repr(value)
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _stored(value: object) -> StoredValue:
    """Return a value as it came from the client library, which has lists for arrays."""
    return tuple(cast("list[str]", value)) if isinstance(value, list) else cast("StoredValue", value)
