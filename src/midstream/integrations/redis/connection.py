"""Client of Redis or Valkey by ``redis-py`` on asyncio: a bounded pool that waits, and one repetition after a break.

All that is sent may be sent twice. Protocol 2 and commands of version 6.2 are used, which Valkey has as well.

Reference: https://redis.readthedocs.io/en/stable/examples/asyncio_examples.html
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib import import_module
from typing import Annotated, Any

import msgspec

from midstream.core.durations import Duration
from midstream.core.errors import ExtraMissing
from midstream.core.field_bounds import Between
from midstream.engine.stores.address import address_of, password_from
from midstream.engine.stores.connector import Connector, connector_of
from midstream.engine.stores.online_store import StoreRefused

SCHEME = "redis"
PORT = 6379
CONNECTIONS_MAX = 64
"""Of one process: Redis takes 10,000 clients, and one connection answers some thousand batches a second."""
TIMEOUT_S_MAX = "60s"
_HASHES = """
local rows = {}
for row = 1, #KEYS do
    rows[row] = redis.call('HMGET', KEYS[row], unpack(ARGV))
end
return rows
"""


class RedisServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Address of a server, and how it is spoken to."""

    url: str
    """``redis://user@host:6379/0``, without a password."""
    password_env: str = ""
    tls: bool = False
    tls_ca: str = ""
    """File of the authority that signed the server's certificate; empty = those of the system."""
    connections_max: Annotated[int, msgspec.Meta(ge=1, le=CONNECTIONS_MAX)] = 8
    give_up: Annotated[Duration, Between("50ms", TIMEOUT_S_MAX)] = Duration("1s")
    """After which a call is given up and its connection closed."""


def connection_of(server: RedisServer) -> Connector[Any]:
    """Return the connector of the running event loop to a server."""
    return connector_of(("redis", msgspec.json.encode(server, enc_hook=str)), lambda: new_connection(server))


def new_connection(server: RedisServer) -> Connector[Any]:
    """Return a connector of one's own, which is not opened."""
    name = f"Redis at {address_of(server.url, SCHEME, PORT).shown}"
    return Connector(name, lambda: _open(server), _close, _failures, server.give_up.ms / 1_000)


async def _open(server: RedisServer) -> Any:  # noqa: ANN401  the library's own type
    """Return a client that has answered a ping."""
    library, retry = _library()
    address, wait_s = address_of(server.url, SCHEME, PORT), server.give_up.ms / 1_000
    more: dict[str, object] = {}
    if server.tls:
        import ssl

        more = {
            "connection_class": library.SSLConnection,
            "ssl_ca_certs": server.tls_ca or None,
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
            "ssl_check_hostname": True,
        }
    pool = library.BlockingConnectionPool(
        host=address.hosts[0],
        port=address.port,
        db=int(address.path or 0),
        username=address.user or None,
        password=password_from(server.password_env),
        max_connections=server.connections_max,
        timeout=wait_s,
        socket_timeout=wait_s,
        socket_connect_timeout=wait_s,
        socket_keepalive=True,
        protocol=2,
        retry=retry,
        **more,
    )
    async with AsyncExitStack() as undo:
        client = library.Redis.from_pool(pool)
        undo.push_async_callback(client.aclose)
        try:
            await client.ping()
        except library.AuthenticationError as error:
            message = f"Redis at {address.shown} refuses the client: {error}"
            raise StoreRefused(message) from error
        undo.pop_all()
        return client


async def hashes_of(client: Any, keys: Sequence[str], fields: Sequence[str]) -> Sequence[Sequence[bytes | None]]:  # noqa: ANN401  of the library
    """Return fields of hashes, by one script: 200 commands cost this process 3.0 ms of CPU, one with 200 keys 0.3 ms.

    Where a user may run no script, or a cluster has the keys in several slots, each hash is a command.
    """
    errors = _module("redis.exceptions")
    try:
        found: Sequence[Sequence[bytes | None]] = await client.register_script(_HASHES)(keys=keys, args=fields)
    except (errors.NoPermissionError, errors.ClusterCrossSlotError):
        pipeline = client.pipeline(transaction=False)
        for each in keys:
            pipeline.hmget(each, fields)
        found = await pipeline.execute()
    return found


async def _close(client: Any) -> None:  # noqa: ANN401  as above
    await client.aclose()


def _failures() -> tuple[type[Exception], ...]:
    return OSError, _library()[0].RedisError


def _library() -> tuple[Any, Any]:
    """Return the client library, and one repetition at once: a connection of the pool may be of a server that ended."""
    once = _module("redis.asyncio.retry").Retry(_module("redis.backoff").NoBackoff(), 1)
    return _module("redis.asyncio"), once


def _module(name: str) -> Any:  # noqa: ANN401  its types are not asked for where it is absent
    try:
        return import_module(name)
    except ImportError as error:
        message = "Redis needs the extra `redis`: pip install 'midstream[redis]'"
        raise ExtraMissing(message) from error
