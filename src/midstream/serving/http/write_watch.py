"""Time-out of writes: closes the connection of a client that does not read its answer, with all buffered bytes."""

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
        """Begin to watch, unless it does already; ``on_cut`` is called when the client is disconnected."""
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
        """Wait on where the client has read something; unflushed bytes were written just now."""
        if self._transport.get_write_buffer_size() < self._unread_bytes:
            self._wait()
            return
        self._timer = None
        if self._on_cut is not None:
            self._on_cut()
        self._transport.abort()
