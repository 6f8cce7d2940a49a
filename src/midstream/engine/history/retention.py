"""Retention of events: the position up to which the log is cut, safe against a clock that was wrong.

Log time never goes back. So one event under a clock that was in the future for a moment moves it for good, and a cut by
log time alone would remove the whole history. Three rules prevent that:

- while log time is ahead of the clock by more than clocks differ nothing is cut;
- age counts from the clock or the log's last event, whichever is earlier;
- a pause of the log of more than an hour counts for nothing until the log went on for a day after it. So after a leap
  of any length, forward or there and back, history stays for a day in which health reports it; and a shop that was
  closed for a year has a day to inspect its data. A log that rests at night keeps some hours more than configured.

It depends on the log and the clock alone, so it holds across restarts and for a folder without a server.
"""

from collections.abc import Callable
from dataclasses import dataclass

from midstream.core.protocols import LogReader
from midstream.core.types import LogPosition
from midstream.engine.health import AHEAD_MS_MAX
from midstream.events.history.history import DAY_MS

PAUSE_MS = 3_600_000
"""A longer time without an event may have been a leap of the clock. A leap of less cuts that much too early; and where
events come all the time only the ends of some segments are read to see that there was no pause."""
CONFIRMED_MS = DAY_MS
"""Time that the log goes on after a pause before that counts: an operator sees each day how the shop is. Each pause is
an hour of it, so a shop with an event a day looks back on 24 of them."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Before when events are too old to be kept."""

    before_ms: int
    """Log time."""
    held_ms: int
    """How long the last pauses were, which count for nothing yet."""
    refusal: str = ""
    """Why nothing may be cut now; empty = it may."""


def cut_of(reader: LogReader, end: LogPosition, keep_ms: int, now_ms: int) -> Cut:
    """Return the part of a log that may be cut.

    Args:
        reader: Of the log.
        end: Log position before which all is durable, above the log's beginning.
        keep_ms: How long events are kept.
        now_ms: Wall clock.

    Raises:
        LogDamaged: The log cannot be read.
    """

    def log_time_ms(position: int) -> int:
        ((_, batch),) = reader.read(LogPosition(position), 1, end)
        return int(batch.rows["log_time_ms"][0])

    newest_ms = log_time_ms(end - 1)
    if newest_ms - now_ms > AHEAD_MS_MAX:
        days = (newest_ms - now_ms) / DAY_MS
        return Cut(0, 0, f"log time is {days:.2f} days ahead of the clock, so nobody can tell what is too old")
    held_ms = unconfirmed_ms(log_time_ms, reader.begin, end)
    return Cut(min(newest_ms, now_ms) - keep_ms - held_ms, held_ms)


def unconfirmed_ms(log_time_ms: Callable[[int], int], begin: int, end: int) -> int:
    """Return the length of the pauses after which the log did not go on for a day.

    The newest are searched first, by bisection, so a log without pauses takes some 50 reads and one with many some
    hundred, whatever its length.

    Args:
        log_time_ms: Log time of the event at a position; never going back.
        begin: First log position.
        end: Behind the last.
    """
    covered_ms = held_ms = 0
    spans = [(begin, log_time_ms(begin), end - 1, log_time_ms(end - 1))]
    while spans and covered_ms < CONFIRMED_MS:
        first, first_ms, last, last_ms = spans.pop()
        span_ms = last_ms - first_ms
        if last - first <= 1 or span_ms <= PAUSE_MS:
            covered_ms += min(span_ms, PAUSE_MS)
            held_ms += span_ms if span_ms > PAUSE_MS else 0
            continue
        middle = (first + last) // 2
        middle_ms = log_time_ms(middle)
        spans += [(first, first_ms, middle, middle_ms), (middle, middle_ms, last, last_ms)]
    return held_ms
