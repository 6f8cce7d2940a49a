"""In-memory event log for tests, trials and simulation; its events end with the process."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from midstream.core.errors import AppendFailed, DiskFull
from midstream.core.types import EventBatch, LogPosition
from midstream.events.schema import cut

EVENTS_MAX = 10_000_000
"""At about 150 bytes an event 1.5 GB, half of what all state may take."""


class MemoryLog:
    """An ``EventLog`` that is durable until the process ends. One thread may append while others read."""

    def __init__(self, events_max: int = EVENTS_MAX) -> None:
        """Begin empty; at ``events_max`` events further ones find no room."""
        self._events_max = events_max
        self._firsts: list[int] = []
        self._batches: list[EventBatch] = []
        self._end = 0
        self._last_log_time_ms = 0
        self._closed = False

    @property
    def generation(self) -> int:
        """Always 0: history in memory is never rewritten."""
        return 0

    @property
    def end(self) -> LogPosition:
        """Number of events."""
        return LogPosition(self._end)

    @property
    def last_log_time_ms(self) -> int:
        """Log time of the last event, 0 while there is none."""
        return self._last_log_time_ms

    def append(self, batch: EventBatch) -> LogPosition:
        """Store a batch; return the position after its last event.

        Raises:
            DiskFull: The log has as many events as it may.
            AppendFailed: The log was closed.
            ValueError: Log time goes back.
        """
        if self._closed:
            message = "the log was closed"
            raise AppendFailed(message)
        if len(batch) == 0:
            return self.end
        times = np.concatenate(([self._last_log_time_ms], batch.rows["log_time_ms"]))
        if np.any(times[1:] < times[:-1]):
            message = f"log time goes back, within the batch or from {self._last_log_time_ms}"
            raise ValueError(message)
        if self._end + len(batch) > self._events_max:
            message = f"{self._end} events are in memory and {self._events_max} is the most"
            raise DiskFull(message)
        self._batches.append(EventBatch(batch.rows.copy(), batch.text))
        self._firsts.append(self._end)
        self._last_log_time_ms = int(times[-1])
        self._end += len(batch)
        return self.end

    def read(self, after: LogPosition, limit: int) -> Sequence[tuple[LogPosition, EventBatch]]:
        """Return batches of the events at and after a position, whole ones until ``limit`` events, oldest first.

        Raises:
            ValueError: ``after`` is beyond the end, or ``limit`` below 1.
        """
        end = self._end
        if not 0 <= after <= end or limit < 1:
            message = f"after {after} of {end} and limit {limit}: 0 to the end, and 1 or more, would be right"
            raise ValueError(message)
        found: list[tuple[LogPosition, EventBatch]] = []
        number = bisect_right(self._firsts, after) - 1
        position = int(after)
        while position < min(after + limit, end):
            first, batch = self._firsts[number], self._batches[number]
            found.append((LogPosition(position), cut(batch, position - first, len(batch))))
            position = first + len(batch)
            number += 1
        return found

    def close(self) -> None:
        """Refuse further events; what is there can still be read."""
        self._closed = True
