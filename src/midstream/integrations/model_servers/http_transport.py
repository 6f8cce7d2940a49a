"""Calls over HTTP by connections that are kept and used again; as many as callers have calls under way.

A connection that the server closed just now is noticed when it is used, so a call that got no byte on a used connection
is repeated once on a new one: to be scored twice does no harm. Proxies of the environment are not used, and
redirections are not followed.
"""

import asyncio
import ssl
from dataclasses import replace

from midstream.integrations.model_servers.exchange import Call, ServerReply
from midstream.integrations.model_servers.http_connection import HttpConnection
from midstream.integrations.model_servers.urls import ServerUrl
from midstream.monitoring.tracing import client_span, current

KEPT_S_MAX = 60.0
"""Of a connection without a call: proxies in between close theirs after a minute or more."""
CONNECT_S_MAX = 3.0


class HttpTransport:
    """Client of one address."""

    def __init__(self, url: ServerUrl, authority: ssl.SSLContext | None, token: str | None) -> None:
        """Prepare a client; nobody is asked.

        Args:
            url: Of the server.
            authority: Of TLS; None = there is none.
            token: Goes with each call.
        """
        self._url = url
        self._authority = authority
        self._idle: list[tuple[float, HttpConnection]] = []
        self._connections: set[HttpConnection] = set()
        secret = {} if token is None else {"authorization": f"Bearer {token}"}
        self._headers = {"accept-encoding": "identity", "user-agent": "midstream", **secret}

    async def send(self, call: Call) -> ServerReply:
        """Return what the server answers.

        Raises:
            AnswerInvalid: What came is no answer of HTTP, is too long, or compressed, which was not asked for.
            OSError: There is none.
        """
        if (trace := current()) is None:
            return await self._sent(call)
        with client_span(trace, "model server", self._url.host, self._url.port) as headers:
            return await self._sent(replace(call, headers={**call.headers, **headers}))

    async def _sent(self, call: Call) -> ServerReply:
        question = self._question(call)
        connection = self._kept()
        if connection is not None:
            try:
                return await self._asked(connection, question)
            except OSError:
                if connection.has_begun:
                    raise
        return await self._asked(await self._connected(), question)

    async def close(self) -> None:
        """Close all connections."""
        for each in self._connections:
            each.abort()
        self._connections.clear()
        self._idle.clear()

    async def _asked(self, connection: HttpConnection, question: bytes) -> ServerReply:
        """Return the answer on a connection, which is kept behind a whole one alone."""
        is_kept = False
        try:
            reply = await connection.ask(question)
            is_kept = connection.is_open
        finally:
            if is_kept:
                self._idle.append((asyncio.get_running_loop().time(), connection))
            else:
                self._drop(connection)
        return reply

    def _kept(self) -> HttpConnection | None:
        """Return the connection that was used last, and close those that are too old; None = there is none."""
        oldest = asyncio.get_running_loop().time() - KEPT_S_MAX
        while self._idle:
            since, connection = self._idle.pop()
            if connection.is_open and since >= oldest:
                return connection
            self._drop(connection)
        return None

    def _drop(self, connection: HttpConnection) -> None:
        connection.abort()
        self._connections.discard(connection)

    async def _connected(self) -> HttpConnection:
        loop, host = asyncio.get_running_loop(), self._url.host.strip("[]")
        name = host if self._authority else None
        opening = loop.create_connection(
            HttpConnection, host, self._url.port, ssl=self._authority, server_hostname=name
        )
        try:
            _, connection = await asyncio.wait_for(opening, CONNECT_S_MAX)
        except TimeoutError as error:
            message = f"no connection within {CONNECT_S_MAX:g} s"
            raise ConnectionError(message) from error
        self._connections.add(connection)
        return connection

    def _question(self, call: Call) -> bytes:
        method = "POST" if call.body else "GET"
        lines = [f"{method} {self._url.path}{call.target} HTTP/1.1", f"host: {self._url.shown}"]
        lines += [f"{name}: {value}" for name, value in (*self._headers.items(), *call.headers.items())]
        if call.body:
            lines.append(f"content-length: {len(call.body)}")
        return b"".join(("\r\n".join((*lines, "", "")).encode("latin-1"), call.body))


def authority_of(tls_ca: str) -> ssl.SSLContext:
    """Return what certificates of servers are held against. Cost: 20 ms, so this is not for the thread that answers.

    Args:
        tls_ca: File of the authority that signed them; empty = those of the system.
    """
    return ssl.create_default_context(cafile=tls_ca or None)
