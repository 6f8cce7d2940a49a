"""Fetch of columns from PostgreSQL: a table or view of the shop's with a column of ids, or a query of the shop's.

Its sessions can only read. All ids of a call are one array, so the statement has one text and one plan.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from midstream.core.errors import ShapeMismatch
from midstream.core.field_bounds import Name, TextBytes
from midstream.engine.stores.connector import Connector
from midstream.engine.stores.fetched_values import FetchedText, IdKind, column_of, keys_of, named_fields
from midstream.integrations.postgresql.connection import PostgresqlServer, PostgresqlSessions, connection_of

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}")
QUERY_BYTES_MAX = 4_096
IDS = re.compile(r"(?<![:\w]):ids\b")
"""Place of the ids in a query; ``::ids`` would be a cast."""
_ARRAYS: Mapping[IdKind, str] = {"text": "text[]", "integer": "bigint[]", "uuid": "uuid[]"}


class PostgresqlFetchOptions(
    PostgresqlServer, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="postgresql"
):
    """``component = { kind = "postgresql", … }``."""

    table: str = ""
    """Table or view: ``stock`` or ``shop.stock``."""
    id: str = "id"
    """Column of the ids."""
    id_type: IdKind = "text"
    query: Annotated[str, msgspec.Meta(max_length=QUERY_BYTES_MAX)] = ""
    """Instead of a table: a query with ``:ids`` in it, an array, such as ``WHERE sku = ANY(:ids)``."""
    fields: dict[Name, Annotated[str, TextBytes(63)]] = msgspec.field(default_factory=dict[str, str])
    """Name of a column in the table, where it is another one: ``{ stock = "qty" }``."""


class PostgresqlFetch:
    """A ``Fetch`` of the columns of some ids by one statement."""

    def __init__(self, options: PostgresqlFetchOptions, kinds: Mapping[str, str]) -> None:
        """Prepare; nobody is asked."""
        self.options = options
        self.kinds = dict(kinds)
        self.statement = statement_of(options, kinds)

    def __eq__(self, other: object) -> bool:
        """Return whether another one asks the same."""
        return isinstance(other, PostgresqlFetch) and (self.options, self.kinds) == (other.options, other.kinds)

    __hash__ = None  # type: ignore[assignment]

    def connection(self) -> Connector[PostgresqlSessions]:
        """Return the connector of the running event loop."""
        return connection_of(_server(self.options))

    async def fetch(self, ids: Sequence[str]) -> Mapping[str, Sequence[FetchedText]]:
        """Return each column; None = there is no such row, or no value in it.

        Raises:
            ShapeMismatch: There are two rows of one id, or a value is of another kind.
        """
        places = keys_of(ids, self.options.id_type)
        rows: Sequence[Sequence[object]] = ()
        if places:
            values: dict[str, object] = {"ids": list(places)}
            rows = await self.connection().call(lambda sessions: sessions.run(self.statement, values))
        found: list[Sequence[object]] = [(None,) * len(self.kinds)] * len(ids)
        seen: set[object] = set()
        for own, *row in rows:
            if own in seen or own not in places:
                message = f"{'two rows' if own in seen else 'a row'} of {own!r} came where one of each id is right"
                raise ShapeMismatch(message)
            seen.add(own)
            found[places[own]] = row
        return {
            name: column_of(name, kind, [row[place] for row in found], ids)
            for place, (name, kind) in enumerate(self.kinds.items())
        }


def statement_of(options: PostgresqlFetchOptions, kinds: Mapping[str, str]) -> str:
    """Return the statement with ``%(ids)s`` in it; identifiers are those that were checked, within quotes.

    Example:
        >>> statement_of(PostgresqlFetchOptions(url="", table="shop.stock", id="sku"), {"stock": "number"})
        'SELECT "sku", "stock" FROM "shop"."stock" WHERE "sku" = ANY(%(ids)s::text[])'
    """
    ids = f"%(ids)s::{_ARRAYS[options.id_type]}"
    fields = [f'"{each}"' for each in (options.id, *named_fields(kinds, options.fields))]
    names = ", ".join(fields)
    if options.query:
        query = IDS.sub(lambda _: ids, options.query.replace("%", "%%").rstrip().rstrip(";"))
        return f"SELECT {names} FROM ({query}) AS asked"  # noqa: S608  the query is the operator's
    table = ".".join(f'"{each}"' for each in options.table.split("."))
    return f"SELECT {names} FROM {table} WHERE {fields[0]} = ANY({ids})"  # noqa: S608  names are checked


def _server(options: PostgresqlFetchOptions) -> PostgresqlServer:
    """Return what decides the connection alone: fetches of one server share its sessions."""
    return PostgresqlServer(**{each: getattr(options, each) for each in PostgresqlServer.__struct_fields__})
