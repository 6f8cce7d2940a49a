"""Drift of what a running engine serves: scores by placement and model, and what follows, each against days before.

*Scores*: the population stability index of the last two hours' scores against those of the day before them, of the same
placement and versions of models: a model that was promoted begins anew, as its scores are others by design.

*Outcomes*: the share of seen slates that are clicked, and of slates that convert, of today against the days before that
the join holds. A slate counts when it is settled, by acts within that time of it, so that young and old slates are
alike. Users are the units, since slates of one user are alike, and the interval holds at every look of the day. A rate
is in alarm where the whole interval of its change is beyond ``CHANGE_MIN`` of the rate before: what is smaller, such as
the hour of the day, is no alarm however certain.

Reference: N. Siddiqi, "Credit Risk Scorecards", 2006 (the index); I. Waudby-Smith and others, "Time-uniform central
    limit theory and asymptotic confidence sequences", Annals of Statistics 2024, eq. 9.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.experiments.any_time import AnyTime, half_width
from midstream.evaluation.metrics.drift import drift_of
from midstream.evaluation.metrics.feature_statistics import statistics_of
from midstream.state.outcomes.outcome_fold import NEVER
from midstream.state.outcomes.outcomes import Slates

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
GROUPS_MAX: Final = 256
"""Placements with their models whose scores are kept: 25 MB; that which served longest ago makes room."""
SCORES_MAX: Final = 1_000
"""Of an hour: the index of two such samples of one distribution is below 0.05."""
HOURS: Final = 26
"""Hours that are kept: two of now, and the day before."""
NOW_HOURS: Final = 2
SAMPLE_MIN: Final = 500
"""Scores on both sides without which nothing is compared."""
PSI_MAX: Final = 0.25
"""Much has changed, by custom."""
CHANGE_MIN: Final = 0.2
"""Relative change of a rate that may be an alarm."""
UNITS_MIN: Final = 200
"""Users on both sides without which no rate is compared."""
LEVEL: Final = AnyTime(alpha=0.001, tuned_units=2_000.0)
"""An alarm by chance once in 1,000 days of a placement, however often it is looked."""
Numbers = NDArray[np.int64]
Real = NDArray[np.float64]
Mask = NDArray[np.bool_]


class ScoreDrift(NamedTuple):
    """Scores of one placement and its models, now against the day before."""

    placement: str
    model: str
    psi: float
    """NaN = too few on one side."""
    scores_now: int
    scores_before: int

    @property
    def is_alarm(self) -> bool:
        """Whether much has changed."""
        return self.psi > PSI_MAX


class RateDrift(NamedTuple):
    """A rate of one placement, today against the days before."""

    placement: str
    rate: str
    """``click`` or ``conversion``."""
    today: float
    """NaN = too few users, as the next three."""
    before: float
    low: float
    """Of today less before, at all looks of the day."""
    high: float
    users_today: int
    users_before: int

    @property
    def is_alarm(self) -> bool:
        """Whether the whole interval is beyond what is tolerated."""
        bound = CHANGE_MIN * self.before
        return self.low > bound or self.high < -bound


class ScoreSamples:
    """Samples of served scores by hour."""

    def __init__(self) -> None:
        """Begin with none."""
        self._hours: OrderedDict[tuple[str, str], OrderedDict[int, list[float]]] = OrderedDict()

    def add(self, placement: str, model: str, scores: NDArray[np.float32], served_ms: int) -> None:
        """Keep the scores of a slate; those beyond ``SCORES_MAX`` of an hour are passed by."""
        key = placement, model
        hours = self._hours.setdefault(key, OrderedDict())
        self._hours.move_to_end(key)
        if len(self._hours) > GROUPS_MAX:
            self._hours.popitem(last=False)
        kept = hours.setdefault(served_ms // HOUR_MS, [])
        kept += scores[: SCORES_MAX - len(kept)].tolist()
        while len(hours) > HOURS:
            del hours[min(hours)]

    def drifts(self, now_ms: int) -> Iterator[ScoreDrift]:
        """Yield the drift of each placement and its models that served in the last hours."""
        last = now_ms // HOUR_MS
        for (placement, model), hours in self._hours.items():
            now = _joined(hours, range(last - NOW_HOURS + 1, last + 1))
            before = _joined(hours, range(last - HOURS + 1, last - NOW_HOURS + 1))
            if len(now):
                psi = math.nan
                if min(len(now), len(before)) >= SAMPLE_MIN:
                    psi = drift_of(statistics_of(("score",), before), ("score",), now)[0].psi
                yield ScoreDrift(placement, model, psi, len(now), len(before))


def _joined(hours: Mapping[int, list[float]], wanted: range) -> NDArray[np.float32]:
    """Return the scores of some hours, (n, 1)."""
    return np.array([each for hour in wanted for each in hours.get(hour, ())], dtype=np.float32)[:, np.newaxis]


@dataclass(frozen=True, slots=True)
class RateOptions:
    """Meaning of one rate."""

    name: str
    acts: int
    """Bits of the actions; 0 = none is configured, and the rate is not watched."""
    settle_ms: int
    """Age from which a slate counts, and within which its acts do."""
    seen: int = 0
    """Bit of impressions: only slates with any count; 0 = all slates do."""


@dataclass(slots=True, eq=False)
class _Part:
    """Settled slates of some placements."""

    day: Numbers
    placement: Numbers
    unit: NDArray[np.uint64]
    has: Real


@dataclass(slots=True, eq=False)
class RateWatch:
    """Rates of a round; take slates in, then ask."""

    options: RateOptions
    now_ms: int
    _placements: dict[str, int] = field(default_factory=dict[str, int])
    _parts: list[_Part] = field(default_factory=list[_Part])

    def add(self, slates: Slates, placements: Sequence[str]) -> None:
        """Take held slates in, each with its placement.

        Cost: some NumPy calls a lot.
        """
        if not self.options.acts or not len(slates):
            return
        told, row = slates.slate, slates.outcome
        settled_ms = told["log_time_ms"].astype(np.int64) + self.options.settle_ms
        first, length = told["first"].astype(np.int64), told["length"].astype(np.int64)
        after_ms = row["acted_after_ms"]
        in_time = (after_ms != NEVER) & (after_ms <= self.options.settle_ms)
        acted = in_time & ((row["bits"] & np.uint32(self.options.acts)) != 0)
        seen = (row["bits"] & np.uint32(self.options.seen)) != 0 if self.options.seen else np.ones(len(row), np.bool_)
        counts = (settled_ms <= self.now_ms) & _any(seen, first, length)
        number = [self._placements.setdefault(each, len(self._placements)) for each in placements]
        self._parts.append(
            _Part(
                (settled_ms // DAY_MS)[counts],
                np.array(number, dtype=np.int64)[counts],
                told["user"][counts].astype(np.uint64),
                _any(acted, first, length)[counts].astype(np.float64),
            )
        )

    def drifts(self) -> Iterator[RateDrift]:
        """Yield the drift of each placement that served settled slates today."""
        if not self._parts:
            return
        day, placement, has = (
            np.concatenate([getattr(each, name) for each in self._parts]) for name in ("day", "placement", "has")
        )
        unit = np.concatenate([each.unit for each in self._parts])
        today = day == self.now_ms // DAY_MS
        for name, number in self._placements.items():
            mine = placement == number
            now, before = mine & today, mine & ~today
            if now.any():
                yield _rate_drift(name, self.options.name, (unit[now], has[now]), (unit[before], has[before]))


def _rate_drift(
    placement: str, rate: str, now: tuple[NDArray[np.uint64], Real], before: tuple[NDArray[np.uint64], Real]
) -> RateDrift:
    """Return the drift of one rate from units and whether each slate has an act, on both sides."""
    value, error, users = ratio_by_unit(*now, np.ones(len(now[0])))
    then, then_error, then_users = ratio_by_unit(*before, np.ones(len(before[0])))
    if min(users, then_users) < UNITS_MIN:
        return RateDrift(placement, rate, math.nan, math.nan, math.nan, math.nan, users, then_users)
    wide = float(half_width(math.hypot(error, then_error), users, LEVEL))
    change = value - then
    return RateDrift(placement, rate, value, then, change - wide, change + wide, users, then_users)


def ratio_by_unit(unit: NDArray[np.uint64], has: Real, of: Real) -> tuple[float, float, int]:
    """Return a ratio of sums, its standard error by units, and units; a slate of nobody is a unit of its own.

    Args:
        unit: Of each slate, 0 = nobody, (n,).
        has: The numerator of each slate, such as whether it has an act, (n,).
        of: The denominator of each slate, above 0: ones for a share of slates, (n,).
    """
    if not len(unit):
        return math.nan, math.nan, 0
    _, own = np.unique(unit, return_inverse=True)
    nobody = np.flatnonzero(unit == 0)
    own = own.astype(np.int64)
    own[nobody] = own.max() + 1 + np.arange(len(nobody))
    _, own = np.unique(own, return_inverse=True)
    slates, acted = np.bincount(own, of), np.bincount(own, has)
    rate = float(acted.sum() / slates.sum())
    units = len(slates)
    spread = float(((acted - rate * slates) ** 2).sum()) * units / max(1, units - 1)
    return rate, math.sqrt(max(spread, 1.0)) / float(slates.sum()), units  # of a rate of 0 or 1 as if one differed


def _any(flag: Mask, first: Numbers, length: Numbers) -> Mask:
    """Return whether any position of each slate has a flag."""
    upto = np.concatenate(([0], np.cumsum(flag)))
    return np.asarray(upto[first + length] > upto[first], dtype=np.bool_)
