"""Steady wall clock of a server: ignores a leap forward until it has lasted for an hour.

Log time never goes back. So one event under a clock that is in the future for a moment closes every session, moves the
dedupe window past every event id, and makes all later events late until the clock has caught up. A running process can
detect that: a clock that advanced by seconds a moment ago cannot be a year ahead now. So a leap forward is believed
when it has lasted for an hour; until then time continues from before it. A clock that goes back needs no such care. A
start believes the clock: a wrong clock cannot be told from a long stop.
"""

import threading
from collections.abc import Callable

from midstream.core.types import TimestampMs

LEAP_MS_MAX = 1_000_000
"""1,000 s: what NTP takes for a clock that is broken and not one that went astray (PANICT, RFC 5905, section 10)."""
STANDS_S = 3_600.0
"""A leap that somebody made is put right within the hour or not at all; a machine that was stopped for longer than
``LEAP_MS_MAX`` while its time since the start stood still is behind for as long, and then right."""


class SteadyClock:
    """Milliseconds since 1970, by the wall clock and the time since the start. Any thread may read it."""

    def __init__(
        self, wall_ms: Callable[[], int], since_start_s: Callable[[], float], stands_s: float = STANDS_S
    ) -> None:
        """Begin with the wall clock.

        Args:
            wall_ms: Returns the machine's time.
            since_start_s: Never goes back, and continues while the machine sleeps.
            stands_s: Time for which a leap forward must last before it is believed.
        """
        self._wall_ms = wall_ms
        self._since_start_s = since_start_s
        self._stands_s = stands_s
        self._lock = threading.Lock()
        self._offset_ms = wall_ms() - int(since_start_s() * 1_000)
        self._leapt_at_s: float | None = None
        self.leap_ms = 0
        """How far the clock is ahead of what is believed, 0 = it is believed."""

    def __call__(self) -> TimestampMs:
        """Return the time. Cost: 1 µs."""
        wall_ms, since_s = self._wall_ms(), self._since_start_s()
        if self._leapt_at_s is None and wall_ms - int(since_s * 1_000) <= self._offset_ms:
            return TimestampMs(wall_ms)  # as below, where nothing is to change
        with self._lock:
            since_s = self._since_start_s()
            offset_ms = self._wall_ms() - int(since_s * 1_000)
            ahead_ms = offset_ms - self._offset_ms
            if ahead_ms <= LEAP_MS_MAX:
                # A clock that goes back may come back: only what is later than before is a new beginning.
                self._offset_ms = max(self._offset_ms, offset_ms)
                self._leapt_at_s, self.leap_ms = None, 0
                return TimestampMs(offset_ms + int(since_s * 1_000))
            if self._leapt_at_s is None:
                self._leapt_at_s = since_s
            if since_s - self._leapt_at_s < self._stands_s:
                self.leap_ms = ahead_ms
                return TimestampMs(self._offset_ms + int(since_s * 1_000))
            self._offset_ms, self._leapt_at_s, self.leap_ms = offset_ms, None, 0
            return TimestampMs(offset_ms + int(since_s * 1_000))
