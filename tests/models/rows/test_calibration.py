"""Scores as probabilities: the line of least log loss, which keeps every order and is true where scores were not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from midstream.core.types import Calibration
from midstream.evaluation.metrics.click_metrics import calibration_error, reliability
from midstream.models.rows.calibration import fit_calibration, log_odds, probabilities


def drawn(seed: int, count: int = 500, slope: float = 1.5, offset: float = -1.0):
    """Scores, whether what they foresee came, and weights."""
    dice = np.random.default_rng(seed)
    score = dice.normal(2.0, 3.0, count).astype(np.float32)
    is_good = dice.random(count) < 1 / (1 + np.exp(-(slope * score / 3 + offset)))
    return score, is_good, dice.uniform(0.2, 3.0, count).astype(np.float32)


@settings(max_examples=25)
@given(st.integers(0, 1_000), st.booleans())
def test_the_line_is_that_of_least_loss(seed, is_probability):
    """No other slope and offset has a lower weighted log loss, as a minimiser of another kind says."""
    score, good, weight = drawn(seed)
    if is_probability:
        score = (1 / (1 + np.exp(-score / 3))).astype(np.float32)
    found = fit_calibration(score, good, weight, is_probability=is_probability)
    assert found is not None
    odds = log_odds(score) if is_probability else score.astype(np.float64)
    weighed = weight * (len(weight) / weight.sum(dtype=np.float64))
    counts = weighed[~good].sum(), weighed[good].sum()
    target = np.where(good, (counts[1] + 1) / (counts[1] + 2), 1 / (counts[0] + 2))

    def loss(line):
        value = line[0] * odds + line[1]
        return float(weighed @ (np.logaddexp(0, value) - target * value))

    other = minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 2_000})
    assert (found.slope, found.offset) == pytest.approx(other.x.tolist(), abs=1e-4)
    assert loss([found.slope, found.offset]) <= other.fun + 1e-8


@given(st.floats(0, 50), st.floats(-50, 50), st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=20))
def test_no_order_changes_and_all_are_probabilities(slope, offset, scores):
    """Whatever the line: from 0 to 1, a higher score is never less probable, and what is unknown stays unknown."""
    values = np.array([*sorted(scores), np.nan], dtype=np.float32)
    told = probabilities(Calibration(slope, offset, is_probability=False), values)
    assert np.isnan(told[-1])
    assert ((told[:-1] >= 0) & (told[:-1] <= 1)).all()
    assert (np.diff(told[:-1]) >= 0).all()


def test_what_is_too_sure_becomes_true():
    """Log-odds three times too large: of fresh rows the distance of foretold and seen falls to what chance leaves."""
    truth = np.random.default_rng(5).normal(-1.0, 1.0, 20_000)
    good = np.random.default_rng(6).random(20_000) < 1 / (1 + np.exp(-truth))
    sure = (1 / (1 + np.exp(-3 * truth))).astype(np.float32)
    ones = np.ones(10_000, dtype=np.float32)
    line = fit_calibration(sure[:10_000], good[:10_000], ones, is_probability=True)
    assert line is not None
    assert line.slope == pytest.approx(1 / 3, abs=0.03)
    before = calibration_error(reliability(good[10_000:], sure[10_000:]))
    after = calibration_error(reliability(good[10_000:], probabilities(line, sure[10_000:]).astype(np.float32)))
    assert (before > 0.1, after < 0.02) == (True, True)


def test_rows_that_are_parted_wholly_give_a_line_that_ends():
    """A score that parts all clicks from all others has no steepest line; the targets keep it finite."""
    score = np.array([-2.0, -1.0, 1.0, 2.0], dtype=np.float32)
    line = fit_calibration(score, score > 0, np.ones(4, np.float32), is_probability=False)
    assert line is not None
    assert 0 < line.slope < 10
    assert probabilities(line, score)[3] == pytest.approx(0.75, abs=0.1)


@pytest.mark.parametrize("turn", [-1.0, 0.0])
def test_a_score_that_orders_backwards_or_not_at_all_says_the_share(turn):
    """A line that falls would turn the order round; what is left is how often it came."""
    score, good, _ = drawn(3)
    line = fit_calibration((turn * score).astype(np.float32), good, np.ones(500, np.float32), is_probability=False)
    assert line is not None
    assert line.slope == 0.0
    assert probabilities(line, score) == pytest.approx(np.full(500, good.mean()), abs=1e-6)


@given(st.floats(0.001, 0.999), st.integers(2, 1_000), st.integers(0, 1_000))
def test_a_score_that_is_always_the_same_says_the_share(probability, count, seed):
    """By a slope of exactly 0: what its deviation is by rounding alone is no unit."""
    good = np.arange(count) % 4 == 0
    weight = np.random.default_rng(seed).uniform(0.2, 3.0, count).astype(np.float32)
    score = np.full(count, probability, dtype=np.float32)
    found = fit_calibration(score, good, weight, is_probability=True)
    assert found is not None
    assert found.slope == 0


def test_rows_that_came_out_alike_say_nothing():
    """Neither do rows of weight 0, or without a number."""
    score, weight = np.array([0.1, 0.9], dtype=np.float32), np.ones(2, dtype=np.float32)
    for good in (np.zeros(2, np.bool_), np.ones(2, np.bool_)):
        assert fit_calibration(score, good, weight, is_probability=True) is None
    mixed = np.array([True, False])
    assert fit_calibration(score, mixed, np.array([1, 0], np.float32), is_probability=True) is None
    assert fit_calibration(np.array([0.1, np.nan], np.float32), mixed, weight, is_probability=True) is None
    assert fit_calibration(score[:0], mixed[:0], weight[:0], is_probability=True) is None
