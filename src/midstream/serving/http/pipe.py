"""Bounded pipe of bytes from the event loop to the thread that decodes them (backpressure).

The loop puts in arriving bytes and stops reading while the pipe is full, so that a client that is faster than the log
is slowed down by its own connection. The thread waits for bytes, and never longer than the pipe is open. It is woken
for the first bytes and for as many as it asks for, not for each block between: a piece of a few hundred events costs a
commit and a dozen turns as one of thousands does.
"""

import asyncio
import threading
from collections import deque
from time import monotonic

PIPE_BYTES_MAX = 2 << 20
"""Two pieces: one is decoded while the next arrives."""
GATHER_S_MAX = 0.01
"""From the first bytes of a read on: what a client sends now and then is not held up for longer than two syncs."""


class Pipe:
    """One stream of bytes between the loop, which made it, and one thread."""

    def __init__(self) -> None:
        """Open it; on the loop."""
        self._loop = asyncio.get_running_loop()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._changed = threading.Condition()
        self._blocks: deque[bytes] = deque()
        self._size = 0
        self._wanted = 0
        """Bytes for which the thread is to be woken."""
        self._ended = False
        self._failure: BaseException | None = None
        self.came = 0
        """Bytes that were put in so far."""

    async def put(self, block: bytes) -> None:
        """Put bytes in; wait while it is full. Nothing is taken once the pipe has ended."""
        await self._has_room.wait()
        with self._changed:
            if block and not self._ended:
                self._blocks.append(block)
                self._size += len(block)
                self.came += len(block)
                if self._size >= PIPE_BYTES_MAX:
                    self._has_room.clear()
                if self._size >= self._wanted or self._size == len(block):
                    self._changed.notify()

    def end(self, failure: BaseException | None = None) -> None:
        """End the pipe; a failure goes to the reader behind what came. Only the first end counts."""
        with self._changed:
            if self._ended:
                return
            self._ended = True
            self._failure = failure
            self._changed.notify()
        self._has_room.set()

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, waiting for the first and then a little for the others; none at the end.

        Called by the thread.

        Raises:
            BaseException: The failure with which the pipe ended.
        """
        with self._changed:
            self._gather(min(size, PIPE_BYTES_MAX // 2))
            if self._failure is not None and not self._blocks:
                raise self._failure
            found = self._take(size)
            self._size -= len(found)
            if self._size < PIPE_BYTES_MAX // 2 and not self._has_room.is_set():
                self._loop.call_soon_threadsafe(self._has_room.set)
        return found

    def _gather(self, size: int) -> None:
        """Wait for so many bytes, ``GATHER_S_MAX`` from the first ones on, or for the end."""
        self._wanted, until = size, None
        while self._size < size and not self._ended:
            if until is None and self._size:
                until = monotonic() + GATHER_S_MAX
            left = None if until is None else until - monotonic()
            if left is not None and left <= 0:
                return
            self._changed.wait(left)

    def _take(self, size: int) -> bytes:
        taken: list[bytes] = []
        while self._blocks and size > 0:
            block = self._blocks.popleft()
            if len(block) > size:
                self._blocks.appendleft(block[size:])
                block = block[:size]
            taken.append(block)
            size -= len(block)
        return b"".join(taken)
