"""Options of sinks: a table of rows in an online store, which columns it has, and how the store is reached."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, TypeAlias

import msgspec

from midstream.app.config.bounds import distinct
from midstream.core.durations import Duration
from midstream.core.errors import Fault, ShapeMismatch
from midstream.core.field_bounds import Between, Length, Name
from midstream.engine.sinks.row_columns import PAGE, SinkScope, column_faults
from midstream.engine.stores.address import address_of, is_environment_name
from midstream.engine.stores.online_store import NAME_CHARS_MAX, NAME_RIGHT, check_names
from midstream.events.wire import AttributeKind
from midstream.features.kinds.kinds import AnyFeature
from midstream.integrations.cassandra.connection import PORT as CASSANDRA_PORT
from midstream.integrations.cassandra.store import CassandraStoreOptions
from midstream.integrations.postgresql.connection import PORT as POSTGRESQL_PORT
from midstream.integrations.postgresql.store import PostgresqlStoreOptions
from midstream.integrations.redis.connection import PORT as REDIS_PORT
from midstream.integrations.redis.store import RedisStoreOptions

AnyStore: TypeAlias = RedisStoreOptions | PostgresqlStoreOptions | CassandraStoreOptions
SINKS_MAX = 8
"""Each reads the whole log and, beside the memory of users, has 16 bytes of each."""
NAMES_MAX = 64
"""Of columns: as many as a placement of many features reads."""
_ADDRESSES: Mapping[type, tuple[str, int]] = {
    RedisStoreOptions: ("redis", REDIS_PORT),
    PostgresqlStoreOptions: ("postgresql", POSTGRESQL_PORT),
    CassandraStoreOptions: ("cassandra", CASSANDRA_PORT),
}


class SinkTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[[sinks]]``: rows of users or items that are written through to a store."""

    name: Name
    scope: SinkScope
    """``user`` or ``item``: whose rows."""
    columns: Annotated[tuple[str, ...], Length(1, NAMES_MAX)]
    """Declared features of that scope, and fields: user.country, row.recent_items, item.price, item.available."""
    store: AnyStore
    """``kind`` redis, postgresql or cassandra, and the options of that store."""
    table: Annotated[str, Length(0, NAME_CHARS_MAX, "characters")] = ""
    """Of the store, of this sink alone; "" = the name of the sink."""
    every: Annotated[Duration, Between("0s", "1h")] = Duration("1s")
    """Between two batches: a user who acts ten times in it is written once."""
    refresh: Duration | None = None
    """Log time after which all rows are read anew, for values that fade or are of windows; not set = never."""

    @property
    def table_name(self) -> str:
        """Table of the store."""
        return self.table or self.name


def sink_faults(
    sinks: Sequence[SinkTable],
    features: Sequence[AnyFeature],
    attributes: Mapping[str, AttributeKind],
    *,
    has_columns: bool,
) -> Iterator[Fault]:
    """Yield what is wrong with ``[[sinks]]``.

    Args:
        sinks: In the order of the file.
        features: Declared ones.
        attributes: Declared item attributes.
        has_columns: Whether the features are free of faults, so that columns can be looked at.
    """
    yield from distinct(((f"$.sinks[{number}].name", each.name) for number, each in enumerate(sinks)), page=PAGE)
    tables: dict[tuple[type, str, str], str] = {}
    for number, sink in enumerate(sinks):
        where = f"$.sinks[{number}]"
        yield from _table_faults(sink, where)
        yield from _store_faults(sink.store, f"{where}.store")
        if has_columns:
            yield from column_faults(f"{where}.columns", sink.scope, sink.columns, features, attributes)
        if sink.refresh is not None and sink.refresh.ms < _REFRESH_MS_MIN:
            yield Fault(f"{where}.refresh", f'"{sink.refresh}" came.', "A minute or longer.", PAGE)
        other = tables.setdefault((type(sink.store), sink.store.url, sink.table_name), sink.name)
        if other != sink.name:
            came = f'"{sink.table_name}" of the same store is the table of "{other}".'
            yield Fault(f"{where}.table", came, "A table for each sink: it holds the sink's position.", PAGE)


_REFRESH_MS_MIN = 60_000
"""A pass over the log takes seconds where the log is long."""


def _table_faults(sink: SinkTable, where: str) -> Iterator[Fault]:
    try:
        check_names(sink.table_name, {})
    except ShapeMismatch:
        place = f"{where}.table" if sink.table else f"{where}.name"
        came = f'"{sink.table_name}" is the name of a table.'
        yield Fault(place, came, f"{NAME_RIGHT[0].upper()}{NAME_RIGHT[1:]}, here or as table.", PAGE)


def _store_faults(store: AnyStore, where: str) -> Iterator[Fault]:
    scheme, port = _ADDRESSES[type(store)]
    try:
        address_of(store.url, scheme, port)
    except ValueError as error:
        right = f"{scheme}://user@host:{port}/name, and password_env for the password."
        yield Fault(f"{where}.url", str(error), right, PAGE)
    if store.password_env and not is_environment_name(store.password_env):
        right = "The name of a variable of the environment, such as STORE_PASSWORD."
        yield Fault(f"{where}.password_env", "It is no name of a variable.", right, PAGE)
