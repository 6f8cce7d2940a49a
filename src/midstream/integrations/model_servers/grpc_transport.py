"""Calls over gRPC by grpcio: one connection, which is kept alive, bounded answers, messages as bytes.

A call whose request is over is cancelled at the server as well. A server without a connection fails at once and is
tried again each second.
"""

from importlib import import_module
from typing import Any, TypeAlias

from midstream.core.errors import ExtraMissing
from midstream.integrations.model_servers.exchange import (
    ANSWER_BYTES_MAX,
    OK,
    Call,
    CallFailed,
    ServerReply,
    shown,
)
from midstream.monitoring.tracing import client_span, current

Metadata: TypeAlias = tuple[tuple[str, str], ...]
ALIVE_MS = 600_000
"""Between two questions whether the other end is there: connections without a call are cut after 15 minutes in some
networks, and servers refuse questions that come more often than every five."""
_OPTIONS = (
    ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", ALIVE_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class GrpcTransport:
    """Client of one server."""

    def __init__(self, address: str, wait_s_max: float, token: str | None) -> None:
        """Prepare a client; ``secure`` or ``plain`` gives it a channel."""
        self._address = address
        self._wait_s_max = wait_s_max
        self._metadata = None if token is None else (("authorization", f"Bearer {token}"),)
        self._channel: Any = None
        self._methods: dict[str, Any] = {}

    def plain(self) -> "GrpcTransport":
        """Use a channel without TLS."""
        self._channel = library().insecure_channel(self._address, options=_OPTIONS)
        return self

    def secure(self, authority: bytes | None) -> "GrpcTransport":
        """Use a channel with TLS; None = the authorities that the library knows."""
        grpc = import_module("grpc")
        credentials = grpc.ssl_channel_credentials(authority)
        self._channel = library().secure_channel(self._address, credentials, options=_OPTIONS)
        return self

    async def send(self, call: Call) -> ServerReply:
        """Return what the server answers.

        Raises:
            CallFailed: It does not, or with a status.
        """
        if (trace := current()) is None:
            return await self._sent(call, self._metadata)
        with client_span(trace, "model server", *self._address.removeprefix("dns:///").rsplit(":", 1)) as headers:
            return await self._sent(call, (*(self._metadata or ()), *headers.items()))

    async def _sent(self, call: Call, metadata: Metadata | None) -> ServerReply:
        method = self._methods.get(call.target)
        if method is None:
            method = self._methods[call.target] = self._channel.unary_unary(call.target)
        try:
            body: bytes = await method(call.body, timeout=self._wait_s_max, metadata=metadata)
        except library().AioRpcError as error:
            told = shown(str(error.details() or "").encode())
            raise CallFailed(f"{error.code().name}: {told}".rstrip(" :")) from error
        return ServerReply(OK, {}, body)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close(grace=None)


def library() -> Any:  # noqa: ANN401  its types are not asked for where it is absent
    """Return the asyncio part of grpcio.

    Raises:
        ExtraMissing: It is not installed.
    """
    try:
        return import_module("grpc.aio")
    except ImportError as error:
        message = "a model server over gRPC needs the extra `grpc`: pip install 'midstream[grpc]'"
        raise ExtraMissing(message) from error
