"""Intervals and paired tests for figures whose questions come in sessions: cluster bootstrap, Holm's correction.

Questions of one session are alike, so sessions are drawn, not questions: treating them as independent makes intervals
too narrow. Everything is decided by the seed.

References:
    B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 8, 13 and 15.
    S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6, 1979.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.metrics.metrics import Values

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Groups = NDArray[np.intp]
Row = TypeVar("Row", bound="DataclassInstance")
_DRAWN_MAX = 2_000_000
"""Group numbers drawn at once: 16 MB."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """Number of resamples, level, seed."""

    resamples: int = 2_000
    level: float = 0.95
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over questions and its interval at the level."""

    mean: float
    """NaN when there is no question."""
    low: float
    high: float

    def __str__(self) -> str:
        """Return mean and interval with four places."""
        return f"{self.mean:.4f} ({self.low:.4f} to {self.high:.4f})"


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The mean of first minus second over the same questions, its interval, and how surprising it is."""

    mean: float
    low: float
    high: float
    p_value: float
    """Two-sided: share of random exchanges of the two, session by session, whose difference is as large."""

    p_value_corrected: float | None = None
    """The same for all tests of one table together (``holm``); None = it is the only test."""
    tests_count: int = 1
    """Of that table."""

    def __str__(self) -> str:
        """Return difference, interval and p."""
        together = (
            "" if self.p_value_corrected is None else f" ({self.p_value_corrected:.3f} of {self.tests_count} tests)"
        )
        return f"{self.mean:+.4f} ({self.low:+.4f} to {self.high:+.4f}), p = {self.p_value:.3f}{together}"


def estimate(values: Values, groups: Groups, resampling: Resampling) -> Estimate:
    """Return the mean of the values, NaN left out, with a percentile bootstrap over groups.

    Args:
        values: One number a question, shape (n,).
        groups: The session of each question, shape (n,), any whole numbers.
        resampling: Number of resamples and seed.

    Cost: resamples × groups.
    """
    known = ~np.isnan(values)
    if not known.any():
        return Estimate(float("nan"), float("nan"), float("nan"))
    total, count = _sums(values[known], groups[known])
    means = np.concatenate(
        [total[drawn].sum(axis=1) / count[drawn].sum(axis=1) for drawn in _draws(len(total), resampling)]
    )
    low, high = _bounds(means, resampling.level)
    return Estimate(float(values[known].mean()), low, high)


def difference(first: Values, second: Values, groups: Groups, resampling: Resampling) -> PairedDifference:
    """Compare two methods on the same questions: paired bootstrap for the interval, random exchange for p.

    Args:
        first: One number a question, shape (n,), no NaN.
        second: The other's numbers, row for row.
        groups: The session of each question, shape (n,).
        resampling: Number of resamples and seed.
    """
    each = estimate(first - second, groups, resampling)
    total = _sums(first - second, groups)[0]
    rng = np.random.default_rng(resampling.seed)
    size = max(1, _DRAWN_MAX // max(1, len(total)))
    beyond = 0
    for start in range(0, resampling.resamples, size):
        rows = min(size, resampling.resamples - start)
        sign = rng.integers(0, 2, (rows, len(total)), dtype=np.int8) * np.int8(2) - np.int8(1)
        # Rounding must not make an equal difference a smaller one.
        beyond += int((np.abs(sign @ total) >= abs(total.sum()) - 1e-9).sum())
    return PairedDifference(each.mean, each.low, each.high, (beyond + 1) / (resampling.resamples + 1))


def holm_p_values(p_values: Sequence[float]) -> list[float]:
    """Return p-values, in order, each corrected for all tests of one table together by Holm's method.

    The smallest p is multiplied by the number of tests, the next by one less, and none is less than one before it.
    """
    count, largest = len(p_values), 0.0
    corrected = [0.0] * count
    for place, at in enumerate(sorted(range(count), key=lambda at: p_values[at])):
        largest = max(largest, min(1.0, (count - place) * p_values[at]))
        corrected[at] = largest
    return corrected


def holm(differences: Sequence[PairedDifference]) -> tuple[PairedDifference, ...]:
    """Return the differences of one table, each with the p that holds for all of them together, by Holm's method.

    Of k tests without any difference one is below 0.05 with probability 1 - 0.95^k: a third for 8. The corrected p is
    below 0.05 for any of them with a probability of at most 0.05, however the tests depend on each other.

    Args:
        differences: All comparisons of one table.
    """
    corrected = holm_p_values([each.p_value for each in differences])
    return tuple(
        replace(each, p_value_corrected=p_value, tests_count=len(differences))
        for each, p_value in zip(differences, corrected, strict=True)
    )


def holm_fields(rows: Sequence[Row], *names: str) -> tuple[Row, ...]:
    """Return dataclasses whose fields of these names, each a difference, are corrected together by ``holm``."""
    tests = iter(holm([getattr(row, name) for name in names for row in rows]))
    found = {name: [next(tests) for _ in rows] for name in names}
    return tuple(replace(row, **{name: found[name][at] for name in names}) for at, row in enumerate(rows))


def _sums(values: Values, groups: Groups) -> tuple[Values, Values]:
    """Return the sum and the number of values of each group."""
    group = np.unique(groups, return_inverse=True)[1]
    return np.bincount(group, values).astype(np.float64), np.bincount(group).astype(np.float64)


def _draws(group_count: int, resampling: Resampling) -> Iterator[NDArray[np.int64]]:
    """Yield groups drawn with replacement, a row a resample."""
    rng = np.random.default_rng(resampling.seed)
    size = max(1, _DRAWN_MAX // group_count)
    for start in range(0, resampling.resamples, size):
        yield rng.integers(0, group_count, (min(size, resampling.resamples - start), group_count))


def _bounds(means: Values, level: float) -> tuple[float, float]:
    """Return the bounds that leave out half of 1 - level on each side."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
