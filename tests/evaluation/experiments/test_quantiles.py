"""The any-time test of quantiles equals confseq's, and is seldom wrong."""

import numpy as np
import pytest

from midstream.evaluation.experiments.quantiles import quantile_p_value


@pytest.mark.parametrize(
    "quantile, offset, expected",
    [(0.5, 70, 0.814704), (0.5, 85, 0.0838055), (0.5, 100, 0.0054947), (0.9, 55, 0.0340463)],
)
def test_p_value_is_that_of_confseq(quantile, offset, expected):
    """Figures of its test/uniform_boundaries_unittest.cpp: 1 to 1,000 against the same moved by an offset."""
    values = np.arange(1.0, 1_001.0)
    assert quantile_p_value(values, values + offset, quantile) == pytest.approx(expected, abs=1e-5)
    assert quantile_p_value((values + offset)[::-1], values, quantile) == pytest.approx(expected, abs=1e-4)


def test_equal_latencies_are_seldom_told_apart():
    """Of 100 pairs of equal distributions, each looked at four times, at most 5 % ever get a p below 0.05."""
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(100):
        first, second = rng.lognormal(3, 1, (2, 800))
        wrong += any(quantile_p_value(first[:n], second[:n], 0.9, 400) < 0.05 for n in range(200, 801, 200))
    assert wrong <= 5


def test_slower_answers_are_found():
    """A 90th percentile that is half as high again is seen in 800 observations."""
    rng = np.random.default_rng(3)
    first, second = rng.lognormal(3, 1, (2, 800))
    assert quantile_p_value(first, 1.5 * second, 0.9, 400) < 0.05


def test_one_observation_says_nothing():
    """The ends of the order are not passed."""
    assert quantile_p_value(np.array([1.0]), np.array([9.0]), 0.95) == 1.0
