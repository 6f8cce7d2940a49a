"""Posterior of variants whose shares follow it: how likely each has the best rate, and nothing that is a verdict.

A unit counts in the variant of its first slate, by what it does on its first day alone: while that day lasts no bucket
changes hands, so neither moves of shares nor what a unit does later decide which units count. Variants are compared
within days (``day_effects``), as units of one day differ from those of another.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.experiments.allocation import Allocation, RateArm, allocate
from midstream.evaluation.experiments.day_effects import Counts, rates_within_days
from midstream.evaluation.experiments.grouping import CROSSED, UnitTable


class VariantPosterior(msgspec.Struct, frozen=True):
    """One variant."""

    units: int
    successes: int
    """Units that count as good: with any of the metric, or where less is better without."""
    rate: float | None
    """Share of units that count as good, compared within days; None = it has no unit."""
    best: float
    """Probability to have the best rate."""
    share: float
    """Of the units to come, by it."""
    loss: float
    """Expected rate that is lost a unit if this variant were chosen for good."""


def posterior_of(
    table: UnitTable, column: int, variant_count: int, share_min: float, *, is_less_better: bool = False
) -> tuple[VariantPosterior, ...]:
    """Return the posterior of the rate of each variant.

    Args:
        table: Units of their first days, with their columns.
        column: Of the metric: a unit has any of it where it is above 0.
        variant_count: Variants are 0 up to this.
        share_min: Least share of each.
        is_less_better: A unit without any of the metric counts as good.
    """
    has = (table.columns[column] > 0) != is_less_better
    units, good = (_by_day(table, chosen, variant_count) for chosen in (np.ones_like(has), has))
    rate, count = rates_within_days(units, good)
    known = np.where(count > 0, rate, 0.0)
    arms = [RateArm(float(r * n), float((1.0 - r) * n)) for r, n in zip(known, count, strict=True)]
    made: Allocation = allocate(arms, share_min=share_min)
    sums = [tuple(int(each) for each in counts.sum(axis=0)) for counts in (units, good)]
    rates = [None if np.isnan(each) else float(each) for each in rate]
    return tuple(map(VariantPosterior, sums[0], sums[1], rates, made.best, made.shares, made.loss))


def _by_day(table: UnitTable, chosen: NDArray[np.bool_], variant_count: int) -> Counts:
    """Return chosen units by the day of their first slate and by variant, (days, variants)."""
    kept = chosen & (table.variant != CROSSED)
    first = int(table.first_day.min(initial=0))
    day_count = int(table.first_day.max(initial=first)) - first + 1
    cell = (table.first_day[kept].astype(np.int64) - first) * variant_count + table.variant[kept]
    return np.bincount(cell, minlength=day_count * variant_count).reshape(day_count, variant_count)
