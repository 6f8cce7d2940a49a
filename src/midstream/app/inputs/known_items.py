"""Ids of all items of an engine, asked by the thread of an input and read in turns of the event loop.

A service that runs beside the engine: before its start, and behind its end, nothing is known.
"""

import asyncio
from collections.abc import Sequence

import numpy as np

from midstream.engine.engine import Engine
from midstream.engine.inputs.broker_consumer import BrokerUnavailable

TURN_ITEMS = 10_000
"""Read in one turn of the loop: 3 ms."""
WAIT_S_MAX = 60.0


class KnownItems:
    """The items that are described and not deleted."""

    def __init__(self, engine: Engine) -> None:
        """Read the state of ``engine``."""
        self._engine = engine
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Answer from now on."""
        self._loop = asyncio.get_running_loop()

    async def stop(self) -> None:
        """Answer no more."""
        self._loop = None

    def __call__(self) -> Sequence[str]:
        """Return the ids; from another thread than the loop's.

        Raises:
            BrokerUnavailable: The engine is not running, or too busy.
        """
        loop = self._loop
        if loop is None:
            message = "the items are not known before the start"
            raise BrokerUnavailable(message)
        asked = asyncio.run_coroutine_threadsafe(self._read(), loop)
        try:
            return asked.result(WAIT_S_MAX)
        except TimeoutError as error:
            asked.cancel()
            message = f"the items could not be read within {WAIT_S_MAX:.0f} s"
            raise BrokerUnavailable(message) from error

    async def _read(self) -> Sequence[str]:
        fold = self._engine.fold
        found: list[str] = []
        for first in range(0, fold.items.count, TURN_ITEMS):
            index = np.arange(first, min(first + TURN_ITEMS, fold.items.count), dtype=np.int32)
            here = index[fold.items.is_catalogued(index) & ~np.isin(index, fold.items.deleted())]
            found += fold.vocabulary.item_ids(here)
            await asyncio.sleep(0)
        return found
