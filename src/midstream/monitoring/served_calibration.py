"""Calibration of served rankers: acts at the first place of slates by those that its score predicted, now and before.

A ranker predicts how often people act on what it puts first. Where they act otherwise than before by the same
predictions, people have changed, or what is shown to them: the mix of users and items, which moves a click rate, is in
the predictions already. Whether predictions are right in the mean is another question, which a version answers when it
is published.

The settled slates of the last day are looked at, of each placement and version in service: the newest quarter of them
against the others. So a version is compared with itself alone, from its canary on. Users are the units, and an alarm
needs what an alarm of a rate needs (``served_drift``).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Calibration
from midstream.evaluation.experiments.any_time import half_width
from midstream.events.served_body import ServedBody
from midstream.models.rows.calibration import probabilities
from midstream.monitoring.served_drift import CHANGE_MIN, DAY_MS, LEVEL, UNITS_MIN, ratio_by_unit
from midstream.state.outcomes.outcome_fold import NEVER
from midstream.state.outcomes.outcomes import Slates
from midstream.state.outcomes.slate_groups import base_placement

NEWEST: Final = 0.25
"""Share of the slates that are now: a quarter of a day where they come evenly."""
Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]


class RankerVersion(NamedTuple):
    """A version of a ranker."""

    model: str
    version: str


class Forecast(NamedTuple):
    """Prediction for the first place of a slate."""

    by: RankerVersion
    chance: float
    """Of an act, above 0."""


def forecast_of(record: ServedBody, lines: Mapping[RankerVersion, Calibration]) -> Forecast | None:
    """Return the prediction for the first place of a slate; None = its scores predict nothing.

    Args:
        record: Of the slate.
        lines: From scores to probabilities, of the versions that are loaded.
    """
    by = RankerVersion(record.scorer, record.models.get(record.scorer, ""))
    line = lines.get(by)
    if line is None or record.first_position or not record.scores:
        return None
    (chance,) = probabilities(line, np.frombuffer(record.scores, dtype="<f4", count=1)).tolist()
    return Forecast(by, chance) if chance > 0.0 else None  # NaN is not


class CalibrationDrift(NamedTuple):
    """Acts by predictions of one version at one placement, now against before."""

    placement: str
    by: RankerVersion
    now: float
    """Acts by those that were predicted; NaN = too few users, as the next three."""
    before: float
    low: float
    """Of now less before, at all looks of a day."""
    high: float
    users_now: int
    users_before: int
    since_ms: int = 0
    """Log time of the first slate that is of now; 0 = there is none."""

    @property
    def is_alarm(self) -> bool:
        """Whether the whole interval is beyond what is tolerated; never where nobody acted before."""
        bound = CHANGE_MIN * self.before
        return self.before > 0.0 and (self.low > bound or self.high < -bound)


@dataclass(slots=True, eq=False)
class _Part:
    """Settled slates, (n,)."""

    position: Numbers
    served_ms: Numbers
    placement: Numbers
    unit: NDArray[np.uint64]
    is_seen: Mask
    """At the first place."""
    is_acted: Mask


@dataclass(slots=True, eq=False)
class CalibrationWatch:
    """Calibration in one round; take slates in, in the order of the log, then ask."""

    acts: int
    """Bits of the actions that rankers predict."""
    seen: int
    """Bit of impressions."""
    settle_ms: int
    """Age from which a slate counts, and within which its acts do."""
    now_ms: int
    _placements: dict[str, int] = field(default_factory=dict[str, int])
    _parts: list[_Part] = field(default_factory=list[_Part])

    def add(self, slates: Slates, placements: Sequence[str]) -> None:
        """Take held slates in, each with its placement; a variant of an experiment counts for what was asked.

        Cost: some NumPy calls a lot.
        """
        told = slates.slate
        served_ms = told["log_time_ms"].astype(np.int64)
        counts = (served_ms + self.settle_ms <= self.now_ms) & (served_ms > self.now_ms - DAY_MS) & (told["length"] > 0)
        if not counts.any():
            return
        row = slates.outcome[told["first"][counts]]
        after_ms = row["acted_after_ms"]
        in_time = (after_ms != NEVER) & (after_ms <= self.settle_ms)
        number = np.array(
            [self._placements.setdefault(base_placement(each), len(self._placements)) for each in placements]
        )
        self._parts.append(
            _Part(
                told["log_position"][counts].astype(np.int64),
                served_ms[counts],
                number[counts].astype(np.int64),
                told["user"][counts].astype(np.uint64),
                (row["bits"] & np.uint32(self.seen)) != 0,
                in_time & ((row["bits"] & np.uint32(self.acts)) != 0),
            )
        )

    def drifts(self, forecasts: Mapping[int, Forecast]) -> Iterator[CalibrationDrift]:
        """Yield the calibration of each version at each placement.

        Args:
            forecasts: By log position of the slate; slates without one are passed by.
        """
        if not self._parts:
            return
        position, served_ms, placement, unit, is_seen, is_acted = (
            np.concatenate([getattr(each, name) for each in self._parts]) for name in _Part.__slots__
        )
        told = [forecasts.get(each) for each in position.tolist()]
        numbers: dict[tuple[int, RankerVersion], int] = {}
        group = np.array(
            [
                -1 if each is None else numbers.setdefault((at, each.by), len(numbers))
                for at, each in zip(placement.tolist(), told, strict=True)
            ]
        )
        chance = np.array([0.0 if each is None else each.chance for each in told])
        names = list(self._placements)
        for (at, by), number in numbers.items():
            mine = np.flatnonzero(group == number)
            if is_seen[mine].any():  # else the placement's clients log no impressions
                mine = mine[is_seen[mine] | is_acted[mine]]
            first = len(mine) - math.ceil(NEWEST * len(mine))
            acted = is_acted.astype(np.float64)
            sides = [(unit[rows], acted[rows], chance[rows]) for rows in (mine[first:], mine[:first])]
            since_ms = int(served_ms[mine[first]]) if len(mine) else 0
            yield _drift(names[at], by, sides)._replace(since_ms=since_ms)


def _drift(
    placement: str,
    by: RankerVersion,
    sides: Sequence[tuple[NDArray[np.uint64], NDArray[np.float64], NDArray[np.float64]]],
) -> CalibrationDrift:
    """Return the calibration of one version from users, acts and predictions, now and before."""
    (now, error, users), (before, before_error, users_before) = (ratio_by_unit(*each) for each in sides)
    if min(users, users_before) < UNITS_MIN:
        return CalibrationDrift(placement, by, math.nan, math.nan, math.nan, math.nan, users, users_before)
    wide = float(half_width(math.hypot(error, before_error), users, LEVEL))
    change = now - before
    return CalibrationDrift(placement, by, now, before, change - wide, change + wide, users, users_before)
