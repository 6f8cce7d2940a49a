"""Comparison of policies in the same worlds, seed by seed: click rates and intervals.

A season is one observation: its pages are not independent, since a policy shows to one person what it learned from
another. Intervals are therefore over seeds (Student's t), and a difference is taken inside each seed, where both
policies have the same people and random numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import Fault, Invalid
from midstream.simulation.season import Season

SEEDS_MIN = 2
"""One season says nothing about how much seasons differ."""
Rates = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds and the interval that holds it at 95 %."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return mean and interval in percent."""
        return f"{self.mean:.1%} ({self.low * 100:.1f} to {self.high * 100:.1f})"


@dataclass(frozen=True, slots=True)
class PolicyFigures:
    """Figures of one policy."""

    policy: str
    click_rate: Interval
    """Share of pages whose slate was clicked."""
    buy_rate: Interval
    """Share of pages on which something of the slate was clicked and bought."""
    lift: Interval
    """Click rate less that of the first policy, seed by seed."""
    of_possible: Interval
    """Where 0 is the first policy and 1 the last one: of the way from random to oracle."""
    pages: int
    """Measured, over all seeds."""


def compare(seasons: Sequence[Sequence[Season]]) -> tuple[PolicyFigures, ...]:
    """Compare policies over the same seeds.

    Args:
        seasons: One sequence a policy, each with the same seeds in the same order; the first is the baseline, the last
            the upper bound.

    Raises:
        Invalid: Fewer than two seeds.
    """
    require_enough(len(seasons[0]))
    first, last = _clicks(seasons[0]), _clicks(seasons[-1])
    room = last - first
    return tuple(
        PolicyFigures(
            policy=each[0].policy,
            click_rate=interval(_clicks(each)),
            buy_rate=interval(np.array([season.buy_rate for season in each])),
            lift=interval(_clicks(each) - first),
            of_possible=interval((_clicks(each) - first) / np.where(room > 0, room, np.nan)),
            pages=sum(len(season.clicked) for season in each),
        )
        for each in seasons
    )


def require_enough(seed_count: int) -> None:
    """Refuse fewer seeds than an interval needs.

    Raises:
        Invalid: There are fewer than two.
    """
    if seed_count < SEEDS_MIN:
        right = f"At least {SEEDS_MIN} seeds: intervals are over seeds."
        raise Invalid((Fault("--seeds", f"{seed_count} came.", right, "/docs/cli.md"),))


def interval(values: Rates) -> Interval:
    """Return mean and t interval of one value a seed, shape (seeds,); NaN where a value is."""
    from scipy.special import stdtrit

    mean = float(values.mean())
    half = float(stdtrit(len(values) - 1, 0.975)) * float(values.std(ddof=1)) / float(np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def _clicks(seasons: Sequence[Season]) -> Rates:
    return np.array([season.click_rate for season in seasons])
