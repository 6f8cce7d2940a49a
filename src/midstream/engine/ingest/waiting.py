"""Wait for a future that others hold: whoever waits may give up or be cancelled, and the future goes on."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


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
