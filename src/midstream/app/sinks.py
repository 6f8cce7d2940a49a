"""Services of the configured sinks beside an engine, none of them started."""

from collections.abc import Callable, Mapping
from functools import partial

from midstream.app.config.schema import Config
from midstream.app.config.sinks import AnyStore, SinkTable
from midstream.engine.engine import Engine
from midstream.engine.erasure.eraser import Eraser
from midstream.engine.log_readers import FolderLog
from midstream.engine.outbox.log_relay import LogRelay, RelayOptions
from midstream.engine.sinks.feature_sink import FeatureSink
from midstream.engine.sinks.log_pieces import EVENTS_MAX
from midstream.engine.sinks.row_writer import RowWriter, SinkOptions
from midstream.engine.sinks.sink_group import RunningSink, SinkGroup
from midstream.engine.stores.online_store import OnlineStore, StoreKind
from midstream.integrations.cassandra.store import CassandraStore, CassandraStoreOptions
from midstream.integrations.postgresql.store import PostgresqlStore, PostgresqlStoreOptions
from midstream.integrations.redis.store import RedisStore


def sinks_of(config: Config, engine: Engine, eraser: Eraser, open_log: Callable[[], FolderLog]) -> SinkGroup:
    """Return the sinks of a configuration.

    Erasures ask them, so that no row outlives the ids by which it can be found.

    Args:
        config: Of the folder.
        engine: Its state is read.
        eraser: Rewrites its log.
        open_log: Opens a reader of the log as it is then.
    """
    is_shared = config.log.kind == "kafka"
    group = SinkGroup([sink_of(each, engine, open_log, is_shared=is_shared) for each in config.sinks], engine)
    if config.sinks:
        engine.listeners.add(group.listener)
        eraser.forgets.update(group.forgets)
    return group


def sink_of(told: SinkTable, engine: Engine, open_log: Callable[[], FolderLog], *, is_shared: bool) -> RunningSink:
    """Return one sink; of a shared log its table may be ahead of this node, as another one writes it too."""
    monotonic = engine.host.monotonic
    options = SinkOptions(
        name=told.name,
        scope=told.scope,
        columns=told.columns,
        every_s=told.every.ms / 1_000,
        refresh_ms=0 if told.refresh is None else told.refresh.ms,
    )
    writer = RowWriter(options, engine, partial(store_of, told.store, told.table_name, engine.liveness.log), monotonic)
    sink = FeatureSink(writer, engine.supervise, open_log, monotonic, is_shared=is_shared)
    relay = RelayOptions(
        name=f"sink_{told.name}",
        log=engine.liveness.log,
        start="now",
        is_shared=is_shared,
        events_max=EVENTS_MAX,
        move_command=f"midstream sinks backfill {told.name}",
    )
    kind = str(told.store.__struct_config__.tag)
    return RunningSink(sink, LogRelay(relay, engine, open_log, sink), kind, told.table_name)


def store_of(options: AnyStore, table: str, log: str, columns: Mapping[str, StoreKind]) -> OnlineStore:
    """Return a store that is not open.

    Args:
        options: Of the store.
        table: Its name.
        log: Public name of the log that the rows are of.
        columns: By name.
    """
    if isinstance(options, CassandraStoreOptions):
        return CassandraStore(options, table, columns)
    if isinstance(options, PostgresqlStoreOptions):
        return PostgresqlStore(options, table, columns)
    return RedisStore(options, table, columns, log)
