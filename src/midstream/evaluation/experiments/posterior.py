"""Posterior of variants whose shares follow it: how likely each has the best rate, and nothing that is a verdict.

A unit that saw several variants, as one whose bucket moved with the shares and that came back, is in none. One that
did not come back stays in the variant that lost its bucket. Such units do less than others, so the figures favour the
variant that leads: they are no test, and equal variants part more often than the probabilities say.
"""

import msgspec
import numpy as np

from midstream.evaluation.experiments.allocation import Allocation, RateArm, allocate
from midstream.evaluation.experiments.grouping import UnitTable


class VariantPosterior(msgspec.Struct, frozen=True):
    """One variant."""

    units: int
    successes: int
    """Units that count as good: with any of the metric, or where less is better without."""
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
        table: Units with their columns.
        column: Of the metric: a unit has any of it where it is above 0.
        variant_count: Variants are 0 up to this.
        share_min: Least share of each.
        is_less_better: A unit without any of the metric counts as good.
    """
    has = (table.columns[column] > 0) != is_less_better
    counts = [table.variant == number for number in range(variant_count)]
    units = [int(np.count_nonzero(mine)) for mine in counts]
    good = [int(np.count_nonzero(mine & has)) for mine in counts]
    arms = [RateArm(float(won), float(all_ - won)) for won, all_ in zip(good, units, strict=True)]
    made: Allocation = allocate(arms, share_min=share_min)
    return tuple(map(VariantPosterior, units, good, made.best, made.shares, made.loss))
