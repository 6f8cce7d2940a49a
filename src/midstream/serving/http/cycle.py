"""Cycle of one request and its answer on a connection, between the protocol that reads and the app that answers.

uvicorn's own, with four additions: a body that is no valid HTTP ends like that of a disconnected client, the app's
reading of a body does not admit the bytes behind it, a header of an answer replaces the port's own of that name, and
an answer that is a stream of events is known as endless.
"""

import asyncio
from http import HTTPMethod, HTTPStatus
from typing import Any

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from midstream.serving.http.body_reader import SENT_BODY, WHOLE
from midstream.serving.http.responses import JSON, NO_STORE, Reply

_OK = STATUS_LINE[200]
_USUAL = b"content-type: %b\r\ncontent-length: %%d\r\n%b\r\n" % (
    JSON,
    b"".join(b"%b: %b\r\n" % each for each in NO_STORE),
)
"""Headers of nearly every recommendation."""
DISCONNECT: ASGIReceiveEvent = {"type": "http.disconnect"}
EVENT_STREAM = b"text/event-stream"
"""Media type of server-sent events."""


class MessageSignal:
    """Event that one task waits for: a request whose body came with its head never waits, and pays for no event."""

    __slots__ = ("is_on", "waiter")

    def __init__(self) -> None:
        """Begin without news."""
        self.is_on = False
        self.waiter: asyncio.Future[None] | None = None
        """Of the task that waits; whoever sets ``is_on`` then calls ``set``."""

    def is_set(self) -> bool:
        """Return whether there is news."""
        return self.is_on

    def set(self) -> None:
        """Note news, and wake the task that waits for it."""
        self.is_on = True
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def clear(self) -> None:
        """Note that the news was heard."""
        self.is_on = False

    async def wait(self) -> None:
        """Return when there is news."""
        while not self.is_on:
            self.waiter = asyncio.get_running_loop().create_future()
            try:
                await self.waiter
            finally:
                self.waiter = None


class Cycle(RequestResponseCycle):
    """``receive`` and ``send`` of the app."""

    message_event: MessageSignal  # type: ignore[assignment]  # of which the base uses ``set`` alone
    is_broken = False
    """The rest of its body cannot be read: it is no HTTP, or too long."""
    is_read = False
    """The app has asked for its body."""
    is_endless = False
    """The answer has begun and is a stream of events, whose client opens another one when it ends."""
    _told: tuple[list[tuple[bytes, bytes]], bytes] = [], b""
    """Headers of the port, and a usual answer up to its length with them: made anew when the port has others."""

    def end_body(self) -> None:
        """Note that the body is whole; a route takes it from the scope where nobody has asked for a piece of it."""
        self.more_body = False
        scope: Any = self.scope
        scope[WHOLE] = True
        if not (self.is_read or self.waiting_for_100_continue):
            scope[SENT_BODY] = self.body
        self.message_event.is_on = True
        if self.message_event.waiter is not None:
            self.message_event.set()

    def break_off(self) -> None:
        """End a body early; an answer of the app is then the last."""
        self.is_broken = True
        self.keep_alive = False
        self.message_event.set()

    async def send(self, message: ASGISendEvent) -> None:
        """Write a part of the answer. A header of the answer takes the place of the port's own of that name."""
        if message["type"] == "http.response.start":
            headers = dict(message.get("headers", ()))
            self.default_headers = [each for each in self.default_headers if each[0] not in headers]
            self.is_endless = headers.get(b"content-type", b"").startswith(EVENT_STREAM)
        await super().send(message)

    async def receive(self) -> ASGIReceiveEvent:
        """Return the next piece of the body, or the disconnect."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            if self.more_body and self.flow.read_paused and not self.is_broken:
                self.flow.resume_reading()
            if not self.message_event.is_on:
                await self.message_event.wait()
            self.message_event.is_on = False
        self.is_read = True
        if self.is_broken and not self.response_complete:
            self.disconnected = True
        if self.disconnected or self.response_complete:
            return DISCONNECT
        message: ASGIReceiveEvent = {
            "type": "http.request",
            "body": bytes(self.body),
            "more_body": self.more_body,
        }
        self.body = bytearray()
        return message

    def write_at_once(self, reply: Reply) -> bool:
        """Write a usual answer in one piece, the same bytes as ``send`` writes in two after reading each header.

        Returns:
            Whether it was written; otherwise the answer, the request or the connection is unusual, and nothing was.
        """
        if reply.status != HTTPStatus.OK or reply.media_type is not JSON or reply.headers is not NO_STORE:
            return False
        if self.response_started or self.disconnected or self.flow.write_paused or not self.keep_alive:
            return False
        if self.scope["method"] == HTTPMethod.HEAD or self.access_log:
            return False
        self.response_started = self.response_complete = True
        headers, begin = self._told
        if headers is not self.default_headers:
            begin = b"".join((_OK, *(b"%b: %b\r\n" % each for each in self.default_headers)))
            Cycle._told = self.default_headers, begin
        self.transport.write(begin + _USUAL % len(reply.body) + reply.body)
        self.message_event.set()
        self.on_response()
        return True
