"""Metrics of units: sums over a unit's slates become the columns of a mean, a rate or a ratio, now and in the past."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.experiments.grouping import UnitTable
from midstream.evaluation.experiments.unit_sums import MetricKind, Real, UnitSums, no_units, unit_sums


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One figure of an experiment, by unit.

    ``mean``: the sum of a column over what a unit did (purchases, revenue). ``rate``: whether the unit has any of it.
    ``ratio``: the sum of one column by the sum of another (clicks by impressions).
    """

    name: str
    kind: MetricKind
    numerator: str
    """Name of a column of the table of units."""
    denominator: str | None = None
    """Of a ratio only."""
    better: Literal["higher", "lower"] = "higher"
    cap: Annotated[float, msgspec.Meta(gt=0.0)] | None = None
    """The most that a unit counts with, so that one order does not decide; None = all of it."""

    def __post_init__(self) -> None:
        """Refuse a ratio of nothing, and a denominator that would not be read."""
        if (self.kind == "ratio") != (self.denominator is not None):
            raise ValueError(f"metric {self.name}: a ratio has a denominator, a {self.kind} has none")

    def columns(self, names: Sequence[str], sums: Real) -> Real:
        """Return the metric's columns of each unit, (u, 1 or 2).

        Args:
            names: Of the rows of ``sums``.
            sums: (columns, u).
        """
        read = [self.numerator] if self.denominator is None else [self.numerator, self.denominator]
        found = sums[[names.index(name) for name in read]].T
        if self.kind == "rate":
            return (found > 0.0).astype(np.float64)
        if self.cap is not None:
            found = found.copy()
            found[:, 0] = np.minimum(found[:, 0], self.cap)
        return found


def metric_sums(
    metric: Metric,
    table: UnitTable,
    names: Sequence[str],
    variant_count: int,
    past: Real | None = None,
    chosen: NDArray[np.bool_] | None = None,
) -> tuple[UnitSums, ...]:
    """Return a metric's statistics of each variant.

    Args:
        metric: Whose columns are in the table.
        table: Units with their sums.
        names: Of the table's columns, and of the past's.
        variant_count: Variants are 0 up to this; units that crossed are in none.
        past: The same columns before the start, (columns, u), as of ``past_columns``; None = without CUPED.
        chosen: Units of a segment, (u,); None = all.
    """
    columns = metric.columns(names, table.columns)
    if past is not None:
        columns = np.concatenate((columns, metric.columns(names, past)), axis=1)
    found = [no_units(columns.shape[1])] * variant_count
    for variant in range(variant_count):
        of_variant = table.variant == variant
        if chosen is not None:
            of_variant &= chosen
        if of_variant.any():
            found[variant] = unit_sums(columns[of_variant], has_rest=metric.kind != "rate")
    return tuple(found)


def effective_units(sums: UnitSums) -> float:
    """Return how many equal units have as uneven a sum: those with a success of a rate, fewer where a few have most.

    It is (sum)^2 / (sum of squares) of the first column, and says when a mean of many zeros and few large values is
    near to normal. It is 0 where squares are beyond the range of numbers: nothing can be estimated of such a sum.
    """
    total, squares = sums.sums[0], sums.products[0][0]
    if not (math.isfinite(total) and math.isfinite(squares)):
        return 0.0
    return total * (total / squares) if squares > 0.0 else (0.0 if sums.count else math.nan)
