"""Connections of fetches: opened in the background at the start of a process that answers, closed at its end.

Those of a placement that is set later open with its first request.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from midstream.core.protocols import Fetch
from midstream.engine.stores.connector import Connector, close_connectors
from midstream.integrations.cassandra.fetch import CassandraFetch
from midstream.integrations.feast.fetch import FeastFetch
from midstream.integrations.hopsworks.fetch import HopsworksFetch
from midstream.integrations.postgresql.fetch import PostgresqlFetch
from midstream.integrations.redis.fetch import RedisFetch
from midstream.ranking.plan import Plan

StoreFetch: TypeAlias = RedisFetch | PostgresqlFetch | CassandraFetch | FeastFetch | HopsworksFetch
"""Fetches that ask a store over a connection that is made here."""


def connection_of(component: Fetch) -> Connector[Any] | None:
    """Return the connector of a fetch from a store, on the running event loop; None = the fetch is another one."""
    return component.connection() if isinstance(component, StoreFetch) else None


def is_of_store(component: Fetch) -> bool:
    """Return whether a fetch asks a store over a connection that is made here."""
    return isinstance(component, StoreFetch)


async def open_connection(component: Fetch, wait_s_max: float) -> None:
    """Wait until the store of a fetch is connected.

    Raises:
        StoreUnavailable: It is not by then.
        ExtraMissing: Its client library is not installed.
    """
    if (connection := connection_of(component)) is not None:
        await connection.opened(wait_s_max)


class FetchConnections:
    """An ``EngineService``."""

    def __init__(self, plans: Callable[[], Iterable[Plan]]) -> None:
        """Take the plans in service, which are read at the start."""
        self._plans = plans

    def start(self) -> None:
        """Begin to connect; nothing waits for it."""
        for plan in self._plans():
            for each in plan.fetches:
                if (connection := connection_of(each.component)) is not None:
                    connection.start()

    async def stop(self) -> None:
        """Close the connections of this event loop."""
        await close_connectors()
