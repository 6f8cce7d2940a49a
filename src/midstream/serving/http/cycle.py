"""Cycle of one request and its answer on a connection, between the protocol that reads and the app that answers.

uvicorn's own, with three additions: a body that is no valid HTTP ends like that of a disconnected client, the app's
reading of a body does not admit the bytes behind it, and a header of an answer replaces the port's own of that name.
"""

from http import HTTPMethod, HTTPStatus

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from midstream.serving.http.responses import JSON, NO_STORE, Reply

_OK = STATUS_LINE[200]
_USUAL = b"content-type: %b\r\ncontent-length: %%d\r\n%b\r\n" % (
    JSON,
    b"".join(b"%b: %b\r\n" % each for each in NO_STORE),
)
"""Headers of nearly every recommendation."""
DISCONNECT: ASGIReceiveEvent = {"type": "http.disconnect"}


class Cycle(RequestResponseCycle):
    """``receive`` and ``send`` of the app."""

    is_broken = False
    """The rest of its body cannot be read: it is no HTTP, or too long."""

    def break_off(self) -> None:
        """End a body early; an answer of the app is then the last."""
        self.is_broken = True
        self.keep_alive = False
        self.message_event.set()

    async def send(self, message: ASGISendEvent) -> None:
        """Write a part of the answer. A header of the answer takes the place of the port's own of that name."""
        if message["type"] == "http.response.start":
            names = {name for name, _ in message.get("headers", ())}
            self.default_headers = [each for each in self.default_headers if each[0] not in names]
        await super().send(message)

    async def receive(self) -> ASGIReceiveEvent:
        """Return the next piece of the body, or the disconnect."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            if self.more_body and self.flow.read_paused and not self.is_broken:
                self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
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
        told = [b"%b: %b\r\n" % each for each in self.default_headers]
        self.transport.write(b"".join((_OK, *told, _USUAL % len(reply.body), reply.body)))
        self.message_event.set()
        self.on_response()
        return True
