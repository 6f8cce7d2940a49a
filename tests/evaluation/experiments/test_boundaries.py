"""Boundaries equal those of confseq, and hold at all looks together."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from midstream.evaluation.experiments.boundaries import (
    BetaBinomialMixture,
    GammaPoissonMixture,
    NormalMixture,
    PolynomialStitching,
    best_rho,
    crossing,
)

LEVEL = 0.05
PRINTED = 1e-5
"""The figures are those of test/uniform_boundaries_unittest.cpp of confseq 0.0.11, made by an R program."""


def test_normal_mixture_is_that_of_confseq():
    """Tuning, mixture and bound of both sides have the digits printed there."""
    assert best_rho(100, LEVEL) == pytest.approx(12.60056, abs=PRINTED)
    both = NormalMixture.tuned(100, LEVEL)
    assert both.log_mixture(10, 100) == pytest.approx(-0.6510052, abs=PRINTED)
    assert both.bound(100, LEVEL) == pytest.approx(30.35209, abs=PRINTED)
    one = NormalMixture.tuned(100, LEVEL, is_one_sided=True)
    assert one.log_mixture(10, 100) == pytest.approx(-0.06502391, abs=PRINTED)
    assert one.bound(100, LEVEL) == pytest.approx(27.66071, abs=PRINTED)


def test_beta_binomial_mixture_is_that_of_confseq():
    """Both sides; with two trials no sum is beyond the bound, which is then the largest sum there can be."""
    both = BetaBinomialMixture.tuned(100, LEVEL, 0.2, 0.8)
    assert both.log_mixture(10, 100) == pytest.approx(-0.6941012, abs=PRINTED)
    assert both.bound(100, LEVEL) == pytest.approx(31.4308, abs=PRINTED)
    one = BetaBinomialMixture.tuned(100, LEVEL, 0.2, 0.8, is_one_sided=True)
    assert one.log_mixture(10, 100) == pytest.approx(-0.07134019, abs=PRINTED)
    assert one.bound(100, LEVEL) == pytest.approx(28.41238, abs=PRINTED)
    assert one.bound(2 * 0.2 * 0.8, LEVEL) == pytest.approx(2 * 0.8, abs=PRINTED)


def test_gamma_poisson_mixture_is_that_of_confseq():
    """Mixture and bound at scale 2."""
    mixture = GammaPoissonMixture.tuned(100, LEVEL, 2)
    assert mixture.log_mixture(10, 100) == pytest.approx(-0.06991219, abs=PRINTED)
    assert mixture.bound(100, LEVEL) == pytest.approx(30.1949, abs=PRINTED)


def test_polynomial_stitching_is_that_of_confseq():
    """Scales of both signs; before its first moment the boundary stays where it is there."""
    assert PolynomialStitching(10, 3).bound(100, LEVEL) == pytest.approx(64.48755, abs=PRINTED)
    assert PolynomialStitching(10, -1).bound(100, LEVEL) == pytest.approx(28.99389, abs=PRINTED)
    assert PolynomialStitching(10).bound(1, LEVEL) == PolynomialStitching(10).bound(10, LEVEL)


def test_mixtures_are_the_integrals_that_they_stand_for():
    """The closed forms equal numerical integrals over the mixing distribution: normal, and beta with two outcomes."""
    rho, total, time = 3.0, 4.0, 20.0
    normal = integrate.quad(
        lambda rate: math.exp(rate * total - rate * rate * time / 2) * stats.norm.pdf(rate, scale=rho**-0.5), -9, 9
    )[0]
    assert NormalMixture(rho).log_mixture(total, time) == pytest.approx(math.log(normal), abs=1e-9)
    share, trials, successes = 0.3, 25, 11
    mixture = BetaBinomialMixture(2.0, share, 1 - share)
    shape = (2.0 / (1 - share), 2.0 / share)  # of the rate of successes
    beta = integrate.quad(
        lambda rate: (
            (rate / share) ** successes
            * ((1 - rate) / (1 - share)) ** (trials - successes)
            * stats.beta.pdf(rate, *shape)
        ),
        0,
        1,
    )[0]
    found = mixture.log_mixture(successes - share * trials, share * (1 - share) * trials)
    assert found == pytest.approx(math.log(beta), abs=1e-8)


def test_walks_leave_a_boundary_ever_as_rarely_as_promised():
    """Of 4,000 walks of 1,000 steps at most 5 % leave either boundary; that of one look, far more."""
    steps = np.random.default_rng(11).standard_normal((4_000, 1_000), dtype=np.float32)
    walks = np.cumsum(steps, axis=1, dtype=np.float64)
    times = np.arange(1.0, 1_001.0)
    both = NormalMixture.tuned(200, LEVEL)
    bound = np.array([both.bound(time, LEVEL) for time in times])
    ever = (np.abs(walks) > bound).any(axis=1).mean()
    assert 0.02 <= ever <= LEVEL
    one = NormalMixture.tuned(200, LEVEL, is_one_sided=True)
    looks = np.arange(9, 1_000, 10)
    upper = np.array([one.bound(times[at], LEVEL) for at in looks])
    assert 0.02 <= (walks[:, looks] > upper).any(axis=1).mean() <= LEVEL
    assert (np.abs(walks[:, looks]) > 1.96 * np.sqrt(times[looks])).any(axis=1).mean() > 0.25


def test_a_level_that_no_sum_reaches_is_an_error():
    """A mixture that stays below is not searched without end."""
    with pytest.raises(ArithmeticError, match="reaches the level"):
        crossing(lambda _: 0.0, LEVEL, 1.0)
