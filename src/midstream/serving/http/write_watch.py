"""Time-out of answers that a client does not read: then its connection is cut off, whatever is left in the buffer."""

import asyncio
from collections.abc import Callable


class WriteWatch:
    """Looks at the write buffer of one transport."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, wait_s: float) -> None:
        """Cut ``transport`` off when nothing was read of it for ``wait_s``, once there is a reason to look."""
        self._transport = transport
        self._loop = loop
        self._wait_s = wait_s
        self._timer: asyncio.TimerHandle | None = None
        self._unread_bytes = 0
        self._on_cut: Callable[[], None] | None = None

    def begin(self, on_cut: Callable[[], None] | None = None) -> None:
        """Look from now on, unless that is done already; ``on_cut`` is told when the client is cut off."""
        if self._timer is None:
            self._on_cut = on_cut
            self._wait()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        self._unread_bytes = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(self._wait_s, self._look)

    def _look(self) -> None:
        """Wait on where the client has read something; what is not flushed yet was written just now."""
        if self._transport.get_write_buffer_size() < self._unread_bytes:
            self._wait()
            return
        self._timer = None
        if self._on_cut is not None:
            self._on_cut()
        self._transport.abort()
