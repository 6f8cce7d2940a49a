"""Ticks: events that only advance log time, when no other event does and something waits for it.

One is in flight at a time. Log time moves only when a tick is written, so a second one made while a slow disk held the
first would have the same log time.
"""

import asyncio
from collections.abc import Callable

from midstream.core.errors import AppendFailed, Overloaded
from midstream.core.kinds import Kind
from midstream.engine.ingest.writer import QueueEntry, Ticket
from midstream.events.schema import Event, build

TICK_MS = 60_000
"""At most one tick a minute of log time, and only while an open session waits for log time to move."""


async def append_tick(submit: Callable[[QueueEntry], None], event_id: str = "") -> None:
    """Append one tick, and return when it is applied or refused.

    Args:
        event_id: Equal for the same tick of several nodes, of which the fold then takes one; empty = there are none.
        submit: Queues an entry for the writer, and resolves its ticket when it is applied or was not stored. A refused
            tick is left out.
    """
    ticket: Ticket = asyncio.get_running_loop().create_future()
    # What went wrong with it is told by the engine's health; read here, so that nobody is told that nobody read it.
    ticket.add_done_callback(lambda done: None if done.cancelled() else done.exception())
    try:
        submit(QueueEntry(build((Event(Kind.TICK, event_id=event_id),)), ticket))
    except (Overloaded, AppendFailed):  # what waits moves log time on too; a dead log is told elsewhere
        return
    await asyncio.wait((ticket,))
