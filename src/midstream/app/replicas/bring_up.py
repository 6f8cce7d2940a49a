"""Bringing a node's copy of a shared log up to the topic's end, for a command that goes by what the log has."""

import asyncio
from collections.abc import Callable, Mapping

from midstream.core.errors import StoreUnavailable
from midstream.engine.instance import Instance

LAG_MS_MAX = 1_000
"""A copy that is no further behind is up to date; the rest comes with what the command appends."""
LOOK_S = 0.02
STILL_S_MAX = 60.0
"""Without any progress for so long the broker is taken for gone."""


def bring_up(open_instance: Callable[[], Instance]) -> Mapping[str, int]:
    """Open an engine, copy the topic to its end, close the engine; return the log position before and after.

    Raises:
        StoreUnavailable: The broker does not answer.
    """
    return asyncio.run(_bring_up(open_instance()))


async def _bring_up(running: Instance) -> Mapping[str, int]:
    began = running.engine.log.end
    async with running:
        await reach_end(running)
    return {"before": began, "after": running.engine.fold.log_position}


async def reach_end(running: Instance) -> None:
    """Return when a started node has copied the topic to its end, or nearly.

    Raises:
        StoreUnavailable: It has made no progress for a minute.
    """
    writer = running.shared_log
    if writer is None:
        return
    loop = asyncio.get_running_loop()
    end, moved_s = running.engine.log.end, loop.time()
    while (lag_ms := writer.lag_ms) is None or lag_ms > LAG_MS_MAX:
        if running.engine.log.end != end:
            end, moved_s = running.engine.log.end, loop.time()
        if loop.time() > moved_s + STILL_S_MAX:
            message = f"the shared log was not read for {STILL_S_MAX:g} s: {writer.trouble or 'no reason is known'}"
            raise StoreUnavailable(message)
        await asyncio.sleep(LOOK_S)
