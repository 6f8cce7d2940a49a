"""HTTP proxy between processes of one server: requests and answers are passed on unchanged.

It uses a unix socket, with a few kept connections. Hop-by-hop headers (RFC 9110, 7.6.1) are not passed on; bodies are,
in pieces, no faster than the other side reads them. The receiving process validates bodies, so a refusal may come
before the end of one: then the rest is not sent.

Once a request is sent, its answer is awaited as long as the client waits: the other side will execute it, and its own
limits bound the time. A client that disconnects ends the connection, and so does the end of the other process; a
waiting client then gets an error that the request may have been executed.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httptools

from midstream.core.errors import MidstreamError, Overloaded
from midstream.monitoring.tracing import client_span, current
from midstream.serving.access.callers import CALLER_HEADER
from midstream.serving.cluster.unix_socket import connect_to
from midstream.serving.http.problems import Disconnected
from midstream.serving.http.responses import JSON, Message, Receive, Reply, Scope, Send

T = TypeVar("T")
_NOTHING_YET: Message = {"more_body": True}

LINES_MAX = 256
"""Requests in progress at the other process; each holds a client's connection, which are 1,000 at most."""
PIECE_BYTES_MAX = 262_144
"""Of an answer, read and not yet sent on."""
ANSWER_BYTES_MAX = 1 << 26
"""Of an answer that is wanted whole: metrics of many placements have a megabyte."""
LEADER_HOST = "leader"
"""In traces: the other end of a unix socket has no address."""
FIRST_S_MAX = 0.05
"""How long the head waits for the body's first piece, to go with it: nearly all come in one packet."""
_STAYS = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding"),
        *(b"upgrade", b"http2-settings", b"expect"),
    )
)


ENDED = "The process that takes events ended while it was asked; what was asked for may have been done all the same."
WATCH_S = 0.5
"""An answer that takes longer is waited for with an eye on the client; nearly all are there before and cost no task."""


class LeaderGone(MidstreamError):
    """The process that would have answered did not, or not in time."""


