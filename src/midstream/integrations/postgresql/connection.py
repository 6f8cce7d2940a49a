"""Sessions of PostgreSQL by psycopg 3 on asyncio: a bounded pool that opens them as they are needed.

Each call is one statement in a transaction of its own, which may be sent twice; so a session that turns out to be of
a server that has ended is left, and the statement goes to a new one once.

Behind PgBouncer in transaction mode nothing may be left in a session: no statement is prepared, and the server is not
told how long one may take, so the client alone gives it up.

Reference: https://www.psycopg.org/psycopg3/docs/advanced/prepare.html
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

import msgspec

from midstream.core.durations import Duration
from midstream.core.errors import ExtraMissing
from midstream.core.field_bounds import Between
from midstream.engine.stores.address import address_of, password_from
from midstream.engine.stores.connector import Connector, connector_of

SCHEME = "postgresql"
PORT = 5432
CONNECTIONS_MAX = 32
"""Of one process: PostgreSQL takes 100 sessions by default, each a process of its own."""
TIMEOUT_S_MAX = "60s"
PREPARED_AFTER = 2
"""Uses of a statement before it is prepared in its session: all that are sent here come again."""
Row = Sequence[Any]


class PostgresqlServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Address of a server, and how it is spoken to."""

    url: str
    """``postgresql://user@host:5432/database``, without a password."""
    password_env: str = ""
    tls: bool = False
    """The server shows a certificate for its name."""
    tls_ca: str = ""
    """File of the authority that signed the server's certificate; empty = those of the system."""
    pooler: bool = False
    """A pooler in transaction mode, such as PgBouncer, stands between: no statement is prepared."""
    connections_max: Annotated[int, msgspec.Meta(ge=1, le=CONNECTIONS_MAX)] = 4
    give_up: Annotated[Duration, Between("50ms", TIMEOUT_S_MAX)] = Duration("1s")
    """After which a statement is given up and its session closed."""


def connection_of(server: PostgresqlServer) -> Connector["PostgresqlSessions"]:
    """Return the connector of the running event loop to a server whose rows are only read."""
    key = "postgresql", msgspec.json.encode(server, enc_hook=str)
    return connector_of(key, lambda: new_connection(server, is_read_only=True))


def new_connection(server: PostgresqlServer, *, is_read_only: bool) -> Connector["PostgresqlSessions"]:
    """Return a connector of one's own, which is not opened."""

    async def make() -> PostgresqlSessions:
        async with AsyncExitStack() as undo:
            sessions = PostgresqlSessions(server, is_read_only=is_read_only)
            undo.push_async_callback(sessions.close)
            await sessions.run("SELECT 1", {})
            undo.pop_all()
            return sessions

    name = f"PostgreSQL at {address_of(server.url, SCHEME, PORT).shown}"
    return Connector(name, make, PostgresqlSessions.close, _failures, server.give_up.ms / 1_000)


class PostgresqlSessions:
    """A pool of sessions of one server; a session that failed, or whose call was cut off, is closed."""

    def __init__(self, server: PostgresqlServer, *, is_read_only: bool) -> None:
        """Prepare a pool without sessions."""
        self._library = library()
        self._type = _session_type()
        self._settings = session_settings(server, is_read_only=is_read_only)
        self._room = asyncio.Semaphore(server.connections_max)
        self._idle: list[Any] = []

    async def run(self, statement: str, values: dict[str, object]) -> Sequence[Row]:
        """Return the rows of one statement, those of none where it has no result."""
        is_used = bool(self._idle)
        try:
            return await self._run(statement, values)
        except self._library.OperationalError:
            if not is_used:
                raise
            await self._drop_idle()
            return await self._run(statement, values)

    async def run_all(self, statements: Sequence[str]) -> None:
        """Run statements without values in one transaction."""
        async with self._session() as session, session.transaction():
            for each in statements:
                await session.execute(each)

    async def close(self) -> None:
        """Close all sessions that no call has; those of calls are closed by them."""
        self._room = asyncio.Semaphore(0)
        await self._drop_idle()

    async def _run(self, statement: str, values: dict[str, object]) -> Sequence[Row]:
        async with self._session() as session:
            cursor = await session.execute(statement, values)
            rows: Sequence[Row] = await cursor.fetchall() if cursor.description is not None else ()
            return rows

    @asynccontextmanager
    async def _session(self) -> AsyncGenerator[Any]:
        async with self._room:
            session = self._idle.pop() if self._idle else await self._type.connect(**self._settings)
            is_right = False
            try:
                yield session
                is_right = not session.broken and not session.closed
            except self._library.OperationalError:
                raise
            except self._library.Error:  # the statement's fault, or its values'
                is_right = not session.broken and not session.closed
                raise
            finally:
                if is_right:
                    self._idle.append(session)
                else:
                    await session.close()

    async def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for each in idle:
            await each.close()


def session_settings(server: PostgresqlServer, *, is_read_only: bool) -> dict[str, object]:
    """Return how a session is opened."""
    address = address_of(server.url, SCHEME, PORT)
    settings: dict[str, object] = {
        "host": ",".join(address.hosts),
        "port": address.port,
        "dbname": address.path or "postgres",
        "application_name": "midstream",
        "autocommit": True,
        "prepare_threshold": None if server.pooler else PREPARED_AFTER,
        "connect_timeout": 2,  # whole seconds, and one is rounded up to it
        "keepalives_idle": 10,
        "sslmode": "verify-full" if server.tls else "prefer",
    }
    if address.user:
        settings["user"] = address.user
    if (password := password_from(server.password_env)) is not None:
        settings["password"] = password
    if server.tls:
        settings["sslrootcert"] = server.tls_ca or "system"
    if not server.pooler:
        options = f"-c statement_timeout={server.give_up.ms}"
        settings["options"] = f"{options} -c default_transaction_read_only=on" if is_read_only else options
    return settings


def _failures() -> tuple[type[Exception], ...]:
    return OSError, library().Error


def library() -> Any:  # noqa: ANN401  its types are not asked for where it is absent
    """Return the client library.

    Raises:
        ExtraMissing: It is not installed.
    """
    try:
        import psycopg
    except ImportError as error:
        message = "PostgreSQL needs the extra `postgresql`: pip install 'midstream[postgresql]'"
        raise ExtraMissing(message) from error
    return psycopg


def _session_type() -> Any:  # noqa: ANN401  as above
    import psycopg

    class Session(psycopg.AsyncConnection[Any]):
        """A session whose statement is not waited for any more once it is cut off: the session is closed."""

        async def cancel_safe(self, *, timeout: float = 0.0) -> None:  # noqa: ASYNC109  as the library calls it
            raise asyncio.CancelledError

    return Session
