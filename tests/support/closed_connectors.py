"""Event loop of a test of outside systems: the loop that a server has, whose connections are closed at the end."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import uvloop

from midstream.engine.stores.connector import close_connectors

T = TypeVar("T")


def run(work: Awaitable[T]) -> T:
    """Return the result of some work, run on an event loop of its own."""

    async def whole() -> T:
        try:
            return await work
        finally:
            await close_connectors()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(whole())
