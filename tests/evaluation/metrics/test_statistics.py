"""Intervals and paired tests: what they promise on data whose answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.evaluation.metrics.statistics import PairedDifference, Resampling, difference, estimate, holm

FEW = Resampling(resamples=400, seed=3)
VALUES = st.lists(st.floats(-10, 10), min_size=1, max_size=40)


@given(VALUES, st.integers(1, 10))
def test_an_interval_holds_its_values_range_and_repeats(values, group_count):
    """The mean is NumPy's, the interval lies within the values, and the same seed gives the same interval."""
    column = np.array(values)
    groups = np.arange(len(values)) % group_count
    found = estimate(column, groups, FEW)
    assert math.isclose(found.mean, float(column.mean()), rel_tol=1e-9, abs_tol=1e-12)
    assert column.min() - 1e-9 <= found.low <= found.high <= column.max() + 1e-9
    assert found == estimate(column, groups, FEW)


@given(VALUES)
def test_one_group_leaves_nothing_to_draw(values):
    """With a single session every resample is the data itself."""
    column = np.array(values)
    found = estimate(column, np.zeros(len(values), dtype=np.intp), FEW)
    assert math.isclose(found.low, found.high, rel_tol=1e-9, abs_tol=1e-12)


def test_missing_values_are_left_out_and_none_at_all_is_nan():
    """NaN counts neither as 0 nor as a question."""
    groups = np.array([0, 1, 2])
    assert estimate(np.array([1.0, np.nan, 1.0]), groups, FEW).mean == 1.0
    assert math.isnan(estimate(np.full(3, np.nan), groups, FEW).low)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    """Of 300 samples of sessions with clicks that go together, 90 % to 99 % of the 95 % intervals hold the truth.

    Drawing clicks instead of sessions would hold it in about 60 %.
    """
    rng = np.random.default_rng(5)
    held = 0
    for sample in range(300):
        each = np.repeat(rng.normal(0.3, 1.0, 60), 8)  # 60 sessions of 8 equal clicks
        found = estimate(each, np.repeat(np.arange(60), 8), Resampling(resamples=300, seed=sample))
        held += found.low <= 0.3 <= found.high
    assert 0.90 * 300 <= held <= 0.99 * 300


def test_a_difference_that_is_there_is_found_and_one_that_is_not_is_not():
    """A shift of every session is significant; two noisy copies are so as rarely as the level says."""
    rng = np.random.default_rng(6)
    groups = np.repeat(np.arange(50), 4)
    base = rng.normal(size=200)
    found = difference(base + 0.5 + rng.normal(0, 0.1, 200), base, groups, FEW)
    assert found.low > 0.4
    assert found.p_value < 0.01
    surprising = 0
    for sample in range(200):
        noise = rng.normal(size=(2, 200))
        surprising += difference(noise[0], noise[1], groups, Resampling(200, seed=sample)).p_value < 0.05
    assert surprising <= 22  # 10 expected; 22 has a chance of 1 in 4,000


@given(VALUES, st.integers(1, 7))
def test_exchanging_the_two_turns_the_sign(values, group_count):
    """Second less first is minus first less second, with the same p; equal answers have p = 1."""
    first = np.array(values)
    second = np.roll(first, 1) * 0.5
    groups = np.arange(len(values)) % group_count
    one, other = difference(first, second, groups, FEW), difference(second, first, groups, FEW)
    assert math.isclose(one.mean, -other.mean, abs_tol=1e-9)
    assert math.isclose(one.low, -other.high, abs_tol=1e-6)
    assert one.p_value == other.p_value
    assert difference(first, first, groups, FEW).p_value == 1.0


def test_many_groups_are_drawn_in_pieces_with_the_same_right():
    """An interval over more groups than are drawn at once is as narrow as theory says."""
    rng = np.random.default_rng(7)
    values = rng.normal(size=30_000)
    found = estimate(values, np.arange(30_000), FEW)
    assert math.isclose(found.high - found.low, 2 * 1.96 / math.sqrt(30_000), rel_tol=0.15)


def holms(p_values):
    """Return the corrected p of differences that have these."""
    return [each.p_value_corrected for each in holm([PairedDifference(0.0, 0.0, 0.0, p_value) for p_value in p_values])]


def test_tests_of_one_table_are_corrected_together():
    """Holm's p: the smallest counts as often as there are tests, none is less than that of a smaller one, 1 at most."""
    assert holms([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holms([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holms([0.04]) == pytest.approx([0.04])
    assert holms([]) == []
    assert str(holm([PairedDifference(0.5, 0.25, 0.75, 0.01), PairedDifference(0.0, 0.0, 0.0, 0.5)])[0]) == (
        "+0.5000 (+0.2500 to +0.7500), p = 0.010 (0.020 of 2 tests)"
    )
    assert str(PairedDifference(0.5, 0.25, 0.75, 0.01)) == "+0.5000 (+0.2500 to +0.7500), p = 0.010"


def test_a_table_of_noise_rarely_has_a_corrected_p_below_the_level():
    """Of 400 tables of 8 tests without any difference, 1 in 20 has one below 0.05; uncorrected, 1 in 3."""
    drawn = np.random.default_rng(7).random((400, 8))
    assert 0.2 < (drawn.min(axis=1) < 0.05).mean() < 0.46
    assert (np.array([min(holms(row)) for row in drawn.tolist()]) < 0.05).mean() < 0.085
