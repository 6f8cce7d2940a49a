"""Lines that clients can bring about: a few a minute of each kind, the others as a number."""

import asyncio
import logging
from typing import Any

from midstream.serving.http.log_limit import LINES_MAX, LineLimit, lines_limited

LOGGER = logging.getLogger("midstream.tests.log_limit")


def said(caplog):
    """Return the lines so far."""
    return [record.getMessage() for record in caplog.records]


def test_a_few_lines_of_a_kind_pass_and_the_rest_is_a_number(caplog):
    """A kind is a text before values are put in; nothing is said at the end of a minute in which all was said."""

    async def speak():
        with lines_limited(LOGGER):
            for number in range(1_000):
                LOGGER.warning("client %s left", number)
            LOGGER.warning("once")

    asyncio.run(speak())
    assert said(caplog) == [
        *(f"client {number} left" for number in range(LINES_MAX)),
        "once",
        "... and 997 more in the last minute: client %s left",
    ]


def test_the_next_minute_begins_with_its_first_line(caplog):
    """The number is said when the minute is over, not with a line that may never come."""

    async def speak():
        timers: list[asyncio.TimerHandle] = []
        loop = asyncio.get_running_loop()

        class Loop:
            """Keeps what is to be called."""

            def call_later(self, wait_s, callback):
                timers.append(loop.call_later(wait_s, callback))
                return timers[-1]

        ticking: Any = Loop()
        limit = LineLimit(LOGGER, ticking)
        LOGGER.addFilter(limit)
        try:
            for _ in range(2):
                for _ in range(LINES_MAX + 2):
                    LOGGER.warning("again")
                timers[-1]._run()
        finally:
            LOGGER.removeFilter(limit)
        assert len(timers) == 2
        assert all(each.cancelled() for each in timers)

    asyncio.run(speak())
    assert said(caplog) == [*["again"] * LINES_MAX, "... and 2 more in the last minute: again"] * 2