@dataclass(slots=True, eq=False)
class _Answer:
    """One answer as it arrives: callbacks of the parser."""

    parser: httptools.HttpResponseParser = field(init=False)
    has_no_body: bool
    """For ``HEAD``, whatever its headers are, which the parser cannot know."""
    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    pieces: list[bytes] = field(default_factory=list[bytes])
    has_head: bool = False
    is_whole: bool = False

    def __post_init__(self) -> None:
        """Wait for its first byte."""
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is there."""
        self.status = self.parser.get_status_code()
        self.has_head = True
        self.is_whole = self.has_no_body

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        """The answer is there."""
        self.is_whole = True


class _Line:
    """One connection; one request at a time.

    Writing and reading fail separately: an answer that came before the other side closed is read, although writing
    fails. A transport would lose it.
    """

    def __init__(self, connection: socket.socket) -> None:
        """Use a connection that does not block."""
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._answer = _Answer(has_no_body=False)
        self._is_sent = False

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow on this connection."""
        answer = self._answer
        return self._is_sent and answer.is_whole and not answer.has_no_body and not _closes(answer.headers)

    async def begin(self, method: str, head: bytes, *, is_all: bool = False) -> None:
        """Send the head of a request, or all of it."""
        self._answer = _Answer(has_no_body=method == "HEAD")
        self._is_sent = await self._write(head) and is_all

    async def upload(self, receive: Receive, wait_s_max: float, *, in_chunks: bool) -> None:
        """Send a body on until its end; the reader of the answer may end this before.

        Raises:
            Disconnected: The client went away before the end of its body.
            TimeoutError: The other side read nothing for ``wait_s_max``.
        """
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise Disconnected
            more = message.get("more_body", False)
            body = _framed(message, in_chunks=in_chunks)
            async with asyncio.timeout(wait_s_max):
                if body and not await self._write(body):
                    return  # why nobody reads it may stand in the answer
        self._is_sent = True

    async def head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Wait for status and headers of the answer.

        Raises:
            LeaderGone: The connection ended before.
        """
        while not self._answer.has_head:
            await self._read()
        return self._answer.status, self._answer.headers

    async def piece(self) -> bytes:
        """Wait for the next piece of the answer's body; empty = its end.

        Raises:
            LeaderGone: The connection ended before the answer did.
        """
        while not self._answer.pieces and not self._answer.is_whole:
            await self._read()
        pieces, self._answer.pieces = self._answer.pieces, []
        return b"".join(pieces)

    def end(self) -> None:
        """Wake the waiter for the answer, and close the connection."""
        with suppress(OSError):  # the other side was faster
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    async def _write(self, data: bytes) -> bool:
        """Return whether the other side can still read."""
        try:
            await self._loop.sock_sendall(self._connection, data)
        except OSError:
            return False
        return True

    async def _read(self) -> None:
        try:
            data = await self._loop.sock_recv(self._connection, PIECE_BYTES_MAX)
            if data:
                self._answer.parser.feed_data(data)
                return
        except (OSError, httptools.HttpParserError) as error:
            raise LeaderGone(ENDED) from error
        raise LeaderGone(ENDED)


class _Patience:
    """The wait of a client for an answer, however long that takes: it ends when the client goes away."""

    def __init__(self, line: _Line, receive: Receive) -> None:
        """Wait for the answer on ``line``; ``receive`` has given the whole request."""
        self._line = line
        self._receive = receive
        self._looking: asyncio.Task[None] | None = None
        self._is_gone = False

    async def until(self, work: Awaitable[T]) -> T:
        """Return the answer.

        Raises:
            Disconnected: The client went away.
            LeaderGone: The connection ended before.
        """
        loop = asyncio.get_running_loop()
        timer = loop.call_later(WATCH_S, self._begin, loop)
        try:
            return await work
        except LeaderGone as error:
            if self._is_gone:
                raise Disconnected from error
            raise
        finally:
            timer.cancel()
            if self._looking is not None:
                self._looking.cancel()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looking = loop.create_task(self._look(), name="midstream-client")

    async def _look(self) -> None:
        while (await self._receive())["type"] == "http.request":
            continue
        self._is_gone = True
        self._line.end()


class Passage:
    """The way to another process, which listens at a unix socket."""

    def __init__(self, path: Path, wait_s_max: float) -> None:
        """Proxy to the listener at ``path``.

        Args:
            path: Of the other process's socket.
            wait_s_max: Maximum time in which it reads nothing of a request. It is also the time-out of this process's
                own requests.
        """
        self._path = path
        self._wait_s_max = wait_s_max
        self._idle: list[_Line] = []
        self._count = 0

    async def pass_on(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Send a request on and its answer back; return its status.

        Raises:
            Overloaded: As many requests as may are under way.
            LeaderGone: No answer came, and nothing was sent back.
            Disconnected: The client went away before the end of its body.
        """
        names = {name for name, _ in scope["headers"]}
        in_chunks = b"transfer-encoding" in names
        kept = [(name, value) for name, value in scope["headers"] if name not in _STAYS]
        if in_chunks:  # then a length is not what counts, and the other side must not count by it
            kept = [(name, value) for name, value in kept if name != b"content-length"]
            kept.append((b"transfer-encoding", b"chunked"))
        first: Message | None = {}
        if in_chunks or b"content-length" in names:
            first = await _first(receive)
        head = _head(scope["method"], _target(scope), kept)
        async with self._line() as line:
            patience = _Patience(line, receive)
            if first is None or first.get("more_body", False):
                begun = head + _framed(first or _NOTHING_YET, in_chunks=in_chunks)
                await self._within(line.begin(scope["method"], begun))
                status, headers = await self._exchange(line, receive, patience, in_chunks=in_chunks)
            else:
                whole = head + _framed(first, in_chunks=in_chunks)
                await self._within(line.begin(scope["method"], whole, is_all=True))
                status, headers = await patience.until(line.head())
            back = [each for each in headers if each[0] not in _STAYS]
            if _closes(headers):
                back.append((b"connection", b"close"))
            await send({"type": "http.response.start", "status": status, "headers": back})
            while piece := await patience.until(line.piece()):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return status

    async def ask(
        self, method: str, target: str, body: bytes = b"", media_type: bytes = JSON, caller: bytes = b""
    ) -> Reply:
        """Send a request of this process, for ``caller`` where one is given; return its whole answer.

        Raises:
            Overloaded: The maximum of requests is in progress.
            LeaderGone: No answer came, or one that is too long.
        """
        of_whom = ((CALLER_HEADER, caller),) if caller else ()
        if (trace := current()) is None:
            return await self._asked(method, target, body, ((b"content-type", media_type), *of_whom))
        with client_span(trace, "leader", LEADER_HOST, 0) as told:
            of_trace = ((name.encode(), value.encode()) for name, value in told.items())
            return await self._asked(method, target, body, ((b"content-type", media_type), *of_whom, *of_trace))

    async def _asked(self, method: str, target: str, body: bytes, told: Sequence[tuple[bytes, bytes]]) -> Reply:
        headers = (*told, (b"content-length", b"%d" % len(body)))
        async with self._line() as line:
            whole = _head(method, target.encode(), headers) + body
            await self._within(line.begin(method, whole, is_all=True))
            status, back = await self._within(line.head())
            content = bytearray()
            while piece := await self._within(line.piece()):
                content += piece
                if len(content) > ANSWER_BYTES_MAX:
                    message = f"An answer to {target} of more than {ANSWER_BYTES_MAX} bytes came."
                    raise LeaderGone(message)
            said = dict(back)
            rest = tuple(each for each in back if each[0] not in {*_STAYS, b"content-type", b"content-length"})
            return Reply(status, bytes(content), said.get(b"content-type", JSON), rest)

    def close(self) -> None:
        """End the connections that are kept."""
        for line in self._idle:
            line.close()
        self._idle.clear()

    async def _exchange(
        self, line: _Line, receive: Receive, patience: _Patience, *, in_chunks: bool
    ) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Send the body; return the head of the answer, which may come before the end of the body."""
        upload = asyncio.ensure_future(line.upload(receive, self._wait_s_max, in_chunks=in_chunks))
        head = asyncio.ensure_future(line.head())
        try:
            await asyncio.wait((upload, head), return_when=asyncio.FIRST_COMPLETED)
            if upload.done() and not head.done():
                upload.result()
            return await (patience.until(head) if upload.done() else head)
        except TimeoutError as error:
            raise self._too_slow() from error
        finally:
            upload.cancel()
            head.cancel()
            await asyncio.wait((upload, head))
            for each in (upload, head):
                if not each.cancelled():
                    each.exception()  # seen: the first of the two was raised

    async def _within(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._wait_s_max):
                return await work
        except TimeoutError as error:
            raise self._too_slow() from error

    def _too_slow(self) -> LeaderGone:
        return LeaderGone(
            f"The process that takes events did not go on within {self._wait_s_max:g} s; "
            "what was asked for may have been done all the same."
        )

    @asynccontextmanager
    async def _line(self) -> AsyncGenerator[_Line]:
        """Give a connection, a kept one if there is one; keep it when its answer came whole."""
        if self._count >= LINES_MAX:
            message = f"{LINES_MAX} requests are on their way to the process that takes events already."
            raise Overloaded(message)
        self._count += 1
        line: _Line | None = None
        try:
            line = self._connected()
            yield line
        finally:
            self._count -= 1
            if line is not None and line.is_reusable:
                self._idle.append(line)
            elif line is not None:
                line.close()

    def _connected(self) -> _Line:
        if self._idle:
            return self._idle.pop()
        try:
            return _Line(connect_to(self._path))
        except OSError as error:
            message = f"The process that takes events cannot be reached: {error.strerror or error}."
            raise LeaderGone(message) from error


async def _first(receive: Receive) -> Message | None:
    """Return the first piece of a body, None when it does not come at once.

    Raises:
        Disconnected: The client went away before it.
    """
    try:
        async with asyncio.timeout(FIRST_S_MAX):
            message = await receive()
    except TimeoutError:
        return None
    if message["type"] != "http.request":
        raise Disconnected
    return message


def _framed(message: Message, *, in_chunks: bool) -> bytes:
    """Return a piece of a body as it goes over the line."""
    body: bytes = message.get("body", b"")
    if not in_chunks:
        return body
    return (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (
        b"" if message.get("more_body", False) else b"0\r\n\r\n"
    )


def _closes(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    return (b"connection", b"close") in headers


def _target(scope: Scope) -> bytes:
    """Return path and query as they were sent."""
    path: bytes = scope.get("raw_path") or str(scope["path"]).encode()
    query: bytes = scope["query_string"]
    return path.partition(b"?")[0] + (b"?" + query if query else b"")


def _head(method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the head of a request."""
    lines = [b"%b %b HTTP/1.1" % (method.encode(), target)]
    lines.extend(b"%b: %b" % each for each in headers)
    if not any(name == b"host" for name, _ in headers):
        lines.append(b"host: midstream")
    return b"\r\n".join(lines) + b"\r\n\r\n"
