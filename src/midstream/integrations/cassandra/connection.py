"""Session of Apache Cassandra by its own driver, whose callbacks are brought to the event loop.

Connecting and preparing block, so both are done in a thread, at the start. The driver prepares a statement again that a
node has forgotten; where it cannot, such as after a change of the table, the statement is prepared anew here, once.

The driver's own thread does the input and output, of which each answer costs some 50 µs of the interpreter: few larger
statements are quicker than many small ones.

Reference: https://docs.datastax.com/en/developer/python-driver/latest/api/cassandra/cluster/
"""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Annotated, Any, Literal

import msgspec

from midstream.core.durations import Duration
from midstream.core.errors import ExtraMissing
from midstream.core.field_bounds import Between
from midstream.engine.stores.address import address_of, password_from
from midstream.engine.stores.connector import Connector, connector_of
from midstream.engine.stores.online_store import StoreRefused

SCHEME = "cassandra"
PORT = 9042
TIMEOUT_S_MAX = "60s"
QUERIES_MAX = 64
"""Under way at once, of one session: further ones wait here and not in the driver, which has no bound."""
CONNECT_S_MAX = 3.0
"""Of one connection; a start makes several."""
HEARTBEAT_S = 2
"""Between two looks at an idle connection, and for each: a node that stands still is left within four seconds."""
AGAIN_S = 1.0
"""Between two attempts to reach a node that is down."""
Consistency = Literal["one", "local_one", "quorum", "local_quorum"]


class CassandraServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Addresses of some nodes, and how they are spoken to."""

    url: str
    """``cassandra://user@host1,host2:9042/keyspace``, without a password."""
    password_env: str = ""
    tls: bool = False
    tls_ca: str = ""
    """File of the authority that signed the nodes' certificates; empty = those of the system."""
    datacenter: str = ""
    """Nearest data centre, whose nodes are asked; empty = all nodes are near."""
    give_up: Annotated[Duration, Between("50ms", TIMEOUT_S_MAX)] = Duration("1s")
    """After which a call is given up."""


def connection_of(server: CassandraServer) -> Connector["CassandraSession"]:
    """Return the connector of the running event loop to a cluster."""
    return connector_of(("cassandra", msgspec.json.encode(server, enc_hook=str)), lambda: new_connection(server))


def new_connection(server: CassandraServer) -> Connector["CassandraSession"]:
    """Return a connector of one's own, which is not opened."""
    address = address_of(server.url, SCHEME, PORT)

    async def make() -> CassandraSession:
        opening = asyncio.get_running_loop().run_in_executor(None, _connected, server)
        with contextlib.ExitStack() as undo:
            undo.callback(opening.add_done_callback, _end_late)
            session = CassandraSession(await asyncio.shield(opening), server)
            undo.pop_all()
            return session

    return Connector(
        f"Cassandra at {address.shown}", make, CassandraSession.close, _failures, server.give_up.ms / 1_000
    )


def _tls_of(server: CassandraServer) -> Any:  # noqa: ANN401  of a module that is dear to import
    """Return the context of encrypted connections, None = they are not."""
    if not server.tls:
        return None
    import ssl

    return ssl.create_default_context(cafile=server.tls_ca or None)


class CassandraSession:
    """A session, its prepared statements, and the queries that are under way."""

    def __init__(self, session: Any, server: CassandraServer) -> None:  # noqa: ANN401  of the library
        """Take a session that is connected."""
        self._session = session
        self._wait_s = server.give_up.ms / 1_000
        self._prepared: dict[tuple[str, Consistency], Any] = {}
        self._room = asyncio.Semaphore(QUERIES_MAX)

    @property
    def keyspace(self) -> str:
        """Keyspace of the address."""
        return str(self._session.keyspace)

    async def prepare(self, statement: str, consistency: Consistency) -> None:
        """Prepare a statement in a thread, again where it is prepared already."""
        prepared = await asyncio.to_thread(self._session.prepare, statement)
        prepared.consistency_level = _level(consistency)
        prepared.is_idempotent = True
        self._prepared[statement, consistency] = prepared

    async def run(self, statement: str, values: Sequence[object], consistency: Consistency) -> Sequence[Sequence[Any]]:
        """Return the rows of a statement; it may be sent twice."""
        _, rows = await self._answer(statement, values, consistency, None)
        return rows

    async def page(
        self, statement: str, consistency: Consistency, cursor: str
    ) -> tuple[Sequence[Sequence[Any]], str | None]:
        """Return a page of the rows of a statement without values, and where the next one begins, None = nowhere.

        Args:
            statement: Without values.
            consistency: Of the read.
            cursor: Of the page before, empty = the first one.
        """
        asked, rows = await self._answer(statement, (), consistency, bytes.fromhex(cursor) or None)
        following: bytes | None = _module("cassandra.cluster").ResultSet(asked, rows).paging_state
        return rows, following.hex() if following else None

    async def run_plain(self, statement: str) -> None:
        """Run a statement without values in a thread, such as one that creates a table."""
        await asyncio.to_thread(self._session.execute, statement, timeout=self._wait_s)

    async def close(self) -> None:
        """End the driver's threads."""
        await asyncio.to_thread(self._session.cluster.shutdown)

    async def _answer(
        self, statement: str, values: Sequence[object], consistency: Consistency, paging_state: bytes | None
    ) -> tuple[Any, Sequence[Sequence[Any]]]:
        """Return the library's answer to a statement, and the rows of it that came."""
        if (statement, consistency) not in self._prepared:
            await self.prepare(statement, consistency)
        try:
            return await self._asked(self._prepared[statement, consistency], values, paging_state)
        except _driver_exception() as error:
            if not _is_unprepared(error):
                raise
            await self.prepare(statement, consistency)
            return await self._asked(self._prepared[statement, consistency], values, paging_state)

    async def _asked(
        self,
        prepared: Any,  # noqa: ANN401  of the library
        values: Sequence[object],
        paging_state: bytes | None,
    ) -> tuple[Any, Sequence[Sequence[Any]]]:
        async with self._room:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[Sequence[Sequence[Any]]] = loop.create_future()

            def give(rows: Sequence[Sequence[Any]] | None, error: Exception | None = None) -> None:
                with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
                    loop.call_soon_threadsafe(_settle, future, rows, error)

            asked = self._session.execute_async(prepared, values, timeout=self._wait_s, paging_state=paging_state)
            asked.add_callbacks(give, partial(give, None))
            return asked, await future


