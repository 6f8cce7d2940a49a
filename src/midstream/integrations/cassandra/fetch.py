"""Fetch of columns from Apache Cassandra: a table of the shop's whose partition key is a column of ids."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from midstream.core.field_bounds import Name, TextBytes
from midstream.engine.stores.connector import Connector
from midstream.engine.stores.fetched_values import FetchedText, IdKind, column_of, keys_of, named_fields
from midstream.integrations.cassandra.connection import CassandraServer, CassandraSession, Consistency, connection_of

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,47}")
READ_MAX = 50
"""Partitions of one statement: 200 items are four, which nodes answer at once."""


class CassandraFetchOptions(
    CassandraServer, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="cassandra"
):
    """``component = { kind = "cassandra", … }``."""

    table: str = ""
    """Table, with its keyspace where the address has none: ``stock`` or ``shop.stock``."""
    id: str = "id"
    """Column of the ids: the whole primary key."""
    id_type: IdKind = "text"
    consistency: Consistency = "local_one"
    fields: dict[Name, Annotated[str, TextBytes(48)]] = msgspec.field(default_factory=dict[str, str])
    """Name of a column in the table, where it is another one: ``{ stock = "qty" }``."""


class CassandraFetch:
    """A ``Fetch`` of the columns of some ids by few statements at once."""

    def __init__(self, options: CassandraFetchOptions, kinds: Mapping[str, str]) -> None:
        """Prepare; nobody is asked."""
        self.options = options
        self.kinds = dict(kinds)
        names = ", ".join(f'"{each}"' for each in (options.id, *named_fields(kinds, options.fields)))
        table = ".".join(f'"{each}"' for each in options.table.split("."))
        self.statement = f'SELECT {names} FROM {table} WHERE "{options.id}" IN ?'  # noqa: S608  names are checked

    def __eq__(self, other: object) -> bool:
        """Return whether another one asks the same."""
        return isinstance(other, CassandraFetch) and (self.options, self.kinds) == (other.options, other.kinds)

    __hash__ = None  # type: ignore[assignment]

    def connection(self) -> Connector[CassandraSession]:
        """Return the connector of the running event loop."""
        return connection_of(_server(self.options))

    async def fetch(self, ids: Sequence[str]) -> Mapping[str, Sequence[FetchedText]]:
        """Return each column; None = there is no such row, or no value in it.

        Raises:
            ShapeMismatch: A value is of another kind.
        """
        places = keys_of(ids, self.options.id_type)
        found: list[Sequence[object]] = [(None,) * len(self.kinds)] * len(ids)
        if places:
            for own, *row in await self.connection().call(lambda session: self._rows(session, list(places))):
                found[places[own]] = row
        return {
            name: column_of(name, kind, [row[place] for row in found], ids)
            for place, (name, kind) in enumerate(self.kinds.items())
        }

    async def _rows(self, session: CassandraSession, keys: Sequence[object]) -> Sequence[Sequence[object]]:
        chunks = [keys[start : start + READ_MAX] for start in range(0, len(keys), READ_MAX)]
        consistency = self.options.consistency
        answers = await asyncio.gather(*(session.run(self.statement, (each,), consistency) for each in chunks))
        return [row for answer in answers for row in answer]


def _server(options: CassandraFetchOptions) -> CassandraServer:
    """Return what decides the connection alone: fetches of one cluster share its session."""
    return CassandraServer(**{each: getattr(options, each) for each in CassandraServer.__struct_fields__})
