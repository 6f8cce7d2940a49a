"""Options of sinks: a table of rows in an online store, which columns it has, and how the store is reached."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
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
from midstream.integrations.cassandra.connection import SCHEME as CASSANDRA
from midstream.integrations.cassandra.connection import CassandraServer
from midstream.integrations.cassandra.fetch import IDENTIFIER as CQL_NAME
from midstream.integrations.cassandra.store import CassandraStoreOptions
from midstream.integrations.postgresql.connection import PORT as POSTGRESQL_PORT
from midstream.integrations.postgresql.connection import SCHEME as POSTGRESQL
from midstream.integrations.postgresql.connection import PostgresqlServer
from midstream.integrations.postgresql.store import POSITIONS, PostgresqlStoreOptions
from midstream.integrations.redis.connection import PORT as REDIS_PORT
from midstream.integrations.redis.connection import SCHEME as REDIS
from midstream.integrations.redis.connection import RedisServer
from midstream.integrations.redis.store import PREFIX, RedisStoreOptions, rows_prefix

AnyStore: TypeAlias = RedisStoreOptions | PostgresqlStoreOptions | CassandraStoreOptions
SINKS_MAX = 8
"""Each reads the whole log and, beside the memory of users, has 16 bytes of each."""
NAMES_MAX = 64
"""Of columns: as many as a placement of many features reads."""
_ADDRESSES: Mapping[type, tuple[str, int, str]] = {
    RedisStoreOptions: ("redis", REDIS_PORT, "0"),
    PostgresqlStoreOptions: ("postgresql", POSTGRESQL_PORT, "postgres"),
    CassandraStoreOptions: ("cassandra", CASSANDRA_PORT, ""),
}
"""Scheme, port and database where an address has none."""


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
    """Of the store, of this sink alone; "" = the name of the sink, behind ``midstream_`` where tables have schemas."""
    every: Annotated[Duration, Between("0s", "30s")] = Duration("1s")
    """Between two batches: a user who acts ten times in it is written once. It passes within a call that has 60 s."""
    refresh: Duration | None = None
    """Log time after which all rows are read anew, for values that fade or are of windows; not set = never."""

    @property
    def table_name(self) -> str:
        """Table of the store."""
        own = self.name if isinstance(self.store, RedisStoreOptions) else f"midstream_{self.name}"
        return self.table or own


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
    tables: dict[Hashable, str] = {}
    for number, sink in enumerate(sinks):
        where = f"$.sinks[{number}]"
        yield from _table_faults(sink, where)
        yield from _store_faults(sink.store, f"{where}.store")
        if has_columns:
            yield from column_faults(f"{where}.columns", sink.scope, sink.columns, features, attributes)
        if sink.refresh is not None and sink.refresh.ms < _REFRESH_MS_MIN:
            yield Fault(f"{where}.refresh", f'"{sink.refresh}" came.', "A minute or longer.", PAGE)
        other = tables.setdefault(_place_of(sink), sink.name)
        if other != sink.name:
            came = f'"{sink.table_name}" of the same store is the table of "{other}".'
            yield Fault(f"{where}.table", came, "A table for each sink: it holds the sink's position.", PAGE)
        yield from _nested_keys(sink, sinks[:number], where)


def _nested_keys(sink: SinkTable, others: Sequence[SinkTable], where: str) -> Iterator[Fault]:
    """Yield a fault where the keys of a table of Redis begin with those of another one: a scan has both."""
    server = _server_of(sink.store)
    if server is None or not isinstance(sink.store, RedisStoreOptions):
        return
    own = rows_prefix(sink.store.prefix, sink.table_name)
    for other in others:
        if not isinstance(other.store, RedisStoreOptions) or _server_of(other.store) != server:
            continue
        found = rows_prefix(other.store.prefix, other.table_name)
        if found != own and (found.startswith(own) or own.startswith(found)):
            came = f'The keys of this table begin with "{own}" and the keys of "{other.name}" with "{found}".'
            yield Fault(f"{where}.store.prefix", came, "Prefixes of which none begins the other's keys.", PAGE)


_REFRESH_MS_MIN = 60_000
"""A pass over the log takes seconds where the log is long."""


def _table_faults(sink: SinkTable, where: str) -> Iterator[Fault]:
    if not _is_table(sink.table_name) or sink.table_name == POSITIONS:
        place = f"{where}.table" if sink.table else f"{where}.name"
        came = f'"{sink.table_name}" is the name of a table.'
        right = f"{NAME_RIGHT[0].upper()}{NAME_RIGHT[1:]}, here or as table; not {POSITIONS}."
        yield Fault(place, came, right, PAGE)


def _is_table(name: str) -> bool:
    """Return whether a table or schema can have a name."""
    try:
        check_names(name, {})
    except ShapeMismatch:
        return False
    return True


def _store_faults(store: AnyStore, where: str) -> Iterator[Fault]:
    """Yield what is wrong with the options of a store."""
    yield from server_faults(store, where, PAGE)
    match store:
        case RedisStoreOptions():
            if not PREFIX.fullmatch(store.prefix):
                right = "1 to 64 letters, digits and _ . : - { }."
                yield Fault(f"{where}.prefix", f'"{store.prefix[:80]}" came.', right, PAGE)
        case PostgresqlStoreOptions():
            if not _is_table(store.schema):
                right = f"{NAME_RIGHT[0].upper()}{NAME_RIGHT[1:]}."
                yield Fault(f"{where}.schema", f'"{store.schema[:80]}" came as a schema.', right, PAGE)
        case CassandraStoreOptions():
            if "/" not in store.url.partition("://")[2].rstrip("/"):
                right = "The keyspace of the table: cassandra://db1,db2:9042/shop."
                yield Fault(f"{where}.url", "It has no keyspace.", right, PAGE)


def server_faults(server: RedisServer | PostgresqlServer | CassandraServer, where: str, page: str) -> Iterator[Fault]:
    """Yield what is wrong with the address of a store, its password and its authority."""
    match server:
        case RedisServer():
            scheme, example = REDIS, "redis://cache:6379/0"
        case PostgresqlServer():
            scheme, example = POSTGRESQL, "postgresql://reader@db:5432/shop"
        case _:
            scheme, example = CASSANDRA, "cassandra://db1,db2:9042/shop"
    right = f'An address such as "{example}"; the password is in a variable of the environment: password_env.'
    try:
        address = address_of(server.url, scheme, 1)
    except ValueError as error:
        yield Fault(f"{where}.url", str(error), right, page)
    else:
        if scheme == REDIS and not (address.path or "0").isdecimal():
            yield Fault(f"{where}.url", f'"{address.path}" came as the number of a database.', right, page)
        if scheme != CASSANDRA and len(address.hosts) > 1:
            yield Fault(f"{where}.url", f"{len(address.hosts)} hosts came.", "One host.", page)
        if scheme == CASSANDRA and address.path and not CQL_NAME.fullmatch(address.path):
            yield Fault(f"{where}.url", f'"{address.path}" came as a keyspace.', right, page)
        if scheme == CASSANDRA and server.password_env and not address.user:
            yield Fault(f"{where}.url", "It has no user, and there is a password.", right, page)
    if server.password_env and not is_environment_name(server.password_env):
        came = "It is no name of a variable of the environment."  # and may be the password itself
        yield Fault(f"{where}.password_env", came, 'The name of one: "SHOP_REDIS_PASSWORD".', page)
    if server.tls_ca and not server.tls:
        yield Fault(f"{where}.tls_ca", f'"{server.tls_ca}" came, and tls is false.', "tls = true.", page)


def _server_of(store: AnyStore) -> tuple[Hashable, ...] | None:
    """Return which database of which server a store is in, however its address is written; None = it is no address."""
    scheme, port, path = _ADDRESSES[type(store)]
    try:
        address = address_of(store.url, scheme, port)
    except ValueError:
        return None
    return scheme, tuple(sorted(map(str.lower, address.hosts))), address.port, address.path or path


def _place_of(sink: SinkTable) -> Hashable:
    """Return where the rows of a sink are, however its address is written."""
    store, server = sink.store, _server_of(sink.store)
    if server is None:
        return store.url, sink.table_name  # which is a fault of its own
    match store:
        case RedisStoreOptions():
            return *server, rows_prefix(store.prefix, sink.table_name)
        case PostgresqlStoreOptions():
            return *server, store.schema, sink.table_name
        case CassandraStoreOptions():
            return *server, sink.table_name
