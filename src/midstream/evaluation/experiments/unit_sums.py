"""Sufficient statistics of a metric by variant: number of units, sums, and sums of products of their columns.

A unit is what was assigned: a user, else a session. All slates of a unit are alike, so a slate is never counted as an
observation: its columns are summed by unit first (``midstream.evaluation.experiments.grouping``). Statistics of
disjoint sets of units merge by addition, and a unit that goes on is exchanged by subtraction: nothing else of the units
is kept. Raw sums lose as many digits as the square of mean over spread has: 4 of 16 where a mean is 100 spreads.
"""

import math
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
MetricKind = Literal["mean", "rate", "ratio"]
_ROUNDING = 1e-13
"""Share of the sum of squares that is no variance: a spread of 3 millionths of the mean."""


class UnitSums(msgspec.Struct, frozen=True):
    """Units of a variant, summed over: columns are a metric's value, its denominator if it is a ratio, then its past.

    ``(value)`` or ``(value, past value)`` of a mean or a rate; ``(numerator, denominator)`` or ``(numerator,
    denominator, past numerator, past denominator)`` of a ratio.
    """

    count: int
    """Units."""
    sums: tuple[float, ...]
    """Of each column."""
    products: tuple[tuple[float, ...], ...]
    """Sum over units of column i times column j: squares on the diagonal, the same on both sides of it."""
    with_any: int | None = None
    """Units whose first column is above 0; None = not counted."""
    rest: "UnitSums | None" = None
    """Statistics without the unit that has most of the first column; None = not counted."""

    @property
    def largest_share(self) -> float:
        """Share of the first column's sum that one unit has; NaN = not counted, or there is no sum above 0."""
        if self.rest is None or not 0.0 < self.sums[0] < math.inf:
            return math.nan
        return 1.0 - self.rest.sums[0] / self.sums[0]

    def merged(self, other: "UnitSums") -> "UnitSums":
        """Return the statistics of both sets of units, which have none in common."""
        return self._combined(other, 1)

    def without(self, other: "UnitSums") -> "UnitSums":
        """Return the statistics of these units without those of others, all of which are among them."""
        return self._combined(other, -1)

    def first(self, width: int) -> "UnitSums":
        """Return the statistics of the first columns alone: of the outcome without its past."""
        rows = tuple(row[:width] for row in self.products[:width])
        rest = None if self.rest is None else self.rest.first(width)
        return UnitSums(self.count, self.sums[:width], rows, self.with_any, rest)

    def _combined(self, other: "UnitSums", sign: int) -> "UnitSums":
        is_counted = self.with_any is not None and other.with_any is not None
        return UnitSums(
            with_any=(self.with_any or 0) + sign * (other.with_any or 0) if is_counted else None,
            count=self.count + sign * other.count,
            sums=tuple(own + sign * its for own, its in zip(self.sums, other.sums, strict=True)),
            products=tuple(
                tuple(own + sign * its for own, its in zip(row, others, strict=True))
                for row, others in zip(self.products, other.products, strict=True)
            ),
        )


@dataclass(frozen=True, slots=True)
class Moments:
    """Means and covariances of columns over units, of one variant or of many at once: any leading axes (...)."""

    units: Real
    """(...,)."""
    mean: Real
    """(..., columns); NaN of no units."""
    covariance: Real
    """(..., columns, columns), of a unit, not of the mean; NaN of fewer than two units."""


def unit_sums(columns: Real, *, has_rest: bool = False) -> UnitSums:
    """Return the statistics of units.

    Args:
        columns: A row a unit, (units, columns), each summed over what the unit did.
        has_rest: Sum up all units but the largest one too.
    """
    found = _sums(columns)
    if not has_rest or not len(columns):
        return found
    # Summed anew, as a difference of sums would lose the digits of all other units to one that is very large.
    return msgspec.structs.replace(found, rest=_sums(np.delete(columns, int(np.argmax(columns[:, 0])), axis=0)))


def _sums(columns: Real) -> UnitSums:
    with np.errstate(over="ignore", invalid="ignore"):
        products = np.einsum("ni,nj->ij", columns, columns)
    return UnitSums(
        with_any=int(np.count_nonzero(columns[:, 0] > 0.0)),
        count=len(columns),
        sums=tuple(float(each) for each in columns.sum(axis=0)),
        products=tuple(tuple(float(each) for each in row) for row in products),
    )


def no_units(column_count: int) -> UnitSums:
    """Return the statistics of no units: merging them changes nothing."""
    return UnitSums(0, (0.0,) * column_count, ((0.0,) * column_count,) * column_count, 0)


def moments(count: Real, sums: Real, products: Real, kind: MetricKind = "mean") -> Moments:
    """Return means and covariances from sums, with any leading axes.

    Args:
        count: Units, (...).
        sums: (..., columns).
        products: (..., columns, columns).
        kind: The variance of a rate is p (1 - p); others divide by units - 1.
    """
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        mean = sums / count[..., None]
        centred = products - sums[..., :, None] * mean[..., None, :]
        # Of units that are all equal, rounding leaves some of the last digits on either side of 0.
        diagonal = np.eye(sums.shape[-1], dtype=np.bool_)
        centred = np.where(diagonal & (centred <= _ROUNDING * products), 0.0, centred)
        covariance = centred / np.where(count > 1, count if kind == "rate" else count - 1, np.nan)[..., None, None]
    return Moments(count, mean, covariance)


def moments_of(sums: UnitSums, kind: MetricKind) -> Moments:
    """Return the moments of one variant, without leading axes."""
    return moments(np.asarray(float(sums.count)), np.array(sums.sums), np.array(sums.products), kind)
