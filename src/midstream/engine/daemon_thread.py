"""Daemon thread of one client of a broker: its blocking calls, one after another, awaited on the engine's event loop.

The thread is a daemon: a call that waits for a broker that does not answer never holds up the end of the process, which
waits for every thread of an executor. It runs an event loop of its own, which keeps the order of the calls and hands
their errors to whoever waits.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class DaemonThread:
    """Calls functions in the order in which they were given."""

    def __init__(self, name: str) -> None:
        """Prepare a thread that begins with the first call."""
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None

    def call(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Call ``work`` behind all that was given before; the result belongs to the running event loop."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_serve, args=(self._loop,), name=self._name, daemon=True).start()

        async def one() -> T:
            return work()

        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(one(), self._loop))

    def end(self) -> None:
        """End the thread behind all calls that it was given; nobody waits for that."""
        loop, self._loop = self._loop, None
        if loop is None:
            return

        async def last() -> None:
            loop.stop()

        asyncio.run_coroutine_threadsafe(last(), loop)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()
