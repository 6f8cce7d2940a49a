"""Correction of log times that are ahead of the clock, for exports after a clock that was wrong.

Log time never goes back, so after one event under a clock in the future all later ones have its time, and only their
order and the times of clients are right. So a log time ahead of the clock becomes the time that was sent, never earlier
than that of the event before: the order stays, and so does the time if the client sent one.
"""

import numpy as np

from midstream.core.types import EventBatch
from midstream.engine.health import AHEAD_MS_MAX
from midstream.events.schema import TIME_SENT


class BelievedTimes:
    """Sets log times that are ahead of a clock, batch by batch in the order of the log."""

    def __init__(self, now_ms: int) -> None:
        """Believe log times up to a clock, and as much later as clocks differ."""
        self._now_ms = now_ms
        self._last_ms = 0
        self.set_count = 0
        """Events whose log time was set."""

    def of(self, batch: EventBatch) -> EventBatch:
        """Return the next events of a log with corrected log times; nothing else is changed."""
        times = batch.rows["log_time_ms"]
        if not len(batch) or int(times[-1]) <= self._now_ms + AHEAD_MS_MAX:  # log times do not go back
            self._last_ms = int(times[-1]) if len(batch) else self._last_ms
            return batch
        rows = batch.rows.copy()
        is_ahead = times > self._now_ms + AHEAD_MS_MAX
        sent = rows["event_time_ms"]
        is_sent = ((rows["flags"] & TIME_SENT) > 0) & (sent <= self._now_ms)
        unknown_ms = self._last_ms or (0 if is_sent.any() else self._now_ms)
        believed = np.where(is_ahead, np.where(is_sent, sent, unknown_ms), times)
        first_ms = self._last_ms or int(believed[believed > 0].min())
        rows["log_time_ms"] = np.maximum.accumulate(np.maximum(believed, first_ms))
        self._last_ms = int(rows["log_time_ms"][-1])
        self.set_count += int(np.count_nonzero(is_ahead))
        return EventBatch(rows, batch.text)
