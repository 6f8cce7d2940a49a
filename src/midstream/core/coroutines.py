"""Coroutines run to their end from code without an event loop, by a task that does not keep the result.

A runner takes its handler of SIGINT back behind each run, and Python then formats that handler, its task and the task's
result as text, to find that the handler is no constant of a signal. Of an answer with its arrays that takes 14 ms, more
than the answer itself.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def result_of(run: Callable[[Coroutine[Any, Any, None]], None], coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine.

    Args:
        run: ``asyncio.run``, or that of a runner whose event loop is used again.
        coroutine: What is run.

    Example:
        >>> import asyncio
        >>> result_of(asyncio.run, asyncio.sleep(0, "done"))
        'done'
    """
    kept: list[T] = []

    async def keep() -> None:
        kept.append(await coroutine)

    run(keep())
    return kept[0]
