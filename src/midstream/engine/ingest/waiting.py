"""Wait for a future that others hold: whoever waits may give up or be cancelled, and the future goes on."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Deadlines:
    """Ends of waits under one timer: one of its own costs each request as much as its place in the queue."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Begin without waits; ``monotonic`` gives seconds that never go back."""
        self._monotonic = monotonic
        self.until: dict[asyncio.Future[None], float] = {}
        """Of each wait; whoever is woken takes its own out."""
        self._timer: asyncio.TimerHandle | None = None
        self._look_at = 0.0

    def add(self, waiter: asyncio.Future[None], within_s: float) -> None:
        """Resolve a future in this time at the latest, unless it was taken out before."""
        until = self.until[waiter] = self._monotonic() + within_s
        if self._timer is None or until < self._look_at:
            self._look_in(within_s, until)

    def _look_in(self, seconds: float, until: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._look_at = until
        self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._look)

    def _look(self) -> None:
        """Resolve what is due; look again when the next one is."""
        self._timer = None
        now = self._monotonic()
        left = [until for until in self.until.values() if until > now]
        for waiter in [waiter for waiter, until in self.until.items() if until <= now]:
            del self.until[waiter]
            if not waiter.done():
                waiter.set_result(None)
        if left:
            self._look_in(min(left) - now, min(left))


async def done_by(future: asyncio.Future[T], until: float | None, monotonic: Callable[[], float]) -> T:
    """Return the result of a future, in the same task and one turn of the event loop behind its end.

    ``asyncio.wait`` of a task of its own, with ``asyncio.shield`` in there, comes three turns behind it; between two of
    them lies all else that is ready.

    Args:
        future: Not cancelled by this.
        until: In seconds of ``monotonic``; None = as long as it takes.
        monotonic: Seconds that never go back.

    Raises:
        TimeoutError: The time is over.
    """
    if not future.done():
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def wake(_: object = None) -> None:
            if not waiter.done():
                waiter.set_result(None)

        timer = None if until is None else loop.call_later(max(0.0, until - monotonic()), wake)
        future.add_done_callback(wake)
        try:
            await waiter
        finally:
            future.remove_done_callback(wake)
            if timer is not None:
                timer.cancel()
        if not future.done():
            raise TimeoutError
    return future.result()
