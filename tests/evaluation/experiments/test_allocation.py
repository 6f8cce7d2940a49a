"""Probabilities of being the best are exact, by closed forms and by draws, and shares keep every arm alive."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from midstream.core.errors import Invalid
from midstream.evaluation.experiments.allocation import ARMS_EXACT_MAX, MeanArm, RateArm, allocate


def second_is_better(first: RateArm, second: RateArm) -> float:
    """The sum of closed form for two Beta posteriors with whole numbers (E. Miller, 2015)."""
    at = np.arange(1 + second.successes)
    a, b, d = 1 + first.successes, 1 + first.failures, 1 + second.failures
    terms = special.betaln(a + at, b + d) - np.log(d + at) - special.betaln(1 + at, d) - special.betaln(a, b)
    return float(np.exp(terms).sum())


@pytest.mark.parametrize(
    "first, second",
    [
        ((20, 180), (28, 170)),
        ((0, 0), (0, 0)),
        ((0, 0), (2_000, 170_000)),
        ((3, 0), (0, 40)),
        ((900, 9_000), (950, 9_050)),
    ],
)
def test_two_rates_are_those_of_the_closed_form(first, second):
    """To ten digits, however unlike the arms are."""
    arms = (RateArm(*first), RateArm(*second))
    assert allocate(arms).best[1] == pytest.approx(second_is_better(*arms), abs=1e-10)


@given(st.floats(-3, 3), st.floats(0.01, 5), st.floats(0.01, 5))
def test_two_means_are_those_of_the_normal_distribution(apart, first, second):
    """The probability that a difference of normal values is above 0, and the expected loss of either choice."""
    found = allocate([MeanArm(0.0, first), MeanArm(apart, second)])
    spread = np.hypot(first, second)
    assert found.best[1] == pytest.approx(stats.norm.cdf(apart / spread), abs=1e-10)
    gain = apart * stats.norm.cdf(apart / spread) + spread * stats.norm.pdf(apart / spread)
    assert found.loss == pytest.approx((gain, gain - apart), abs=1e-9 * (1 + spread))


def test_several_arms_are_those_of_draws():
    """Sixteen rates and sixteen means by quadrature against a million draws; equal arms have equal shares."""
    rng = np.random.default_rng(8)
    rates = [
        RateArm(float(a), float(b)) for a, b in zip(rng.integers(5, 40, 16), rng.integers(200, 300, 16), strict=True)
    ]
    means = [MeanArm(float(a), float(b)) for a, b in zip(rng.normal(0, 0.5, 16), rng.uniform(0.1, 1, 16), strict=True)]
    drawn = (
        rng.beta([1 + each.successes for each in rates], [1 + each.failures for each in rates], (100_000, 16)),
        rng.normal([each.mean for each in means], [each.standard_error for each in means], (100_000, 16)),
    )
    for found, values in zip((allocate(rates), allocate(means)), drawn, strict=True):
        counted = np.bincount(values.argmax(axis=1), minlength=16) / len(values)
        assert found.best == pytest.approx(counted, abs=0.005)
        assert found.loss == pytest.approx(values.max(axis=1).mean() - values.mean(axis=0), abs=0.01)
    assert allocate([MeanArm(1.0, 2.0)] * 5).best == pytest.approx((0.2,) * 5, abs=1e-12)


def test_many_arms_are_drawn_by_a_seed():
    """Beyond the maximum of quadrature the seed decides, and one arm more does not change what the others are."""
    arms = [RateArm(float(at), 100.0) for at in range(ARMS_EXACT_MAX + 1)]
    first, again, other = (allocate(arms, seed=seed, draws=50_000) for seed in (1, 1, 2))
    assert first == again != other
    assert first.best == pytest.approx(other.best, abs=0.012)
    exact = allocate(arms[1:])
    assert first.best[1:] == pytest.approx(exact.best, abs=0.01)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=4), st.floats(0, 1))
def test_shares_are_shares(arms, share_min):
    """They add up to 1, no arm has less than the least, and the order is that of the probabilities."""
    found = allocate([RateArm(float(a), float(b)) for a, b in arms], share_min=share_min)
    assert sum(found.best) == pytest.approx(1.0)
    assert sum(found.shares) == pytest.approx(1.0)
    assert min(found.shares) >= min(share_min, 1 / len(arms)) - 1e-12
    assert min(found.loss) >= 0.0
    for one, two in itertools.combinations(range(len(arms)), 2):
        assert (found.best[one] - found.best[two]) * (found.shares[one] - found.shares[two]) >= 0.0


def test_allocation_finds_the_best_arm_with_little_regret():
    """In 60 batches of four rates of 5 to 8 % the best gets most of the traffic, and half of the loss is saved."""
    rates, rng = np.array([0.05, 0.06, 0.07, 0.08]), np.random.default_rng(12)
    successes, failures, lost = np.zeros(4), np.zeros(4), 0.0
    found = allocate([RateArm(0.0, 0.0)] * 4)
    for _ in range(60):
        found = allocate([RateArm(*pair) for pair in zip(successes.tolist(), failures.tolist(), strict=True)])
        units = rng.multinomial(1_500, found.shares)
        won = rng.binomial(units, rates)
        successes, failures = successes + won, failures + units - won
        lost += float(units @ (0.08 - rates))
    assert found.shares[3] > 0.9
    assert lost < 60 * 1_500 * 0.015 / 2


BAD_ARMS = [
    ([], {}, ["/arms"]),
    ([RateArm(1.0, 1.0)] * 1_001, {}, ["/arms"]),
    ([RateArm(1.0, 1.0), MeanArm(1.0, 1.0)], {}, ["/arms"]),
    ([RateArm(-1.0, 1.0), RateArm(1.0, math.nan)], {}, ["/arms/0/successes", "/arms/1/failures"]),
    ([RateArm(math.inf, 1.0)], {}, ["/arms/0/successes"]),
    ([MeanArm(math.nan, 1.0), MeanArm(0.0, 0.0)], {}, ["/arms/0/mean", "/arms/1/standard_error"]),
    ([RateArm(1.0, 1.0)], {"share_min": math.nan}, ["/share_min"]),
    ([RateArm(1.0, 1.0)], {"share_min": -0.1}, ["/share_min"]),
    ([RateArm(1.0, 1.0)], {"draws": 0}, ["/draws"]),
]


@pytest.mark.parametrize("arms, options, where", BAD_ARMS)
def test_shares_of_nonsense_are_refused_by_field(arms, options, where):
    """In place of an index out of range, a division by 0 or shares that are no numbers."""
    with pytest.raises(Invalid) as refused:
        allocate(arms, **options)
    assert [each.where for each in refused.value.faults] == where


def test_one_arm_has_all_of_the_traffic():
    """It is the best of all there are."""
    found = allocate([RateArm(3.0, 4.0)])
    assert found.shares == pytest.approx((1.0,))
