"""The any-time sign test: closed forms, what it is tuned for, and its error over all looks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.evaluation.interleaving.sign_sequence import TUNED_AT, log_mixture, prior_of, sign_sequence


def test_closed_forms():
    """Under the uniform prior M(1/2) after n wins is 2^n / (n + 1); after one win M(p) is 1 / 2p under any."""
    ten = sign_sequence(10, 0, prior=1.0)
    assert ten.p_value == pytest.approx(11 / 2**10)
    assert ten.low == pytest.approx((20 * 11) ** -0.1)
    assert (ten.share, ten.high) == (1.0, 1.0)
    one = sign_sequence(1, 0, alpha=0.1)
    assert (one.low, one.high, one.p_value) == pytest.approx((0.05, 1.0, 1.0))
    both = sign_sequence(1, 1, prior=1.0)
    # M(p) = 1 / 6p(1 - p), so p(1 - p) = 1 / 120 at both ends.
    assert both.low == pytest.approx((1 - math.sqrt(1 - 4 / 120)) / 2)
    assert both.high == pytest.approx(1 - both.low)


@given(st.integers(0, 5_000), st.integers(0, 5_000), st.floats(0.5, 100), st.sampled_from([0.01, 0.05, 0.2]))
def test_an_interval_ends_where_the_mixture_reaches_its_level(won, lost, prior, alpha):
    """Both bounds are roots, the share is inside, and the sides are alike."""
    found = sign_sequence(won, lost, alpha, prior)
    mirrored = sign_sequence(lost, won, alpha, prior)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low))
    assert mirrored.p_value == pytest.approx(found.p_value)
    if not won + lost:
        assert (found.low, found.high, found.p_value) == (0.0, 1.0, 1.0)
        return
    assert found.low <= found.share <= found.high
    assert (found.p_value <= alpha) == (not found.low <= 0.5 <= found.high) or found.p_value == pytest.approx(alpha)
    for bound in (found.low, found.high):
        if 1e-12 < bound < 1 - 1e-12:
            level = float(log_mixture(np.array(float(won)), np.array(float(lost)), bound, prior))
            assert level == pytest.approx(-math.log(alpha), abs=1e-6)


def test_a_preference_is_found_soonest_at_the_votes_it_is_tuned_for():
    """No other prior finds a smaller preference there, to a thousandth."""
    won = np.linspace(TUNED_AT / 2, TUNED_AT, 2_001)

    def least(prior):
        return won[np.argmax(log_mixture(won, TUNED_AT - won, 0.5, prior) >= math.log(20))] / TUNED_AT

    assert least(prior_of()) <= min(least(prior) for prior in np.geomspace(0.5, 200, 40)) + 0.001
    assert least(prior_of()) == pytest.approx(0.607, abs=0.001)
    assert prior_of(1) == 0.5


@pytest.mark.parametrize("ties", [0.0, 0.4])
def test_a_look_after_every_vote_errs_no_more_than_once_in_twenty(ties):
    """2,000 sequences of 2,000 votes without a preference: any look at which it claims one is an error.

    Ties count as halves. A test for one look claims one in half of the same sequences.
    """
    rng = np.random.default_rng(20)
    vote = np.where(rng.random((2_000, 2_000)) < ties, 0.5, rng.integers(0, 2, (2_000, 2_000)))
    won = np.cumsum(vote, axis=1)
    seen = np.arange(1, 2_001)
    errors = (log_mixture(won, seen - won, 0.5, prior_of()) >= math.log(20)).any(axis=1).mean()
    assert errors <= 0.05
    fixed = np.abs(won - seen / 2) > 1.96 * np.sqrt(seen * (1 - ties)) / 2
    assert fixed[:, 20:].any(axis=1).mean() > 0.3


def test_a_preference_is_found_at_some_look():
    """65 % of votes for one: found within 400 votes in 19 of 20 sequences."""
    rng = np.random.default_rng(21)
    won = np.cumsum(rng.random((1_000, 400)) < 0.65, axis=1).astype(np.float64)
    found = (log_mixture(won, np.arange(1, 401) - won, 0.5, prior_of()) >= math.log(20)).any(axis=1)
    assert found.mean() > 0.95


@pytest.mark.parametrize("votes", [(-1, 0, 0.05), (0, math.nan, 0.05), (1, 1, 0.0), (1, 1, 1.0)])
def test_sums_and_levels_have_bounds(votes):
    """Nothing below 0, no NaN, a level inside (0, 1)."""
    with pytest.raises(ValueError, match="alpha"):
        sign_sequence(*votes)
