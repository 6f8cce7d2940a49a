"""Rates compared within days: those of a plain mean where shares stay, and no Simpson's paradox where they move."""

import numpy as np
import pytest

from midstream.evaluation.experiments.day_effects import rates_within_days


def test_shares_that_stay_give_plain_rates() -> None:
    """Of two variants and of four, whatever the rates of the days."""
    dice = np.random.default_rng(1)
    for shares in ([1, 1], [1, 2, 3, 4]):
        units = np.outer([100, 50, 900], shares)
        good = dice.binomial(units, [[0.1], [0.5], [0.9]])
        rate, count = rates_within_days(units, good)
        assert rate == pytest.approx(good.sum(axis=0) / units.sum(axis=0), abs=1e-6)
        assert count == pytest.approx(units.sum(axis=0), rel=1e-6)


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
