"""Which snapshots stay beside the newest ones, so that a request of the last days can be run again in seconds.

One an hour of log time, the first of it, for so many days; where they take more bytes than they may, one in two hours,
in four, and so on. A rerun then folds more of the log, and nothing else changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

HOUR_MS = 3_600_000
HOURS_A_DAY = 24


class Hourly(msgspec.Struct, frozen=True):
    """How long and how many."""

    days: int = 0
    """Of log time before the newest snapshot; 0 = none stays for this."""
    bytes_max: int = 10 << 30
    """Of all that stay for this."""


NONE = Hourly()


@dataclass(frozen=True, slots=True)
class Written:
    """A snapshot that is there."""

    log_time_ms: int
    byte_count: int


def staying(written: Mapping[str, Written], hourly: Hourly) -> frozenset[str]:
    """Return the names of the snapshots that stay, at most one in each hour.

    Args:
        written: By name, which begins with the log position.
        hourly: How long and how many.
    """
    newest = max((each.log_time_ms for each in written.values()), default=0)
    since = newest - hourly.days * HOURS_A_DAY * HOUR_MS
    spacing = 1
    while spacing <= hourly.days * HOURS_A_DAY:
        first: dict[int, str] = {}
        for name in sorted(written):
            if written[name].log_time_ms >= since:
                first.setdefault(written[name].log_time_ms // (spacing * HOUR_MS), name)
        if sum(written[name].byte_count for name in first.values()) <= hourly.bytes_max:
            return frozenset(first.values())
        spacing *= 2
    return frozenset()
