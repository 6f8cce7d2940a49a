"""A rate limit of log lines: what clients can bring about as often as they like is said a few times a minute.

What is kept back is counted and said in one line when the minute is over, so nothing disappears. Kinds are told apart
by their text before values are put in, of which the code has a fixed number.

Reference: the Linux kernel's ``printk_ratelimit`` (a burst an interval, then how many were suppressed).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

LINES_MAX = 3
"""Of one kind a minute: enough to see what they have in common."""
MINUTE_S = 60.0
_SUMMARY = "... and %s more in the last minute: %s"


class LineLimit(logging.Filter):
    """Lets a few lines of each kind pass; for one logger, on one event loop."""

    def __init__(self, logger: logging.Logger, loop: asyncio.AbstractEventLoop) -> None:
        """Begin the first minute with the first line."""
        super().__init__()
        self._logger = logger
        self._loop = loop
        self._lines: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is said now."""
        if record.msg is _SUMMARY:
            return True
        if self._timer is None:
            self._timer = self._loop.call_later(MINUTE_S, self.end_minute)
        kind = str(record.msg)
        self._lines[kind] += 1
        return self._lines[kind] <= LINES_MAX

    def end_minute(self) -> None:
        """Say what was kept back, and let the next line begin another minute."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, Counter()
        for kind, count in lines.items():
            if count > LINES_MAX:
                self._logger.warning(_SUMMARY, f"{count - LINES_MAX:,}", kind.strip())


@contextmanager
def lines_limited(logger: logging.Logger) -> Generator[None]:
    """Limit the lines of a logger while the block runs on the running event loop."""
    limit = LineLimit(logger, asyncio.get_running_loop())
    logger.addFilter(limit)
    try:
        yield
    finally:
        logger.removeFilter(limit)
        limit.end_minute()
