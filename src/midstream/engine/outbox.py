"""Served records on their way to the log: nobody waits for them, so they go in small lots instead of one by one."""

import asyncio
from collections.abc import Callable

from midstream.core.errors import AppendFailed, Overloaded
from midstream.engine.forwarding import Forwarding
from midstream.engine.writer import Entry, Writer
from midstream.events.schema import Event, build
from midstream.monitoring.metrics import Metrics

LINGER_S = 0.02
"""A record waits this long for others, or for the next event: at 1,000 answers a second 20 share one sync."""
LOT_EVENTS_MAX = 256
"""150 kB at 600 bytes a record: goes at once."""
LOT_BYTES_MAX = 1 << 20
"""Of bodies; the one that reaches it goes at once. A ranking of 1,000 items has 30 kB, with a field of each 60."""


class Outbox:
    """Collects served records; they reach the log before any later event of a caller."""

    def __init__(self, writer: Writer | Forwarding, is_refused: Callable[[], bool], metrics: Metrics) -> None:
        """Hand over to ``writer`` unless the log takes nothing more, as ``is_refused`` says."""
        self._writer = writer
        self._is_refused = is_refused
        self._metrics = metrics
        self._events: list[Event] = []
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, event: Event) -> None:
        """Take a record; it is in the log some milliseconds later."""
        self._events.append(event)
        self._bytes += len(event.body)
        if len(self._events) >= LOT_EVENTS_MAX or self._bytes >= LOT_BYTES_MAX:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LINGER_S, self.flush)

    def take(self) -> tuple[Entry, ...]:
        """Return what was collected, to be submitted before an event that may follow from it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        events, self._events, self._bytes = self._events, [], 0
        return (Entry(build(events), None),) if events else ()

    def flush(self) -> None:
        """Hand over what was collected; where there is no room for it, it is lost and counted."""
        lot = self.take()
        if not lot:
            return
        if self._is_refused():
            self._metrics.count_append_failure("append_failed")
            return
        try:
            self._writer.submit(*lot)
        except Overloaded:
            self._metrics.count_overload("served")
        except AppendFailed:
            self._metrics.count_append_failure("append_failed")
