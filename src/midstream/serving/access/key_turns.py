"""Changes of the file of keys by a server: one after the other and in a thread, as the file is locked and flushed.

A command that holds the lock has those wait who change keys or sign in, and nobody else. They wait for so long at most;
one thread waits for each ``KeyTurns``, whatever number of requests does. Lists of the keys have turns of their own.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from midstream.core.errors import Overloaded
from midstream.serving.access.key_file import read_or_changed

T = TypeVar("T")
TURN_S_MAX: Final = 10.0
"""Wait for a turn: that of one change for the lock (``key_file.LOCK_S_MAX``), and as long for those behind it."""
WAITING_MAX: Final = 64
"""Changes that wait for their turn. Each takes some milliseconds, so more do only where a command has the lock."""
_TOO_MANY: Final = "Too many requests about the keys wait for the one that goes on; nothing was changed."


class KeyTurns:
    """Turns of those who change one file of keys in this process."""

    def __init__(self) -> None:
        """Nobody has the turn."""
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def changed(self, change: Callable[[], T]) -> T:
        """Return what a change returns that a thread makes. A cancellation is put off until it is made: it is audited.

        Raises:
            Overloaded: The lock of the file, or the turn, was not to be had in time, or too many wait for it; nothing
                was changed.
            KeysUnreadable: The file is damaged, or the disk fails.
        """
        if self._waiting >= WAITING_MAX:
            raise Overloaded(_TOO_MANY)
        self._waiting += 1
        try:
            async with asyncio.timeout(TURN_S_MAX):
                await self._turn.acquire()
        except TimeoutError as error:
            raise Overloaded(_TOO_MANY) from error
        finally:
            self._waiting -= 1
        try:
            making = asyncio.get_running_loop().run_in_executor(None, read_or_changed, change)
            while not making.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([making])
            return making.result()
        finally:
            self._turn.release()
