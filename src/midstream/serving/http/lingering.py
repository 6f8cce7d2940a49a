"""Lingering close: discards bytes that a client still sends behind its last answer, for a moment.

A connection that is closed while bytes of its client are unread is reset by the kernel, and a reset discards data that
the client has not read yet: the answers to valid requests, and the error of the invalid one. So the sending side is
closed first, and the whole when the client has closed its own, or ``LINGER_S`` after the last answer went out.

Reference: RFC 9112, 9.6 (tear-down); nginx, ``lingering_close``.
"""

import asyncio
from collections.abc import Callable

LINGER_S = 1.0
"""A round trip and the client's turn; the place of the connection is held meanwhile, and can be taken at any time."""
LINGER_BYTES_MAX = 4 << 20
"""Maximum of discarded bytes: a second at 32 Mbit/s. A client that sends more does not read answers."""


class Lingering:
    """The end of a connection whose last answer is written."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, close: Callable[[], object]
    ) -> None:
        """Close the sending side behind the written bytes; call ``close`` after a while, unless it is lost before."""
        self._transport = transport
        self._loop = loop
        self._close = close
        self._bytes = 0
        self._timer = loop.call_later(LINGER_S, self._look)
        transport.resume_reading()
        try:
            transport.write_eof()
        except OSError:  # the client has reset it: asyncio's own loop says so here, uvloop when it reads
            close()

    def throw_away(self, byte_count: int) -> None:
        """Count arriving bytes; close beyond the maximum."""
        self._bytes += byte_count
        if self._bytes > LINGER_BYTES_MAX:
            self._close()

    def stop(self) -> None:
        """The connection is gone."""
        self._timer.cancel()

    def _look(self) -> None:
        """Wait while the client still reads its answers; the watch of the writing closes one that does not."""
        if self._transport.get_write_buffer_size():
            self._timer = self._loop.call_later(LINGER_S, self._look)
        else:
            self._close()


class AnswerTransport:
    """The transport as a request's answer sees it: closing it ends the connection behind that answer."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], object]) -> None:
        """Write to ``transport``, and close by ``close``."""
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close
