"""Timeout of a component that waits, with a measurement of how long it held the thread.

A component that waits is cancelled at its time. One that computes cannot be, as all requests share one thread. So the
time between two of its waits is measured as well: that is its cost for all requests.

The work is a task of its own: cancelling it and continuing takes no longer when the task delays its end, such as a
client that closes its connection first.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, TypeVar

from midstream.ranking.boundary import Account, boundary
from midstream.ranking.frame import of_type

T = TypeVar("T")


class TimedAwaitable(Generator[Any, Any, T]):
    """An awaitable, and the longest that it held the thread without giving way."""

    def __init__(self, begin: Callable[[], Awaitable[T]], remaining_s: Callable[[], float]) -> None:
        """Run the result of ``begin``; ``remaining_s`` is the clock, which counts down."""
        self._begin = begin
        self._remaining_s = remaining_s
        self.longest_s = 0.0

    def __await__(self) -> Generator[Any, Any, T]:
        """Run it step by step; it begins with the first one."""
        self._steps: Generator[Any, Any, T] = _begun(self._begin).__await__()
        return self

    def send(self, value: object, /) -> object:
        """Run the next step, until it waits or ends."""
        return self._timed(partial(self._steps.send, value))

    def throw(self, *raised: Any) -> object:  # noqa: ANN401  as the interpreter calls it
        """Run the next step, which begins with an exception such as a cancellation."""
        return self._timed(partial(self._steps.throw, *raised))

    def _timed(self, step: Callable[[], object]) -> object:
        began = self._remaining_s()
        try:
            return step()
        finally:
            self.longest_s = max(self.longest_s, began - self._remaining_s())


async def _begun(begin: Callable[[], Awaitable[T]]) -> T:
    work = begin()
    of_type(work, Awaitable, "what async def gives")
    return await work


async def awaited(
    name: str, begin: Callable[[], Awaitable[T]], wait_s_max: float, fair_s: float, account: Account
) -> T:
    """Return the result of a component.

    Args:
        name: The component's.
        begin: Calls it.
        wait_s_max: It is cancelled after this.
        fair_s: Its fair share of the time: a component that had less and was cancelled is not counted as slow.
        account: Gets the longest time that it held the thread.

    Raises:
        TimeoutError: It was cancelled at its time.
        RuntimeError: It was cancelled or closed from elsewhere, such as by a task that waits for the same result.
        CancelledError: The request was cancelled.
        BaseException: As the component raises it.
    """
    held = TimedAwaitable(begin, account.remaining_s)
    found: list[T] = []
    own = Account(errors=[])
    task = asyncio.ensure_future(_run(name, held, found, own))
    try:
        await asyncio.wait((task,), timeout=None if wait_s_max == math.inf else max(wait_s_max, 0.0))
    finally:
        is_cut = not task.done()
        if is_cut:
            task.cancel()
            task.add_done_callback(_look_away)
        if not is_cut or wait_s_max >= fair_s:
            account.took_s[name] = held.longest_s
    if is_cut:
        message = f"no answer within {wait_s_max * 1_000:.0f} ms"
        raise TimeoutError(message)
    # It may cancel its own task and give a value all the same.
    error = asyncio.CancelledError() if task.cancelled() else next(iter(own.errors or ()), None) or task.exception()
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        message = f"it ended in {type(error).__name__} though nobody cut it off"
        raise RuntimeError(message) from error  # noqa: TRY004  nobody gave a wrong type
    if error is not None:
        raise error
    return found[0]


async def _run(name: str, held: TimedAwaitable[T], found: list[T], own: Account) -> None:
    """Keep the result of the work, a value or an exception: a task that ends in ``SystemExit`` would end its loop."""
    with boundary(name, own):
        found.append(await held)


def _look_away(task: asyncio.Future[Any]) -> None:
    """Consume the late exception of a task that no request waits for any more."""
    if not task.cancelled():
        task.exception()