def _settle(
    future: asyncio.Future[Sequence[Sequence[Any]]], rows: Sequence[Sequence[Any]] | None, error: Exception | None
) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(rows or ())
    else:
        future.set_exception(error)


def _connected(server: CassandraServer) -> Any:  # noqa: ANN401  of the library
    """Return a session that has asked a node.

    Raises:
        StoreRefused: The password is wrong.
        Exception: No node answers.
    """
    library, policies = _module("cassandra.cluster"), _module("cassandra.policies")
    address = address_of(server.url, SCHEME, PORT)
    near = policies.DCAwareRoundRobinPolicy(server.datacenter) if server.datacenter else policies.RoundRobinPolicy()
    profile = library.ExecutionProfile(
        load_balancing_policy=policies.TokenAwarePolicy(near),
        consistency_level=_level("local_one"),
        request_timeout=server.give_up.ms / 1_000,
        row_factory=_module("cassandra.query").tuple_factory,
    )
    password = password_from(server.password_env)
    provider = None
    if password is not None:
        provider = _module("cassandra.auth").PlainTextAuthProvider(address.user, password)
    cluster = library.Cluster(
        list(address.hosts),
        address.port,
        auth_provider=provider,
        ssl_context=_tls_of(server),
        execution_profiles={library.EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=policies.ConstantReconnectionPolicy(AGAIN_S, None),
        idle_heartbeat_interval=HEARTBEAT_S,
        idle_heartbeat_timeout=HEARTBEAT_S,
        connect_timeout=CONNECT_S_MAX,
        control_connection_timeout=CONNECT_S_MAX,
    )
    with contextlib.ExitStack() as undo:
        undo.callback(cluster.shutdown)
        try:
            session = cluster.connect(address.path or None)
        except library.NoHostAvailable as error:
            refused = _module("cassandra").AuthenticationFailed
            if any(isinstance(each, refused) for each in dict(error.errors or {}).values()):
                message = f"Cassandra at {address.shown} refuses the client"
                raise StoreRefused(message) from error
            raise
        undo.pop_all()
        return session


def _end_late(opening: "asyncio.Future[Any]") -> None:
    """Close a session that came after nobody waited for it any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().cluster.shutdown()


def _level(consistency: Consistency) -> int:
    level: int = _module("cassandra").ConsistencyLevel.name_to_value[consistency.upper()]
    return level


def _driver_exception() -> type[Exception]:
    kind: type[Exception] = _module("cassandra").DriverException
    return kind


def _is_unprepared(error: Exception) -> bool:
    """Return whether a node does not know a prepared statement, or knows it otherwise (then the type is the base's)."""
    return isinstance(error, _module("cassandra").InvalidRequest) or type(error) is _driver_exception()


def _failures() -> tuple[type[Exception], ...]:
    connection = _module("cassandra.connection")
    return (
        OSError,
        _driver_exception(),
        _module("cassandra.cluster").NoHostAvailable,
        connection.ConnectionBusy,
        connection.ConnectionException,
        _module("cassandra.protocol").ErrorMessage,
    )


def _module(name: str) -> Any:  # noqa: ANN401  the library has no types
    try:
        return import_module(name)
    except ImportError as error:
        message = "Cassandra needs the extra `cassandra`: pip install 'midstream[cassandra]'"
        raise ExtraMissing(message) from error
