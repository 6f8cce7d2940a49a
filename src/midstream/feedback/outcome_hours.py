"""Outcomes of slates by hour: sums of each hour of log time and placement, over the slates that the state holds.

An hour has the slates that were served in it with the outcomes so far, so late ones count. The sums of a day are those
of its hours, and those of the shop those of its placements. No served record is read: a slate's placement, its
positions and what followed lie in the state. A variant of a placement counts for the placement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.feedback.online_metrics import MetricOptions, slate_rows
from midstream.state.outcomes.outcomes import Slates
from midstream.state.outcomes.slate_groups import base_placement

HOUR_MS: Final = 3_600_000
HOURS: Final = 7 * 24
"""That are kept, the running one among them: as long as the join holds slates by default."""
PLACEMENTS_MAX: Final = 16
"""With series of their own, those with most slates: 17 series of 168 hours and five sums are 60 kB of JSON."""
Real = NDArray[np.float64]
_SLATES, _SEEN, _CLICKED, _CONVERTED, _REVENUE = range(5)


@dataclass(frozen=True, slots=True, eq=False)
class HourSeries:
    """Sums of some slates, one for each hour from the first in which any slate was served, (hours,)."""

    placement: str | None
    """None = all placements."""
    begin_ms: int
    """Log time at which the first hour begins; hours are those of UTC."""
    slates: Real
    impressions: Real
    """Positions that were seen."""
    clicks: Real | None
    """Positions that were seen and clicked; None = no action is a click."""
    conversions: Real | None
    """Slates with a conversion; None = no action is one."""
    revenue: Real | None
    """Sum of value x quantity at positions with a conversion; None as above."""


class OutcomeHours:
    """Accumulator of the slates of the last hours."""

    def __init__(self, options: MetricOptions) -> None:
        """Start without slates; hours end at the time of the options."""
        self._options = options
        self._first_hour = options.now_ms // HOUR_MS - HOURS + 1
        self._numbers: dict[str, int] = {}
        self._sums = np.zeros((5, 0, HOURS))

    def add(self, slates: Slates, placements: Sequence[str]) -> None:
        """Take held slates in, each with its placement or variant; those before the first hour are passed by.

        Cost: 5 ms for 65,000 positions, which is a lot at most.
        """
        served_ms = slates.slate["log_time_ms"].astype(np.int64)
        hour = served_ms // HOUR_MS - self._first_hour
        kept = np.flatnonzero((hour >= 0) & (served_ms <= self._options.now_ms))
        if not len(kept):
            return
        names = [placements[at] for at in kept.tolist()]
        own = {name: self._number(base_placement(name)) for name in set(names)}
        number = np.array([own[name] for name in names], dtype=np.int64)
        count = len(self._numbers)
        new = np.zeros((5, count - self._sums.shape[1], HOURS))
        self._sums = np.concatenate((self._sums, new), axis=1)
        code = number * HOURS + hour[kept]
        for place, worth in enumerate(self._worth(slates, kept)):
            self._sums[place] += np.bincount(code, worth, minlength=count * HOURS).reshape(count, HOURS)

    def series(self) -> tuple[HourSeries, ...]:
        """Return the sums of all placements together, then of each one, that with most slates first."""
        total = self._sums.sum(axis=1)
        served = np.flatnonzero(total[_SLATES])
        if not len(served):
            return ()
        begin = int(served[0])
        by_slates = sorted(self._numbers.items(), key=lambda each: (-self._sums[_SLATES, each[1]].sum(), each[0]))
        begin_ms = (self._first_hour + begin) * HOUR_MS
        own = [(name, self._sums[:, number]) for name, number in by_slates[:PLACEMENTS_MAX]]
        named: list[tuple[str | None, Real]] = [(None, total), *own]
        return tuple(self._named(name, begin_ms, sums[:, begin:]) for name, sums in named)

    def _number(self, placement: str) -> int:
        return self._numbers.setdefault(placement, len(self._numbers))

    def _named(self, placement: str | None, begin_ms: int, sums: Real) -> HourSeries:
        has_clicks, sells = self._options.clicks != 0, self._options.conversions != 0
        return HourSeries(
            placement,
            begin_ms,
            sums[_SLATES],
            sums[_SEEN],
            sums[_CLICKED] if has_clicks else None,
            sums[_CONVERTED] if sells else None,
            sums[_REVENUE] if sells else None,
        )

    def _worth(self, slates: Slates, kept: NDArray[np.intp]) -> tuple[Real, ...]:
        """Return what each kept slate adds to each sum."""
        options, count = self._options, len(kept)
        length = slates.slate["length"].astype(np.int64)[kept]
        row = slate_rows(slates.slate["first"].astype(np.int64)[kept], length)
        slate = np.repeat(np.arange(count), length)
        bits = slates.outcome["bits"][row]
        value = np.nan_to_num(slates.outcome["value"][row].astype(np.float64), nan=0.0)
        seen = (bits & np.uint32(options.seen)) != 0
        clicked = seen & ((bits & np.uint32(options.clicks)) != 0)
        converts = (bits & np.uint32(options.conversions)) != 0
        sums = [
            np.bincount(slate, each, minlength=count).astype(np.float64)
            for each in (seen, clicked, converts, value * converts)
        ]
        return np.ones(count), sums[0], sums[1], (sums[2] > 0).astype(np.float64), sums[3]
