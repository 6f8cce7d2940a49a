"""Confidence sequences of rates equal those of confseq, and hold the rate at all looks together."""

import math

import numpy as np
import pytest

from midstream.evaluation.experiments import any_time
from midstream.evaluation.experiments.any_time import AnyTime
from midstream.evaluation.experiments.comparisons import ComparisonRule, compare
from midstream.evaluation.experiments.effects import effects
from midstream.evaluation.experiments.rates import rate_bounds, rate_difference, rate_interval
from midstream.evaluation.experiments.unit_sums import UnitSums, moments


@pytest.mark.parametrize(
    "successes, trials, tuned, low, high",
    [
        (700, 1000, 100, 0.651629, 0.745949),
        (15, 50, 50, 0.129556, 0.511896),
        (5, 50, 50, 0.013021, 0.269264),
        (1, 50, 50, 0.0, 0.13489),
        (1, 2, 50, 0.0, 1.0),
        (100, 200, 1, 0.328923, 0.671076),
        (0, 1, 50, 0.0, 1.0),
        (1, 1, 50, 0.0, 1.0),
    ],
)
def test_interval_is_that_of_confseq(successes, trials, tuned, low, high):
    """Figures of its test/uniform_boundaries_unittest.cpp, within its tolerance of 1e-5."""
    found = rate_interval(successes, trials, AnyTime(0.05, tuned))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-5)
    assert found.rate == successes / trials


def test_intervals_hold_a_small_rate_at_all_looks():
    """Of 1,000 sequences with a rate of 1 % at most 5 % are ever missed, looked at from the tenth unit on."""
    trials = np.unique(np.geomspace(10, 4_000, 20).astype(np.int64))
    successes = np.cumsum(np.random.default_rng(5).random((1_000, 4_000)) < 0.01, axis=1)[:, trials - 1]
    # Few pairs of both differ: bounds are computed once for each.
    pairs, place = np.unique(
        np.stack((successes, np.broadcast_to(trials, successes.shape))).reshape(2, -1), axis=1, return_inverse=True
    )
    low, high = rate_bounds(pairs[0].astype(np.float64), pairs[1].astype(np.float64), AnyTime(0.05, 1_000))
    missed = ((low > 0.01) | (high < 0.01))[place.ravel()].reshape(successes.shape).any(axis=1).mean()
    assert 0.005 <= missed <= 0.05


def test_difference_is_made_of_two_intervals_at_half_the_level():
    """Its ends are the farthest that both rates may be apart; without successes the lift has no upper end."""
    level = AnyTime(0.05, 1_000)
    first, second = (rate_interval(each, 500, AnyTime(0.025, 500)) for each in (40, 75))
    found = rate_difference((40, 500), (75, 500), level)
    assert (found.low, found.high) == (second.low - first.high, second.high - first.low)
    assert found.lift_low == second.low / first.high - 1
    assert found.lift_high == second.high / first.low - 1
    assert rate_difference((0, 500), (75, 500), level).lift_high == math.inf


def test_no_trials_leave_all_rates_possible():
    """Nothing is known, and the rate is NaN."""
    found = rate_interval(0, 0, AnyTime())
    assert (found.low, found.high) == (0.0, 1.0)
    assert math.isnan(found.rate)


def test_the_switch_from_exact_to_asymptotic_intervals_keeps_the_error():
    """1,000 A/A experiments looked at around the switch: either interval leaves out no effect in 5 % at most, together.

    A look before 50 successes of each side goes by the exact interval, a later one by the asymptotic: that of the
    same rule as in reports, so an experiment may be wrong by either of them.
    """
    rule, rate = ComparisonRule(), 0.02
    looks = np.arange(200, 12_001, 200)
    rng = np.random.default_rng(17)
    added = rng.binomial(200, rate, (2, 1_000, len(looks))).astype(np.float64)
    successes, trials = np.cumsum(added, axis=2), np.broadcast_to(looks.astype(np.float64), (2, 1_000, len(looks)))
    half = AnyTime(rule.level.alpha / 2, rule.level.tuned_units / 2)
    low, high = rate_bounds(successes.ravel(), trials.ravel(), half)
    low, high = low.reshape(trials.shape), high.reshape(trials.shape)
    exact = np.asarray((low[1] > high[0]) | (high[1] < low[0]))
    variants = [moments(trials[at], successes[at][..., None], successes[at][..., None, None], "rate") for at in (0, 1)]
    found = effects(variants[0], variants[1], "rate")
    asymptotic = np.abs(found.lift) > any_time.half_width(found.lift_error, found.units, rule.level)
    is_enough = np.asarray((successes >= rule.effective_units_min).all(axis=0))
    assert is_enough.any(axis=1).all()
    assert not is_enough[:, :3].any()
    for run, look in zip(rng.integers(0, 1_000, 30), rng.integers(0, len(looks), 30), strict=True):
        sums = [rate_sums(int(looks[look]), float(successes[at, run, look])) for at in (0, 1)]
        shown = compare(sums[0], sums[1], "rate", rule)
        assert (shown.basis == "asymptotic") == bool(is_enough[run, look])
        is_out = not shown.any_time.low <= 0.0 <= shown.any_time.high
        assert is_out == bool((asymptotic if is_enough[run, look] else exact)[run, look])
    assert np.where(is_enough, asymptotic, exact).any(axis=1).mean() <= 0.05


def rate_sums(units, successes):
    """Sums of a rate."""
    return UnitSums(units, (successes,), ((successes,),), int(successes))
