"""Waits for a part that may wait, no longer than it may, and notes how long it kept the thread to itself.

A part that waits is cut off at its time; one that computes cannot be, as all requests share one thread. So beside the
waiting it is measured how long it held the thread between two waits: that is what it cost everyone.

The work is a task of its own: cancelling it and going on takes no longer when it clings to its end, such as a client
that closes its connection first.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, TypeVar

from midstream.ranking.boundary import Account, boundary

T = TypeVar("T")


class Held(Generator[Any, Any, T]):
    """An awaitable, and the longest that it held the thread without giving way."""

    def __init__(self, work: Awaitable[T], remaining_s: Callable[[], float]) -> None:
        """Run ``work``; ``remaining_s`` is the clock, which counts down."""
        self._steps = work.__await__()
        self._remaining_s = remaining_s
        self.longest_s = 0.0

    def __await__(self) -> Generator[Any, Any, T]:
        """Run it step by step."""
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


async def awaited(name: str, work: Awaitable[T], wait_s_max: float, fair_s: float, account: Account) -> T:
    """Return what a part gives.

    Args:
        name: The part's.
        work: What it does.
        wait_s_max: It is cut off after this.
        fair_s: What it should have had of the time: one that had less and was cut off is not to blame, so nothing is
            noted of it.
        account: Gets the longest time that it held the thread.

    Raises:
        TimeoutError: It was cut off.
        BaseException: What the part raises.
    """
    held = Held(work, account.remaining_s)
    found: list[T] = []
    raised: list[BaseException] = []
    task = asyncio.ensure_future(_run(name, held, found, raised))
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
    task.result()
    if raised:
        raise raised[0]
    return found[0]


async def _run(name: str, held: Held[T], found: list[T], raised: list[BaseException]) -> None:
    """Keep what comes of the work, a value or what was raised: a task that ends in ``SystemExit`` ends its loop."""
    with boundary(name, [], raised):
        found.append(await held)


def _look_away(task: asyncio.Future[Any]) -> None:
    """Nobody waits for it any more; what it raised on its way out is nobody's."""
    if not task.cancelled():
        task.exception()
