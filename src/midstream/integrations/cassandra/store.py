"""Online store in Apache Cassandra: a partition a row, written with its version as the timestamp of all its cells.

Cassandra itself keeps of each cell what has the highest timestamp, and a row is written whole, so the fence costs
nothing. A value that is missing, and a row that is deleted, are tombstones, which last ``gc_grace_seconds``: the tables
that are made here have ``FENCE_DAYS``.

A table has ``MARK`` as its comment. One without it is somebody else's and is refused before anything in it is changed.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

from midstream.engine.stores.online_store import (
    FENCE_DAYS,
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
)
from midstream.integrations.cassandra.connection import CassandraServer, CassandraSession, Consistency, new_connection

WRITTEN_MAX = 200
"""Rows of one call: what takes longer than ``give_up`` is given up."""
WRITING_MAX = 32
"""Rows under way: half of what a session has room for, so that none waits there and then begins beside many others."""
READ_MAX = 50
"""Partitions of one statement, which one node collects; more at once weigh on it, and fewer on this process."""
POSITIONS = "midstream_positions"
MARK = "midstream: rows by id and version"
"""Comment of each table that was created here."""
_OWN = {"id": "text", "version": "bigint"}
_TYPES: Mapping[StoreKind, str] = {
    "number": "double",
    "integer": "bigint",
    "text": "text",
    "texts": "frozen<list<text>>",
}


class CassandraStoreOptions(
    CassandraServer, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="cassandra"
):
    """A store in Cassandra; its keyspace is there already."""

    consistency: Consistency = "local_quorum"
    """Of writes and reads: with a quorum for both, a read sees what was written before."""


class CassandraStore:
    """An ``OnlineStore``; see the module."""

    def __init__(self, options: CassandraStoreOptions, table: str, columns: Mapping[str, StoreKind]) -> None:
        """Prepare a client that is not connected.

        Raises:
            ShapeMismatch: A name is wrong.
        """
        check_names(table, columns)
        self.columns = dict(columns)
        self.left = 0
        self._name = table
        self._consistency: Consistency = options.consistency
        self._connection = new_connection(options)
        names = "".join(f', "{each}"' for each in columns)
        places = ", ?" * len(columns)
        self._select = f'SELECT id, version{names} FROM "{table}" WHERE id IN ?'  # noqa: S608  names are checked
        self._insert = f'INSERT INTO "{table}" (id, version{names}) VALUES (?, ?{places}) USING TIMESTAMP ?'  # noqa: S608  as above
        self._remove = f'DELETE FROM "{table}" USING TIMESTAMP ? WHERE id = ?'  # noqa: S608  as above

    async def open(self) -> None:
        """Connect, create what lacks, prepare."""
        await self._connection.opened()
        if not await self._is_created():
            await self._connection.call(self._create)
            await self._is_created()  # somebody else's may have come meanwhile
        known = await self._known()
        wanted = {**_OWN, **{name: _TYPES[kind] for name, kind in self.columns.items()}}
        for name, right in wanted.items():
            if name not in known and name not in _OWN:
                await self._connection.call(partial(self._add, name, right))
            elif known.get(name) != right:
                message = f"column {name} of {self._name} is of type {known.get(name)} where {right} is right"
                raise StoreRefused(message)
        for each in (self._select, self._insert, self._remove):
            await self._connection.call(
                partial(CassandraSession.prepare, statement=each, consistency=self._consistency)
            )

    async def read(self, ids: Sequence[str], columns: Sequence[str]) -> StoredRows:
        """Return rows."""
        check_known(columns, self.columns)
        check_ids(ids, are_distinct=False)
        own = list(dict.fromkeys(ids))
        chunks = [own[start : start + READ_MAX] for start in range(0, len(own), READ_MAX)]
        answers = await asyncio.gather(*(self._run(self._select, (each,)) for each in chunks))
        found = {row[0]: row for answer in answers for row in answer if row[1] is not None}
        rows = [found.get(each) for each in ids]
        places = {name: place for place, name in enumerate(self.columns, 2)}
        return StoredRows(
            [None if each is None else cast("int", each[1]) for each in rows],
            {name: [None if each is None else _stored(each[places[name]]) for each in rows] for name in columns},
        )

    async def scan(self, cursor: str) -> ScannedIds:
        """Return the next page, in the order of the tokens."""
        statement = f'SELECT id, version FROM "{self._name}"'  # noqa: S608  names are checked
        found, following = await self._connection.call(
            lambda session: session.page(statement, self._consistency, cursor)
        )
        rows = [each for each in found if each[1] is not None]
        return ScannedIds([str(own) for own, _ in rows], [int(each) for _, each in rows], following)

    async def write(self, rows: StoreRows, version: int) -> None:
        """Write rows with the version as their timestamp."""
        check_version(version)
        columns = await columns_in_turns(rows, self.columns)
        await self._run_all(
            self._insert,
            [
                (own, version, *(values[place] for values in columns.values()), version)
                for place, own in enumerate(rows.ids)
            ],
        )

    async def delete(self, ids: Sequence[str], version: int) -> None:
        """Write tombstones with the version as their timestamp."""
        check_version(version)
        check_ids(ids, are_distinct=True)
        await self._run_all(self._remove, [(version, each) for each in ids])

    async def position(self, name: str) -> str | None:
        """Return what was set."""
        found = await self._run(
            f"SELECT position FROM {POSITIONS} WHERE table_name = ? AND name = ?",  # noqa: S608  no name is the caller's
            (self._name, name),
        )
        return str(found[0][0]) if found else None

    async def set_position(self, name: str, position: str) -> None:
        """Keep it."""
        statement = f"INSERT INTO {POSITIONS} (table_name, name, position) VALUES (?, ?, ?)"  # noqa: S608  as above
        await self._run(statement, (self._name, name, position))

    async def close(self) -> None:
        """End the driver's threads."""
        await self._connection.close()

    async def _run(self, statement: str, values: Sequence[object]) -> Sequence[Sequence[StoredValue]]:
        return await self._connection.call(lambda session: session.run(statement, values, self._consistency))

    async def _run_all(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Run a statement for each row, ``WRITTEN_MAX`` in a call, each of which begins in a turn of its own."""
        for start in range(0, len(rows), WRITTEN_MAX):
            chunk = rows[start : start + WRITTEN_MAX]

            async def put(session: CassandraSession, chunk: Sequence[Sequence[object]] = chunk) -> None:
                begun: set[asyncio.Task[Sequence[Sequence[object]]]] = set()
                try:
                    for each in chunk:
                        begun.add(asyncio.create_task(session.run(statement, each, self._consistency)))
                        await asyncio.sleep(0)
                        if len(begun) >= WRITING_MAX:
                            done, begun = await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
                            await asyncio.gather(*done)
                    await asyncio.gather(*begun)
                finally:
                    for task in begun:
                        task.cancel()

            await self._connection.call(put)

    async def _known(self) -> Mapping[str, str]:
        """Return the type of each column that the table has."""
        found = await self._connection.call(
            lambda session: session.run(
                "SELECT column_name, type FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?",
                (session.keyspace, self._name),
                "local_one",
            )
        )
        return {str(name): str(kind) for name, kind in found}

    async def _is_created(self) -> bool:
        """Return whether the table and that of positions are there.

        Raises:
            StoreRefused: The table is there, and was not created here.
        """
        found = await self._connection.call(
            lambda session: session.run(
                "SELECT table_name, comment FROM system_schema.tables WHERE keyspace_name = ? AND table_name IN ?",
                (session.keyspace, [self._name, POSITIONS]),
                "local_one",
            )
        )
        comments = {str(name): str(comment) for name, comment in found}
        if comments.get(self._name, MARK) != MARK:
            message = (
                f"the table {self._name} was not created by midstream and is left as it is; give the sink a table of "
                f"its own (`table`). A table that is midstream's has the comment '{MARK}'"
            )
            raise StoreRefused(message)
        return {self._name, POSITIONS} <= comments.keys()

    async def _create(self, session: CassandraSession) -> None:
        own = "".join(f', "{name}" {_TYPES[kind]}' for name, kind in self.columns.items())
        await session.run_plain(
            f'CREATE TABLE IF NOT EXISTS "{self._name}" (id text PRIMARY KEY, version bigint{own}) '
            f"WITH gc_grace_seconds = {FENCE_DAYS * 86_400} AND comment = '{MARK}'"
        )
        await session.run_plain(
            f"CREATE TABLE IF NOT EXISTS {POSITIONS} "
            "(table_name text, name text, position text, PRIMARY KEY ((table_name, name)))"
        )

    async def _add(self, name: str, kind: str, session: CassandraSession) -> None:
        await session.run_plain(f'ALTER TABLE "{self._name}" ADD IF NOT EXISTS "{name}" {kind}')


def _stored(value: object) -> StoredValue:
    """Return a value as it came from the driver, which has lists for lists."""
    return tuple(cast("list[str]", value)) if isinstance(value, list) else cast("StoredValue", value)
