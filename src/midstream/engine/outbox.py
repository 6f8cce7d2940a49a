"""Served records on their way to the log: nobody waits for them, so they go in small lots instead of one by one."""

import asyncio
from collections.abc import Callable

from midstream.core.errors import Overloaded
from midstream.engine.writer import Entry, Writer
from midstream.events.schema import Event, build
from midstream.monitoring.metrics import Metrics

LINGER_S = 0.005
"""A record waits this long for others: at 1,000 answers a second five share one commit and one folding step."""
LOT_EVENTS_MAX = 64
"""38 kB at 600 bytes a record: goes at once."""


class Outbox:
    """Collects served records, and hands them to the writer before any later event of a caller."""

    def __init__(self, writer: Writer, is_refused: Callable[[], bool], metrics: Metrics) -> None:
        """Hand over to ``writer`` unless the log takes nothing more, as ``is_refused`` says."""
        self._writer = writer
        self._is_refused = is_refused
        self._metrics = metrics
        self._events: list[Event] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, event: Event) -> None:
        """Take a record; it is in the log some milliseconds later."""
        self._events.append(event)
        if len(self._events) >= LOT_EVENTS_MAX:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LINGER_S, self.flush)

    def flush(self) -> None:
        """Hand over what was collected; where there is no room for it, it is lost and counted."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        events, self._events = self._events, []
        if not events:
            return
        try:
            if not self._is_refused():
                self._writer.submit(Entry(build(events), None))
                return
        except Overloaded:
            self._metrics.count_overload("served")
            return
        self._metrics.count_append_failure("append_failed")
