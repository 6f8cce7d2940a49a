"""Body reader: reads a request's body within a maximum of bytes, compressed or not, and a time-out."""

import asyncio
from dataclasses import dataclass

from midstream.core.errors import Fault, TooLarge
from midstream.engine.requests.schema import PAGE
from midstream.serving.http.decompression import encoding_of, unpacked
from midstream.serving.http.problems import BodyTooSlow, Disconnected
from midstream.serving.http.responses import Message, Receive, Scope

WHOLE = "midstream.whole"
"""Field of a scope: the last byte of the body was read off the socket."""
SENT_BODY = "midstream.sent_body"
"""Field of a scope: the whole body as it was sent, where it was there before the app asked for it."""
WHOLE_BODY = "midstream.body"
"""Field of a scope: the whole body, unpacked, as what stands in front of a route has read and judged it."""
_DIGITS_MAX = 19
"""Of a length; Python reads no number of more than 4,300 digits, and the HTTP parser let digits alone pass."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Maximum of bytes and time-out."""

    bytes_max: int
    wait_s_max: float


def body_at_hand(scope: Scope, limits: BodyLimits) -> bytes | None:
    """Return the whole body of a request where it is there and not packed; None = ``read_body`` reads or refuses it.

    It is taken: the connection, which lives on until its next request, keeps no copy.
    """
    sent: bytearray | None = scope.get(SENT_BODY)
    if sent is None or len(sent) > limits.bytes_max:
        return None
    for name, _ in scope["headers"]:
        if name == b"content-encoding":
            return None
    body = bytes(sent)
    del scope[SENT_BODY]
    sent.clear()
    return body


async def read_body(scope: Scope, receive: Receive, limits: BodyLimits) -> bytes:
    """Return the whole body of a request.

    Raises:
        TooLarge: It has, or announces, more than ``bytes_max``; nothing beyond is read.
        BodyTooSlow: It was not complete after ``wait_s_max``.
        MediaTypeUnsupported: It has another compression than gzip or zstd.
        RequestInvalid: It cannot be decompressed.
        Disconnected: The client went away before its end.
    """
    read: bytes | None = scope.get(WHOLE_BODY)
    if read is not None and len(read) <= limits.bytes_max:
        return read
    encoding = _require_short(scope, limits)
    if scope.get(WHOLE):  # a timer costs as much as all else here
        return unpacked(await _gather(receive, limits), encoding, limits.bytes_max)
    try:
        async with asyncio.timeout(limits.wait_s_max):
            return unpacked(await _gather(receive, limits), encoding, limits.bytes_max)
    except TimeoutError as error:
        message = f"The body was not complete after {limits.wait_s_max:g} s."
        raise BodyTooSlow(message) from error


async def _gather(receive: Receive, limits: BodyLimits) -> bytes:
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        return _piece(message, 0, limits)
    pieces = bytearray()
    while message["type"] == "http.request":
        pieces += _piece(message, len(pieces), limits)
        if not message.get("more_body", False):
            return bytes(pieces)
        message = await receive()
    raise Disconnected


def _piece(message: Message, came_before: int, limits: BodyLimits) -> bytes:
    piece: bytes = message.get("body", b"")
    if came_before + len(piece) > limits.bytes_max:
        raise _too_large("More", limits)
    return piece


def _require_short(scope: Scope, limits: BodyLimits) -> str:
    """Return how a body is packed; refuse it by its announced length. One pass, as each request pays for it."""
    encoding = ""
    for name, value in scope["headers"]:
        if name == b"content-encoding":
            encoding = encoding or encoding_of(scope)
        elif name == b"content-length" and (len(value) > _DIGITS_MAX or int(value) > limits.bytes_max):
            raise _too_large(f"{value[:20].decode('latin-1')} bytes", limits)
    return encoding


def _too_large(how_much: str, limits: BodyLimits) -> TooLarge:
    right = f"At most {limits.bytes_max} bytes and 500 events a request; send more in several requests."
    return TooLarge((Fault("", f"{how_much} came.", right, PAGE),))
