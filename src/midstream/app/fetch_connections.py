"""Connections of fetches and of scorers on servers: opened at the start of a process that answers, closed at its end.

They are opened in the background. Those of a placement that is set later open with its first request.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from midstream.core.errors import ShapeMismatch
from midstream.core.protocols import Fetch, Scorer
from midstream.engine.stores.connector import Connector, close_connectors
from midstream.integrations.cassandra.fetch import CassandraFetch
from midstream.integrations.feast.fetch import FeastFetch
from midstream.integrations.hopsworks.fetch import HopsworksFetch
from midstream.integrations.model_servers.remote_scorer import RemoteScorer, misfit
from midstream.integrations.postgresql.fetch import PostgresqlFetch
from midstream.integrations.redis.fetch import RedisFetch
from midstream.ranking.plan import Plan

StoreFetch: TypeAlias = RedisFetch | PostgresqlFetch | CassandraFetch | FeastFetch | HopsworksFetch
"""Fetches that ask a store over a connection that is made here."""


def connection_of(component: Fetch | Scorer) -> Connector[Any] | None:
    """Return the connector of a component that asks a server, on the running event loop; None = it is another one."""
    if isinstance(component, StoreFetch | RemoteScorer):
        return component.connection()
    return None


def is_of_store(component: Fetch) -> bool:
    """Return whether a fetch asks a store over a connection that is made here."""
    return isinstance(component, StoreFetch)


async def open_connection(component: Fetch | Scorer, wait_s_max: float) -> None:
    """Wait until the server of a component is connected.

    Raises:
        StoreUnavailable: It is not by then.
        ExtraMissing: Its client library is not installed.
    """
    if (connection := connection_of(component)) is not None:
        await connection.opened(wait_s_max)


async def check_server(scorer: Scorer, columns: tuple[str, ...], wait_s_max: float) -> None:
    """Wait until the server of a scorer is connected, and compare its model with what is sent; others ask nobody.

    Args:
        scorer: Of a plan.
        columns: Of the plan's features.
        wait_s_max: Until it is connected.

    Raises:
        StoreUnavailable: It is not connected by then, or its model is not ready.
        ShapeMismatch: Its model has other tensors.
    """
    await open_connection(scorer, wait_s_max)
    if isinstance(scorer, RemoteScorer) and (told := await misfit(scorer, scorer.columns or columns)):
        raise ShapeMismatch(told)


class FetchConnections:
    """An ``EngineService``."""

    def __init__(self, plans: Callable[[], Iterable[Plan]]) -> None:
        """Take the plans in service, which are read at the start."""
        self._plans = plans

    def start(self) -> None:
        """Begin to connect; nothing waits for it."""
        for plan in self._plans():
            components: tuple[Fetch | Scorer, ...] = (*(each.component for each in plan.fetches), *plan.scorers)
            for each in components:
                if (connection := connection_of(each)) is not None:
                    connection.start()

    async def stop(self) -> None:
        """Close the connections of this event loop."""
        await close_connectors()
