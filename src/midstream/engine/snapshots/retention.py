"""Snapshot retention: keeps hourly snapshots so that recent requests can be replayed in seconds.

It keeps the first snapshot of each hour of log time, for a number of days; where they exceed the bytes, one in two
hours, in four, and so on. A rerun then folds more of the log, and nothing else changes. Hours without a snapshot do not
count, so a clock that was in the future for one of them does not drop the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

HOUR_MS = 3_600_000
HOURS_A_DAY = 24


class Hourly(msgspec.Struct, frozen=True):
    """Time and bytes of hourly snapshots."""

    days: int = 0
    """Of hours of log time in which one was written; 0 = none stays for this."""
    bytes_max: int = 10 << 30
    """Of all that stay for this."""


NONE = Hourly()


@dataclass(frozen=True, slots=True)
class KeptSnapshot:
    """A snapshot that is there."""

    log_time_ms: int
    byte_count: int


def staying(written: Mapping[str, KeptSnapshot], hourly: Hourly) -> frozenset[str]:
    """Return the names of the snapshots to keep, at most one in each hour.

    Args:
        written: By name, which begins with the log position.
        hourly: Time and bytes.
    """
    count = hourly.days * HOURS_A_DAY
    hours = set(sorted({each.log_time_ms // HOUR_MS for each in written.values()})[-count:] if count else ())
    spacing = 1
    while spacing <= count:
        first: dict[int, str] = {}
        for name in sorted(written):
            if (hour := written[name].log_time_ms // HOUR_MS) in hours:
                first.setdefault(hour // spacing, name)
        if sum(written[name].byte_count for name in first.values()) <= hourly.bytes_max:
            return frozenset(first.values())
        spacing *= 2
    return frozenset()
