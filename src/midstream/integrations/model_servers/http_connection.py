"""One connection of HTTP 1.1 to a server: a question in one piece, its answer parsed as it comes, and bounded.

It is made of the parser that the server side of this engine has (httptools). With a general client a whole call took
2.07 ms of the thread that all requests share, and with this one 0.55 ms.
"""

import asyncio
from typing import Any, cast

import httptools

from midstream.integrations.model_servers.exchange import ANSWER_BYTES_MAX, AnswerInvalid, ServerReply

HEAD_BYTES_MAX = 1 << 16
"""Of the first line and the headers of an answer; and of all that is around its pieces."""
INFORMATIONAL_MAX = 199
"""Statuses up to it are no answers; none is asked for."""


class HttpConnection(asyncio.Protocol):
    """A connection with one question under way at most."""

    def __init__(self) -> None:
        """Wait for the transport."""
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._reply: asyncio.Future[ServerReply] | None = None
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._bytes = 0
        self._is_head_over = self._is_whole = False
        self.has_begun = False
        """A byte of the answer to the last question came."""
        self.is_open = False
        """The next question may be sent."""

    def ask(self, question: bytes) -> asyncio.Future[ServerReply]:
        """Send a question; the future gets the answer, ``AnswerInvalid`` or an ``OSError``."""
        self._parser = httptools.HttpResponseParser(self)
        self._reply = asyncio.get_running_loop().create_future()
        self._headers, self._body, self._bytes = {}, bytearray(), 0
        self._is_head_over = self._is_whole = self.has_begun = False
        if self._transport is None:
            raise ConnectionError("the connection is closed")
        self._transport.write(question)
        return self._reply

    def abort(self) -> None:
        """Close it at once."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport, self.is_open = cast("asyncio.Transport", transport), True  # that of uvloop is of no subclass

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._reply is None or self._reply.done():  # nobody asked
            self.abort()
            return
        self.has_begun = True
        self._bytes += len(data)
        if self._bytes > ANSWER_BYTES_MAX + HEAD_BYTES_MAX:
            self._fail(too_long())
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(AnswerInvalid(f"what came is no HTTP: {type(error).__name__}"))
        else:
            if not self._is_head_over and self._bytes > HEAD_BYTES_MAX:
                self._fail(AnswerInvalid(f"headers of more than {HEAD_BYTES_MAX >> 10} KiB came"))

    def connection_lost(self, exc: Exception | None) -> None:
        """End: an answer without a length is whole then, any other is cut off."""
        self.is_open, self._transport = False, None
        has_end = "content-length" in self._headers or "transfer-encoding" in self._headers
        if self._is_head_over and not has_end and exc is None:
            self.on_message_complete()
        self._fail(ConnectionError("the server closed the connection"))

    def on_message_begin(self) -> None:
        """Do not keep a connection on which something comes behind an answer."""
        if self._is_whole:
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; one behind the answer is refused, and one of another answer is not for who asked."""
        if self._is_whole:
            return
        if self._is_head_over:
            self._fail(AnswerInvalid("headers came behind the answer"))
            return
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Refuse what is too long, coded or no answer."""
        if self._is_whole:
            return
        self._is_head_over = True
        coding, length = self._headers.get("content-encoding", "identity"), self._headers.get("content-length", "0")
        if coding != "identity":
            self._fail(AnswerInvalid(f"an answer in {coding[:20]} came, which was not asked for"))
        elif int(length[:20] if length.isdecimal() else 0) > ANSWER_BYTES_MAX:
            self._fail(too_long())
        elif self._parser.get_status_code() <= INFORMATIONAL_MAX:
            self._fail(AnswerInvalid(f"it answered {self._parser.get_status_code()}, which is no answer"))

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the answer."""
        if self._is_whole:
            return
        self._body += piece
        if len(self._body) > ANSWER_BYTES_MAX:
            self._fail(too_long())

    def on_message_complete(self) -> None:
        """Give the answer to who asked."""
        self._is_whole = True
        if self._reply is not None and not self._reply.done():
            self.is_open = self.is_open and bool(self._parser.should_keep_alive())
            self._reply.set_result(ServerReply(self._parser.get_status_code(), self._headers, bytes(self._body)))

    def _fail(self, error: Exception) -> None:
        """Give an error to who asked, and close."""
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)
        self._body = bytearray()
        self.abort()


def too_long() -> AnswerInvalid:
    """Return the error of an answer that is too long."""
    return AnswerInvalid(f"an answer of more than {ANSWER_BYTES_MAX >> 20} MiB came")
