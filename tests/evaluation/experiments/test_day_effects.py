"""Rates compared within days: those of a plain mean where shares stay, and no Simpson's paradox where they move."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from midstream.evaluation.experiments.day_effects import rates_within_days

LINK = Fraction(1, 10_000)


def inverted(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    """Return the inverse of a positive definite matrix by elimination, without rounding."""
    size = len(matrix)
    rows = [[*row, *(Fraction(row_index == column) for column in range(size))] for row_index, row in enumerate(matrix)]
    for pivot in range(size):
        rows[pivot] = [value / rows[pivot][pivot] for value in rows[pivot]]
        for other in range(size):
            if other != pivot:
                factor = rows[other][pivot]
                rows[other] = [value - factor * lead for value, lead in zip(rows[other], rows[pivot], strict=True)]
    return [row[size:] for row in rows]


def exact_units(units: NDArray[np.int64], good: NDArray[np.int64]) -> list[float]:
    """Return equivalent units of variants that all have units, in rational numbers and without a projection."""
    days, variants = [[int(count) for count in day] for day in units], range(units.shape[1])
    sums = [sum(day) for day in days]
    rates = [Fraction(int(count) + 1, of + 2) for count, of in zip(good.sum(axis=1), sums, strict=True)]
    over_all = Fraction(int(good.sum()) + 1, sum(sums) + 2)

    def laplacian(weights: list[Fraction]) -> list[list[Fraction]]:
        def cell(i: int, j: int) -> Fraction:
            parts = (
                weight * day[i] * (int(i == j) - Fraction(day[j], of))
                for weight, day, of in zip(weights, days, sums, strict=True)
            )
            return sum(parts, LINK * (i == j))

        return [[cell(i, j) for j in variants] for i in variants]

    def product(left: list[list[Fraction]], right: list[list[Fraction]]) -> list[list[Fraction]]:
        return [[sum((left[i][k] * right[k][j] for k in variants), Fraction(0)) for j in variants] for i in variants]

    inverse = inverted(laplacian([Fraction(1)] * len(days)))
    covariance = product(product(inverse, laplacian([rate * (1 - rate) for rate in rates])), inverse)
    of_variant = [int(count) for count in units.sum(axis=0)]

    def ratio(i: int, j: int) -> Fraction:
        variance = (covariance[i][i] + covariance[j][j] - 2 * covariance[i][j]) / (over_all * (1 - over_all))
        return variance / (Fraction(1, of_variant[i]) + Fraction(1, of_variant[j]))

    means = [sum((ratio(i, j) for j in variants if j != i), Fraction(0)) / (len(variants) - 1) for i in variants]
    return [float(count / max(mean, Fraction(1))) for count, mean in zip(of_variant, means, strict=True)]


def test_shares_that_stay_give_plain_rates() -> None:
    """Of two variants and of four, whatever the rates of the days."""
    dice = np.random.default_rng(1)
    for shares in ([1, 1], [1, 2, 3, 4]):
        units = np.outer([100, 50, 900], shares)
        good = dice.binomial(units, [[0.1], [0.5], [0.9]])
        rate, count = rates_within_days(units, good)
        assert rate == pytest.approx(good.sum(axis=0) / units.sum(axis=0), abs=1e-6)
        assert count == pytest.approx(units.sum(axis=0), rel=1e-6)


@pytest.mark.parametrize("total", [1_000, 20_000, 200_000, 1_000_000, 4_000_000])
def test_shares_that_stay_keep_all_units(total: int) -> None:
    """However many units there are: days that differ vary less within than over all, so no unit is lost."""
    for shares in ([1, 1], [1, 2, 3, 4]):
        units = np.outer([total // 20, total // 40, total // 40], shares) * 10 // sum(shares)
        good = np.round(units * np.array([[0.1], [0.5], [0.9]])).astype(np.int64)
        rate, count = rates_within_days(units, good)
        assert count == pytest.approx(units.sum(axis=0), rel=1e-9)
        assert rate == pytest.approx(good.sum(axis=0) / units.sum(axis=0), abs=0.01)


@pytest.mark.parametrize("total", [1_000, 20_000, 200_000, 1_000_000, 4_000_000])
@pytest.mark.parametrize("variants", [2, 4])
def test_units_of_shares_that_move_are_those_of_rational_numbers(total: int, variants: int) -> None:
    """No rounding decides between variants: of two, both lose units by one factor."""
    dice = np.random.default_rng(total + variants)
    units = dice.poisson(dice.dirichlet(np.full(variants, 3.0), 14) * total / 14) + 1
    good = dice.binomial(units, dice.uniform(0.15, 0.25, (14, 1)))
    _, count = rates_within_days(units, good)
    expected = exact_units(units, good)
    assert count == pytest.approx(expected, rel=1e-9)
    assert (count < units.sum(axis=0)).all()
    if variants == 2:
        assert np.ptp(count / units.sum(axis=0)) < 1e-9


def test_two_variants_are_compared_as_cochran_has_it() -> None:
    """Differences of days by n m / (n + m), and units for the variance of that."""
    units, good = np.array([[60, 40], [10, 90], [0, 70], [3, 0]]), np.array([[30, 25], [2, 10], [0, 60], [3, 0]])
    n, m = units[:2].T.astype(float)
    weight = n * m / (n + m)
    expected = (weight * (good[:2, 1] / m - good[:2, 0] / n)).sum() / weight.sum()
    rate, count = rates_within_days(units, good)
    assert rate[1] - rate[0] == pytest.approx(expected, abs=1e-5)
    of_day = (good[:2].sum(axis=1) + 1) / (units[:2].sum(axis=1) + 2)
    over_all = (good.sum() + 1) / (units.sum() + 2)
    variance = (weight * of_day * (1 - of_day)).sum() / weight.sum() ** 2
    assert (1 / count).sum() == pytest.approx(variance / (over_all * (1 - over_all)), rel=1e-4)
    assert (units.sum(axis=0) @ rate) / units.sum() == pytest.approx(good.sum() / units.sum())


def test_days_that_differ_are_no_difference_between_variants() -> None:
    """Active units come first and in equal shares, others later and mostly to one variant: a plain mean is 25 % off."""
    units = np.array([[1_000, 1_000, 1_000], [40, 1_900, 60], [40, 60, 1_900]])
    good = (units * np.array([[0.5], [0.05], [0.05]])).astype(np.int64)
    rate, count = rates_within_days(units, good)
    assert np.ptp(good.sum(axis=0) / units.sum(axis=0)) > 0.2
    assert np.ptp(rate) < 1e-4
    assert (count < units.sum(axis=0)).all()


def test_what_was_not_compared_is_not_known() -> None:
    """A variant without units has no rate; of variants without a common day nothing is told apart."""
    rate, count = rates_within_days(np.array([[5, 0], [5, 0]]), np.array([[1, 0], [2, 0]]))
    assert (np.isnan(rate).tolist(), count[1]) == ([False, True], 0.0)
    rate, count = rates_within_days(np.array([[500, 0], [0, 500]]), np.array([[500, 0], [0, 0]]))
    assert (count < 0.01).all()
    assert rate == pytest.approx([0.5, 0.5])
    rate, count = rates_within_days(np.zeros((0, 2), dtype=np.int64), np.zeros((0, 2), dtype=np.int64))
    assert np.isnan(rate).all()
    assert not count.any()
