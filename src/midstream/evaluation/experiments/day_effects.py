"""Rates of variants compared within days: weighted least squares with one effect for each day and one for each variant.

Where shares of traffic move from day to day, the units of a variant come from other days than those of the rest, and
days differ: active users have their first slate early. A plain mean over all days would show this as a difference
between variants. Here only units of one day are compared, and each day counts by its units: of two variants with n and
m units by n m / (n + m). The variance is that of each day's own rate, as active users vary more.

Where shares are the same on all days, rates and units are the plain ones.

Reference: W. G. Cochran, "Some methods for strengthening the common chi-square tests", Biometrics 10, 1954: the weights
of two variants.
"""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.experiments.unit_sums import Real

Counts = NDArray[np.int64]
_LINK = 1e-4
"""Units by which each variant is tied to the mean: without them variants of no common day would have no solution."""


def rates_within_days(units: Counts, successes: Counts) -> tuple[Real, Real]:
    """Return the rate of each variant, and the units that a plain rate of this precision would have.

    Args:
        units: Of each day and variant, (days, variants).
        successes: Units of them that count as good, (days, variants).

    Returns:
        Rates (variants,), 0 to 1, NaN of no unit; and equivalent units (variants,), at most the actual ones.

    Cost: that of a product of a matrix of this shape with itself.
    """
    of_day, of_variant = units.sum(axis=1), units.sum(axis=0)
    total = int(of_day.sum())
    if not total:
        return np.full(len(of_variant), np.nan), np.zeros(len(of_variant))
    share = units / np.maximum(of_day, 1)[:, None]
    system = np.diag(of_variant.astype(np.float64)) - units.T @ share
    link, centre = _LINK * np.eye(units.shape[1]), np.eye(units.shape[1]) - 1.0 / units.shape[1]
    # Differences of variants alone count. The mode that all variants share is 1 / _LINK in a plain inverse: products
    # would cancel it with an error above the differences from some 10,000 units on. Raised to ``total`` and projected
    # out, it changes no difference, since ones are an eigenvector of ``system``.
    inverse = cast("Real", centre @ np.linalg.inv(system + link + total / units.shape[1]) @ centre)
    of_unit = _variance(successes.sum(axis=1), of_day)
    spread = centre @ (np.diag(of_unit @ units) - units.T @ (share * of_unit[:, None]) + link) @ centre
    covariance = cast("Real", inverse @ spread @ inverse / _variance(successes.sum(), total))
    effect = cast("Real", inverse @ (successes.sum(axis=0) - share.T @ successes.sum(axis=1)))
    rate = cast("Real", successes.sum() / total + effect - (of_variant @ effect) / total)
    return np.where(of_variant > 0, np.clip(rate, 0.0, 1.0), np.nan), _equivalent_units(covariance, of_variant)


def _variance(good: Counts, of: Counts | int) -> Real:
    """Return the variance of a unit, with a success and a failure more than were seen."""
    rate = (good + 1.0) / (of + 2.0)
    return np.asarray(rate * (1.0 - rate))


def _equivalent_units(covariance: Real, of_variant: Counts) -> Real:
    """Return units by which differences of independent rates have the variances of differences of effects.

    Each variant's own units are divided by the mean ratio of both variances over the others, which of two variants is
    exact.
    """
    own = np.diag(covariance)
    variance = own[:, None] + own[None, :] - 2.0 * covariance
    seen = of_variant > 0
    plain = 1.0 / np.where(seen, of_variant, 1)
    ratio = variance / (plain[:, None] + plain[None, :])
    others = seen[None, :] & ~np.eye(len(seen), dtype=np.bool_)
    mean = np.where(others, ratio, 0.0).sum(axis=1) / np.maximum(others.sum(axis=1), 1)
    return np.where(seen, of_variant / np.maximum(mean, 1.0), 0.0)
