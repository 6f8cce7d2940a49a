"""The sample-ratio check finds lost units, and seldom alarms however often it is read."""

import math

import numpy as np
import pytest
from scipy import stats

from midstream.evaluation.experiments.sample_ratio import (
    EXPECTED_MIN,
    SampleRatioRule,
    check_sample_ratio,
    chi_square_p_values,
    day_levels,
    log_evidence,
)

EVEN = np.array([0.5, 0.5])


def test_p_values_are_those_of_scipy():
    """Over all and by day; a day with few units has none."""
    counts = np.array([[500, 520, 240], [600, 610, 333], [12, 9, 5]])
    shares = np.array([2.0, 2.0, 1.0])
    found = check_sample_ratio(counts, shares)
    for at, day in enumerate(counts[:2]):
        assert found.day_p_values[at] == pytest.approx(stats.chisquare(day, shares / 5 * day.sum()).pvalue, rel=1e-9)
    assert math.isnan(found.day_p_values[2])
    totals = counts.sum(axis=0)
    assert found.p_value == pytest.approx(stats.chisquare(totals, shares / 5 * totals.sum()).pvalue, rel=1e-9)
    assert not found.is_failed
    assert found.reason == ""
    assert EXPECTED_MIN > 5


def test_evidence_is_the_mixture_of_the_likelihood():
    """It equals the Dirichlet-multinomial probability by the multinomial one, computed by scipy."""
    rule, shares = SampleRatioRule(tuned_units=2_000), np.array([0.2, 0.3, 0.5])
    counts = np.array([[30, 20, 60], [25, 50, 40]])
    found = log_evidence(counts, np.tile(shares, (2, 1)), rule)
    log_level = 2 * math.log(1 / 0.0005)
    concentration = 2_000 / (log_level + math.log1p(log_level)) - 1
    for at, seen in enumerate(np.cumsum(counts, axis=0)):
        mixture = stats.dirichlet_multinomial.logpmf(seen, concentration * shares, seen.sum())
        assert found[at] == pytest.approx(mixture - stats.multinomial.logpmf(seen, seen.sum(), shares), abs=1e-8)


def test_alarms_are_rarer_than_one_in_a_thousand():
    """Of experiments of 14 days, read daily, at most 0.1 % alarm; chi-square read daily alarms in 0.3 % and more."""
    rng, days, rule = np.random.default_rng(3), 14, SampleRatioRule()
    for share in (0.5, 0.1):
        first = rng.binomial(10_000, share, (6_000, days))
        counts = np.stack([first, 10_000 - first], axis=-1)
        shares = np.tile([share, 1 - share], (days, 1))
        over_all = (log_evidence(counts, shares, rule) > -math.log(rule.p_min)).any(axis=1)
        by_day = (chi_square_p_values(counts, shares * 10_000.0) < day_levels(days, rule)).any(axis=1)
        assert (over_all | by_day).mean() <= 0.001
        seen = np.cumsum(counts, axis=1)
        read_daily = chi_square_p_values(seen, shares * seen.sum(axis=-1, keepdims=True)) < rule.p_min
        assert read_daily.any(axis=1).mean() >= 0.003


def test_lost_units_are_found():
    """One unit of 25 lost in a variant is found within five days of 10,000; in words, with both figures."""
    counts = np.tile([5_000, 4_800], (5, 1))
    found = check_sample_ratio(counts, EVEN)
    assert found.is_failed
    assert found.reason.startswith("units by variant are 25,000, 24,000 where 24,500, 24,500 are expected")
    assert not check_sample_ratio(counts[:1], EVEN).is_failed


def test_an_alarm_stays():
    """Days that pull the totals even again do not take the alarm back."""
    counts = np.array([[5_500, 4_500], [4_500, 5_500]])
    found = check_sample_ratio(counts, EVEN)
    assert found.p_value > 0.99
    assert found.is_failed
    assert found.any_time_p_value < 0.0005


