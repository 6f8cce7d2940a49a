"""Time-outs of tests: how long each waits for other processes and threads before it reports that they hang.

Such a wait proves nothing of time: a machine that is busy is slow, and no test may fail for it. It only ends a run that
would never end, so there is one maximum for all, and it is generous. What is promised of time is proven on a clock of
the test's own, or by counting.
"""

import asyncio
import time
from collections.abc import Callable

PATIENCE_S = 480.0
"""A cold compile of all kernels takes about a minute of one core, and a child is behind all others in rank."""
_POLL_S = 0.02


def wait_until(is_so: Callable[[], object]) -> None:
    """Return when something is so.

    Raises:
        TimeoutError: It never was.
    """
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > until:
            message = f"not so within {PATIENCE_S:.0f} s"
            raise TimeoutError(message)
        time.sleep(_POLL_S)


async def wait_on_loop(is_so: Callable[[], object]) -> None:
    """Return when something is so, while the event loop goes on.

    Raises:
        TimeoutError: It never was.
    """
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110  what is waited for sets no event
            await asyncio.sleep(_POLL_S)
