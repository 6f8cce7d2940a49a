"""Feature tables as a team would make them for Feast: plain Python over the events, by the documented formulas.

Each event gives a row for each of its keys (item, user, pair): the new numbers of that key. Nothing of ours is imported
here, so these tables are also what our numbers are held to.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

HALF_LIFE_MS = 21_600_000
KEYS = {
    "item": ("item_id",),
    "user": ("user_id",),
    "user_item": ("user_id", "item_id"),
    "user_category": ("user_id", "category"),
}
"""The keys of each table."""


@dataclass
class Numbers:
    """What is known of one key."""

    views: int = 0
    fading: float = 0.0
    """Sum of 2^(-age / half-life) of the views, as of ``last_view_ms``."""
    last_view_ms: float = math.nan
    spent: list[float] = field(default_factory=lambda: [0.0, 0.0, math.inf, -math.inf])
    """Count, sum, least and most of the values of purchases."""
    last: tuple[float, float] = (-math.inf, math.nan)
    """Time and value of the newest purchase; of equal times, of the later one."""

    def add(self, action: str, value: float, time_ms: int) -> None:
        """Fold an event, in whatever order they come."""
        if action == "view":
            self.views += 1
            newest = time_ms if math.isnan(self.last_view_ms) else max(self.last_view_ms, time_ms)
            faded = 0.0 if self.views == 1 else self.fading * 2 ** (-(newest - self.last_view_ms) / HALF_LIFE_MS)
            self.fading, self.last_view_ms = faded + 2 ** (-(newest - time_ms) / HALF_LIFE_MS), newest
        elif action == "purchase":
            count, total, least, most = self.spent
            self.spent = [count + 1, total + value, min(least, value), max(most, value)]
            if time_ms >= self.last[0]:
                self.last = (time_ms, value)

    def row(self) -> dict[str, float]:
        """Return the columns of its table."""
        count, total, least, most = self.spent
        return {
            "views": float(self.views),
            "fading": self.fading,
            "last_view_ms": self.last_view_ms,
            "mean": total / count if count else math.nan,
            "min": least if count else math.nan,
            "max": most if count else math.nan,
            "last": self.last[1],
        }


COLUMNS = tuple(Numbers().row())


def ordered(events: Sequence[dict], order: str) -> list[dict]:
    """Return the events as they were appended, or by event time."""
    return list(events) if order == "arrival" else sorted(events, key=lambda event: event["event_time_ms"])


def rows(events: Iterable[dict], keys: tuple[str, ...], stamp: str) -> Iterator[dict]:
    """Yield one row an event, in the order in which they are folded.

    Args:
        events: In the order in which they are folded.
        keys: Names of the columns that say whose row it is.
        stamp: The column that is the row's event timestamp.
    """
    known: dict[tuple[str, ...], Numbers] = {}
    for event in events:
        key = tuple(event[name] for name in keys)
        numbers = known.setdefault(key, Numbers())
        numbers.add(event["action"], event["value"], event["event_time_ms"])
        yield {
            **dict(zip(keys, key, strict=True)),
            **numbers.row(),
            "stamp_ms": event[stamp],
            "created_ms": event["log_time_ms"],
        }
