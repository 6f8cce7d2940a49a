"""Online store in Redis or Valkey: a row is a hash, and a script compares versions and replaces it in one step.

The key of a row is ``prefix``, the table, a colon and the id; its fields are ``version``, ``_owner`` and the columns
that have a value: numbers as decimal text, lists of texts as JSON. A deleted row has ``deleted_at`` in place of
columns, and expires after ``FENCE_DAYS``.

The owner is a digest of log, prefix and table. A key alone does not tell whose a row is: the keys of another table may
begin with those of this one. What is there without this owner is not of this table: it is neither read, replaced nor
deleted, and counted where it is in the way.

Versions are compared as digits: numbers of Lua are float64, which do not tell 2^53 and 2^53 + 1 apart.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any

import msgspec

from midstream.core.errors import ShapeMismatch, StoreUnavailable
from midstream.engine.stores.online_store import (
    FENCE_DAYS,
    SCAN_ROWS,
    ScannedIds,
    StoredRows,
    StoredValue,
    StoreKind,
    StoreRows,
    check_ids,
    check_known,
    check_names,
    check_version,
    columns_in_turns,
    turns_of,
)
from midstream.integrations.redis.connection import RedisServer, hashes_of, new_connection

WRITTEN_MAX = 200
"""Rows of one script, for which everybody else waits: with ten columns about a millisecond."""
VALUES_MAX = 2_000
"""Values of one script, which are one argument: the client library takes a microsecond for each argument, at once."""
READ_MAX = 500
"""Rows of one round."""
OWNER = "_owner"
"""Field of whose a row is; no column begins with an underscore."""
_OWNER_BYTES = 8
"""Of the digest: few enough that a row stays a short hash, whose fields Redis keeps in one piece."""
PREFIX = re.compile(r"[A-Za-z0-9_.:{}-]{1,64}")
"""Never empty: a table's name and an id alone may well be the name of a key of the shop's."""
_FENCED = """
local version, expire, owner, left = ARGV[1], ARGV[2], ARGV[3], 0
local rows = cmsgpack.unpack(ARGV[4])
for row = 1, #KEYS do
    local kind = redis.call('TYPE', KEYS[row]).ok
    local found = kind == 'hash' and redis.call('HMGET', KEYS[row], 'version', '_owner') or {}
    local stored = found[1]
    if kind ~= 'none' and not (stored and string.find(stored, '^%d+$') and found[2] == owner) then
        left = left + 1
    elseif not stored or #stored < #version or (#stored == #version and stored < version) then
        redis.call('DEL', KEYS[row])
        redis.call('HSET', KEYS[row], 'version', version, '_owner', owner, unpack(rows[row]))
        if expire ~= '0' then
            redis.call('EXPIRE', KEYS[row], expire)
        end
    end