def test_one_bad_day_is_found():
    """A day that totals hide alarms by itself; a day that is not over does not."""
    counts = np.array([[50_000, 50_000], [50_000, 50_000], [1_150, 850]])
    found = check_sample_ratio(counts, EVEN)
    assert found.any_time_p_value == 1.0
    assert found.reason.startswith("new units of day 3 are 1,150, 850")
    still_open = check_sample_ratio(counts, EVEN, SampleRatioRule(is_last_day_open=True))
    assert not still_open.is_failed
    assert math.isnan(still_open.day_p_values[-1])


def test_a_ramp_has_shares_by_day():
    """Shares that change are judged by those in force: 10 % then 50 % is right, the same against 50 % is not."""
    counts = np.array([[9_000, 1_000], [5_050, 4_950], [4_980, 5_020]])
    ramp = np.array([[0.9, 0.1], [0.5, 0.5], [0.5, 0.5]])
    assert not check_sample_ratio(counts, ramp).is_failed
    assert check_sample_ratio(counts, ramp).expected == (19_000.0, 11_000.0)
    assert check_sample_ratio(counts, EVEN).is_failed
    off = counts.copy()
    off[1:] = [[5_600, 4_400], [5_600, 4_400]]
    assert check_sample_ratio(off, ramp).is_failed


def test_evidence_of_steps_of_a_ramp_is_multiplied():
    """After a step the evidence is that of the days before and that of the days since, each by itself."""
    rule, ramp = SampleRatioRule(), np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5]])
    counts = np.array([[9_100, 900], [8_950, 1_050], [5_120, 4_880]])
    whole = log_evidence(counts, ramp, rule)
    before, since = log_evidence(counts[:2], ramp[:2], rule), log_evidence(counts[2:], ramp[2:], rule)
    assert whole == pytest.approx([*before, before[-1] + since[0]])
    assert abs(before[-1]) > 0.1


def test_one_planned_look_is_chi_square():
    """At one moment p < 0.0005 of chi-square decides, where the test of all moments still waits."""
    counts = np.array([[5_190, 4_810]])
    assert check_sample_ratio(counts, EVEN).any_time_p_value > 0.0005
    found = check_sample_ratio(counts, EVEN, SampleRatioRule(is_any_time=False))
    assert found.p_value < 0.0005
    assert found.is_failed


@pytest.mark.parametrize("is_any_time", [True, False])
def test_units_in_a_variant_without_a_share_are_a_failure(is_any_time):
    """One unit where none can come is enough, on any day; none there is as it should be."""
    rule = SampleRatioRule(is_any_time=is_any_time)
    ramp = np.array([[1.0, 0.0], [0.5, 0.5]])
    off = check_sample_ratio(np.array([[5_000, 1], [5_000, 5_000]]), ramp, rule)
    assert off.is_failed
    assert off.reason == "1 new units of day 1 are in variant 2, which has no share of traffic then"
    right = check_sample_ratio(np.array([[5_000, 0], [5_000, 5_000]]), ramp, rule)
    assert (right.is_failed, right.reason) == (False, "")
    assert right.any_time_p_value == 1.0
    lost = check_sample_ratio(np.array([[5_000, 0], [5_500, 4_500]]), ramp)
    assert lost.reason.startswith("units by variant are 10,500, 4,500 where 10,000, 5,000 are expected")


@pytest.mark.parametrize("shares", [[0.0, 0.0], [math.nan, 0.5], [math.inf, 0.5], [-0.5, 1.5]])
def test_shares_that_are_none_are_a_failure(shares):
    """Nothing can be expected by them, so the check cannot pass."""
    found = check_sample_ratio(np.array([[5_000, 5_000]]), np.array(shares))
    assert found.is_failed
    assert found.reason == f"shares of day 1 are {shares[0]:g}, {shares[1]:g}: no units can be expected by them"


def test_one_planned_look_at_few_units_is_any_time():
    """Where chi-square is not taken, the test of all looks decides: 60 units that all came to one variant are wrong."""
    found = check_sample_ratio(np.array([[60, 0]]), EVEN, SampleRatioRule(is_any_time=False, tuned_units=100.0))
    assert math.isnan(found.p_value)
    assert found.is_failed
