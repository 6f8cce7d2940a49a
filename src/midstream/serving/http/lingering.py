"""Lingering close: what a client still sends behind its last answer is read and thrown away, for a moment.

A connection that is closed while bytes of its client are unread is reset by the kernel, and a reset takes away what the
client has not read yet: the answers to requests that were good, and the words that say what was wrong. So the sending
side is closed first, and the whole when the client has closed its own, or ``LINGER_S`` after the last answer went out.

Reference: RFC 9112, 9.6 (tear-down); nginx, ``lingering_close``.
"""

import asyncio
from collections.abc import Callable

LINGER_S = 1.0
"""A round trip and the client's turn; the place of the connection is held meanwhile, and can be taken at any time."""
LINGER_BYTES_MAX = 4 << 20
"""Thrown away at most: what 32 Mbit/s bring in a second. Who sends more than that does not look at answers."""


class Lingering:
    """The end of a connection whose last answer is written."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, close: Callable[[], object]
    ) -> None:
        """Close the sending side behind what is written; call ``close`` after a while, unless it is lost before."""
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
        """Count what came; close when it is too much."""
        self._bytes += byte_count
        if self._bytes > LINGER_BYTES_MAX:
            self._close()

    def stop(self) -> None:
        """The connection is gone."""
        self._timer.cancel()

    def _look(self) -> None:
        """Wait on while the client still reads its answers: who does not is cut off by the watch of the writing."""
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
