"""Drift: the figures of independent implementations, and what the tests must see and must not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from midstream.evaluation.metrics.drift import (
    bin_counts,
    compared,
    drift_of,
    kolmogorov_tail,
    stability_index,
)
from midstream.evaluation.metrics.feature_statistics import distribution, statistics_of

# Of scipy 1.17.1: stats.ks_2samp(method="asymp") of the samples that _samples makes.
TWO_SAMPLES = (
    (50, 80, 0.0, None, 0.065, 0.9983123139749721),
    (500, 400, 0.1, None, 0.057, 0.4498923221454746),
    (1000, 1000, 0.05, 1, 0.036, 0.524236806213346),
    (10000, 2000, 0.02, None, 0.0212, 0.43600355419705694),
    (300, 5000, 0.15, 0, 0.0284, 0.9715490651858697),
    (60, 60, 1.0, None, 0.21666666666666667, 0.10245172997667418),
)
NUMBERS = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=30)


def _samples(first_count, second_count, shift, places, seed):
    first = np.sin(np.arange(first_count) * 1.7 + seed) * np.sqrt(np.arange(first_count) % 17 + 1)
    second = np.sin(np.arange(second_count) * 2.3 + seed) * np.sqrt(np.arange(second_count) % 19 + 1) + shift
    return (first, second) if places is None else (first.round(places), second.round(places))


def two_samples(first, second):
    """Two samples by their distribution functions."""
    return compared(distribution(first), len(first), distribution(second), len(second))


@given(st.floats(0.0, 5.0))
def test_the_tail_is_that_of_scipy(distance):
    """To nine digits, from certainty to none."""
    assert math.isclose(kolmogorov_tail(distance), special.kolmogorov(distance), rel_tol=1e-9)


def test_a_small_p_is_that_of_scipy():
    """Below 0.1 within 0.004, from 50 values a side on; above, where nobody acts on it, within 0.03."""
    rng = np.random.default_rng(9)
    for _ in range(150):
        first, second = (rng.normal(size=rng.integers(50, 400)) for _ in range(2))
        first += rng.choice([0.0, 0.2, 0.4])
        right, ours = stats.ks_2samp(first, second, method="asymp").pvalue, two_samples(first, second).p_value
        assert abs(ours - right) <= (0.004 if right < 0.1 else 0.03)


@pytest.mark.parametrize("case", range(len(TWO_SAMPLES)))
def test_two_samples_are_compared_as_scipy_does(case):
    """The statistic to rounding; p within 0.006 of the finite distribution that scipy takes."""
    first_count, second_count, shift, places, statistic, p_value = TWO_SAMPLES[case]
    found = two_samples(*_samples(first_count, second_count, shift, places, case))
    assert math.isclose(found.statistic, statistic, rel_tol=1e-9)
    assert found.p_value == pytest.approx(p_value, abs=0.006)


@given(NUMBERS, NUMBERS)
def test_the_statistic_is_the_largest_distance_of_counts(first, second):
    """A plain twin: shares of values up to each value that occurs."""

    def share(values, limit):
        return sum(value <= limit for value in values) / len(values)

    right = max(abs(share(first, each) - share(second, each)) for each in {*first, *second})
    found = two_samples(np.array(first), np.array(second))
    assert math.isclose(found.statistic, right, abs_tol=1e-12)
    assert two_samples(np.array(second), np.array(first)) == found


def test_the_index_of_known_shares():
    """60, 30, 10 against 30, 30, 40, without smoothing 0.3 ln 2 + 0.3 ln 4 = 0.6238; with it as computed by hand."""
    p = [60.5 / 101.5, 30.5 / 101.5, 10.5 / 101.5]
    q = [30.5 / 101.5, 30.5 / 101.5, 40.5 / 101.5]
    right = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))
    found = stability_index(np.array([60.0, 30.0, 10.0]), np.array([30.0, 30.0, 40.0]))
    assert math.isclose(found, right, rel_tol=1e-12)
    assert found == pytest.approx(0.6238, abs=0.03)


def test_bins_are_tenths_and_hold_their_upper_ends():
    """Of 1 to 100 each bin of the baseline has ten, and its own values fall into them as they were counted."""
    column = np.arange(1.0, 101.0, dtype=np.float32)
    found = statistics_of(["a"], column[:, None]).columns[0]
    assert found.edges == (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0)
    assert found.shares == pytest.approx([0.1] * 10)
    assert bin_counts(column.astype(np.float64), np.array(found.edges)).tolist() == [10.0] * 10


@given(st.lists(st.one_of(st.just(np.nan), st.integers(-3, 3).map(float)), min_size=1, max_size=40))
def test_a_column_has_not_drifted_from_itself(values):
    """Whatever is missing and however many values are equal: index 0, distance 0, p 1."""
    column = np.array(values, dtype=np.float32)[:, None]
    found = drift_of(statistics_of(["a"], column), ["a"], column)[0]
    if np.isnan(column).all():
        assert math.isnan(found.psi)
        assert math.isnan(found.ks.statistic)
    else:
        assert found.psi == pytest.approx(0.0, abs=1e-12)
        assert found.ks.statistic == pytest.approx(0.0, abs=1e-12)
        assert found.ks.p_value == 1.0


def test_a_shift_is_seen_and_chance_is_not():
    """Of 5,000 normal values a shift by a whole deviation has an index above 0.25; another draw is below 0.02."""
    rng = np.random.default_rng(5)
    then = rng.normal(size=(5_000, 1)).astype(np.float32)
    again, shifted = (rng.normal(mean, size=(5_000, 1)).astype(np.float32) for mean in (0.0, 1.0))
    baseline = statistics_of(["a"], then)
    same, moved = (drift_of(baseline, ["a"], each)[0] for each in (again, shifted))
    assert same.psi < 0.02
    assert same.ks.p_value > 0.01
    assert moved.psi > 0.25
    assert moved.ks.p_value < 1e-6
    exact = two_samples(then[:, 0], shifted[:, 0]).statistic
    assert moved.ks.statistic == pytest.approx(exact, abs=0.004)


@pytest.mark.parametrize("then,now", [([2.0] * 100, 1.0), ([2.0] * 100, 3.0), ([0.0] * 60 + [5.0] * 40, -1.0)])
def test_values_on_either_side_of_the_commonest_are_seen(then, now):
    """Where the least value is a decile too, what is below it is in a bin of its own."""
    baseline = statistics_of(["a"], np.array(then, dtype=np.float32)[:, None])
    found = drift_of(baseline, ["a"], np.full((100, 1), now, dtype=np.float32))[0]
    assert found.psi > 0.25
    assert found.ks.statistic >= 0.6


@pytest.mark.parametrize(
    "then,now",
    [
        ({1.0: 93, 0.0: 7}, {1.0: 10, 0.0: 90}),
        ({1.0: 95, 0.0: 5}, {0.0: 100}),
        ({0.0: 60, 5.0: 40}, {0.0: 60, 3.0: 40}),
        ({0.0: 2, 1.0: 3, 4.0: 95}, {0.0: 45, 1.0: 5, 4.0: 50}),
    ],
)
def test_what_is_below_a_frequent_value_is_seen(then, now):
    """Of the mirror image as much, as it was always."""
    for sign in (1.0, -1.0):
        first, second = (
            np.repeat(np.array(list(each), dtype=np.float32) * sign, np.array(list(each.values())) * 10)[:, None]
            for each in (then, now)
        )
        assert drift_of(statistics_of(["a"], first), ["a"], second)[0].psi > 0.25


@pytest.mark.parametrize("count", [40, 4_000])
@pytest.mark.parametrize("kind", ["continuous", "counts", "truth"])
def test_another_draw_of_any_kind_has_not_drifted(kind, count):
    """Bins of single values tell no samples apart that are of one distribution, whatever their sizes."""
    rng = np.random.default_rng(7)

    def drawn(many):
        made = {"continuous": rng.normal(size=many), "counts": rng.poisson(3.0, many), "truth": rng.random(many) < 0.9}
        return made[kind][:, None].astype(np.float32)

    found = [drift_of(statistics_of(["a"], drawn(4_000)), ["a"], drawn(count))[0].psi for _ in range(20)]
    # About bins / rows on average, of at most twelve bins.
    assert np.mean(found) < 12 * (1 / count + 1 / 4_000)


def test_what_the_baseline_has_not_is_compared_with_nothing():
    """A new column has a mean and no drift; a column that has become all null has neither."""
    baseline = statistics_of(["a"], np.ones((4, 1), dtype=np.float32))
    new, gone = drift_of(baseline, ["b", "a"], np.array([[2.0, np.nan]], dtype=np.float32))
    assert (new.mean, gone.null_ratio, gone.null_ratio_then) == (2.0, 1.0, 0.0)
    assert math.isnan(new.null_ratio_then)
    assert all(math.isnan(each) for each in (new.psi, gone.psi, gone.mean, gone.ks.statistic))