end
return left
"""


class RedisStoreOptions(RedisServer, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="redis"):
    """A store in Redis."""

    prefix: str = "midstream:"
    """Before each key: letters, digits and ``_ . : -``. A part in braces is a hash tag, which keeps all keys in one
    slot of a cluster: ``{midstream}:``."""


class RedisStore:
    """An ``OnlineStore``; see the module."""

    def __init__(self, options: RedisStoreOptions, table: str, columns: Mapping[str, StoreKind], log: str = "") -> None:
        """Prepare a client that is not connected.

        Args:
            options: Of the connection and the keys.
            table: Name in the keys.
            columns: By name.
            log: Public name of the log that the rows are of.

        Raises:
            ShapeMismatch: A name is wrong.
        """
        check_names(table, columns)
        if not PREFIX.fullmatch(options.prefix):
            message = f"prefix {options.prefix!r} came where 1 to 64 letters, digits and _ . : - {{ }} are right"
            raise ShapeMismatch(message)
        self.columns = dict(columns)
        self.left = 0
        self._rows = rows_prefix(options.prefix, table)
        self._owner = blake2b(f"{log} {self._rows}".encode(), digest_size=_OWNER_BYTES).hexdigest()
        self._positions = f"{options.prefix}{table}.positions"
        self._connection = new_connection(options)

    async def open(self) -> None:
        """Connect; a table is there as soon as it has a row."""
        await self._connection.opened()

    async def read(self, ids: Sequence[str], columns: Sequence[str]) -> StoredRows:
        """Return rows, those of a deleted one too as missing."""
        check_known(columns, self.columns)
        check_ids(ids, are_distinct=False)
        fields = ("version", OWNER, "deleted_at", *columns)
        found: list[Sequence[bytes | None]] = []
        for start in range(0, len(ids), READ_MAX):
            keys = [f"{self._rows}{each}" for each in ids[start : start + READ_MAX]]
            found.extend(await self._connection.call(partial(hashes_of, keys=keys, fields=fields)))
        rows = [None if (version := self._version(row)) is None else (version, row[3:]) for row in found]
        return StoredRows(
            [None if each is None else each[0] for each in rows],
            {
                name: [None if each is None else _decoded(self.columns[name], each[1][place]) for each in rows]
                for place, name in enumerate(columns)
            },
        )

    async def scan(self, cursor: str) -> ScannedIds:
        """Return the next page; ``SCAN`` goes over all keys of the database.

        Raises:
            StoreUnavailable: Also where another server answers than before, to which the cursor means nothing.
        """
        own, _, place = cursor.partition(" ")
        server = str((await self._connection.call(lambda client: client.info("server")))["run_id"])
        if cursor and server != own:
            message = "Redis was started anew while the ids of a table were read"
            raise StoreUnavailable(message)
        pattern = f"{self._rows}*"
        following, keys = await self._connection.call(
            lambda client: client.scan(int(place or 0), match=pattern, count=SCAN_ROWS, _type="hash")
        )
        found: dict[str, int] = {}
        for start in range(0, len(keys), READ_MAX):
            chunk = keys[start : start + READ_MAX]
            rows = await self._connection.call(partial(hashes_of, keys=chunk, fields=("version", OWNER, "deleted_at")))
            for key, row in zip(chunk, rows, strict=True):
                if (version := self._version(row)) is not None:
                    found[key.decode().removeprefix(self._rows)] = version
        return ScannedIds([*found], [*found.values()], f"{server} {following}" if following else None)

    def _version(self, row: Sequence[bytes | None]) -> int | None:
        """Return the version of a row from its first three fields; None = it is deleted, or none of this table."""
        version, owner, deleted = row[:3]
        is_own = version is not None and version.isdigit() and owner == self._owner.encode()
        return int(version) if version is not None and is_own and not deleted else None

    async def write(self, rows: StoreRows, version: int) -> None:
        """Replace rows of lower versions, ``WRITTEN_MAX`` at a time."""
        check_version(version)
        columns = await columns_in_turns(rows, self.columns)
        fields: list[list[str]] = []
        for places in turns_of(len(rows.ids), len(columns)):
            fields += [_fields(columns, place) for place in places]
            await asyncio.sleep(0)
        await self._put(rows.ids, fields, version, 0)

    async def delete(self, ids: Sequence[str], version: int) -> None:
        """Replace rows of lower versions by a fence, which expires."""
        check_version(version)
        check_ids(ids, are_distinct=True)
        await self._put(ids, [["deleted_at", str(version)]] * len(ids), version, FENCE_DAYS * 86_400)

    async def position(self, name: str) -> str | None:
        """Return what was set."""
        found: bytes | None = await self._connection.call(lambda client: client.hget(self._positions, name))
        return None if found is None else found.decode()

    async def set_position(self, name: str, position: str) -> None:
        """Keep it."""
        await self._connection.call(lambda client: client.hset(self._positions, name, position))

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()

    async def _put(self, ids: Sequence[str], fields: Sequence[Sequence[str]], version: int, expire_s: int) -> None:
        for places in turns_of(len(ids), max(len(self.columns), VALUES_MAX // WRITTEN_MAX), VALUES_MAX):
            keys = [f"{self._rows}{each}" for each in ids[places.start : places.stop]]
            rows = msgspec.msgpack.encode(fields[places.start : places.stop])
            told = (str(version), str(expire_s), self._owner, rows)

            async def put(client: Any, keys: Sequence[str] = keys, told: Sequence[str | bytes] = told) -> None:  # noqa: ANN401  of the library
                left = int(await client.register_script(_FENCED)(keys=keys, args=told))
                self.left += left

            await self._connection.call(put)


def rows_prefix(prefix: str, table: str) -> str:
    """Return what the keys of a table's rows begin with; the id follows."""
    return f"{prefix}{table}:"


def _fields(columns: Mapping[str, Sequence[StoredValue]], place: int) -> list[str]:
    """Return names and values of a row, one after the other; a value that is missing has no field."""
    return [
        text
        for name, values in columns.items()
        if (value := _encoded(values[place])) is not None
        for text in (name, value)
    ]


def _encoded(value: StoredValue) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode() if isinstance(value, tuple) else repr(value)


def _decoded(kind: StoreKind, value: bytes | None) -> StoredValue:
    if value is None:
        return None
    if kind == "number":
        return float(value)
    if kind == "integer":
        return int(value)
    return value.decode() if kind == "text" else tuple(msgspec.json.decode(value, type=list[str]))
