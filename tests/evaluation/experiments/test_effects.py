"""Effects have the spread that simulated experiments have, and the past takes its share of it."""

import math

import numpy as np
import pytest

from midstream.evaluation.experiments.effects import effects
from midstream.evaluation.experiments.unit_sums import UnitSums, moments, moments_of, no_units, unit_sums

SETS, UNITS = 1_000, 300


def moments_of_sets(columns: np.ndarray, kind="mean"):
    """Moments of many sets of units at once, from (sets, units, columns)."""
    count = np.full(len(columns), float(columns.shape[1]))
    return moments(count, columns.sum(axis=1), np.einsum("sui,suj->sij", columns, columns), kind)


def drawn(seed: int, kind: str, lift: float) -> np.ndarray:
    """Units with slates that depend on the unit: clicks and impressions, now and in the past."""
    rng = np.random.default_rng(seed)
    taste = rng.beta(2, 8, (SETS, UNITS))
    seen = rng.poisson(8, (4, SETS, UNITS)) + 1
    now, before = rng.binomial(seen[0], np.minimum(taste * (1 + lift), 1.0)), rng.binomial(seen[2], taste)
    if kind == "ratio":
        return np.stack((now, seen[0], before, seen[2]), axis=-1).astype(np.float64)
    if kind == "rate":
        return (np.stack((now, before), axis=-1) > 0).astype(np.float64)
    return np.stack((now, before), axis=-1).astype(np.float64)


@pytest.mark.parametrize("kind", ["mean", "rate", "ratio"])
@pytest.mark.parametrize("with_past", [False, True])
def test_standard_errors_are_the_spread_of_estimates(kind, with_past):
    """Over 1,000 experiments the standard deviation of lifts and differences is their mean standard error, to 8 %."""
    control, treated = drawn(1, kind, 0.0), drawn(2, kind, 0.3)
    width = control.shape[-1] if with_past else control.shape[-1] // 2
    found = effects(moments_of_sets(control[..., :width], kind), moments_of_sets(treated[..., :width], kind), kind)
    assert np.std(found.lift) == pytest.approx(np.mean(found.lift_error), rel=0.08)
    assert np.std(found.difference) == pytest.approx(np.mean(found.difference_error), rel=0.08)
    if with_past:
        assert 0.3 < np.mean(found.variance_ratio) < 0.95
    else:
        assert np.all(found.variance_ratio == 1.0)
        assert np.all(found.theta == 0.0)


def test_slates_as_units_would_be_too_sure():
    """The delta method's error of a ratio is well above that of independent slates, which units' tastes make wrong."""
    control = drawn(1, "ratio", 0.0)[:, :, :2]
    found = effects(moments_of_sets(control[::2]), moments_of_sets(control[1::2]), "ratio")
    clicks, seen = control[..., 0].sum(axis=1), control[..., 1].sum(axis=1)
    rate = clicks / seen
    as_slates = np.sqrt((rate * (1 - rate) / seen)[::2] + (rate * (1 - rate) / seen)[1::2])
    assert np.mean(found.difference_error) > 1.2 * np.mean(as_slates)
    assert np.std(found.difference) > 1.2 * np.mean(as_slates)


def test_theta_is_that_of_least_squares():
    """With equal variants, theta is the slope of the outcome on the past within variants."""
    columns = drawn(5, "mean", 0.0)[:2]
    found = effects(moments_of_sets(columns[:1]), moments_of_sets(columns[1:]), "mean")
    centred = columns - columns.mean(axis=1, keepdims=True)
    slope = (centred[..., 0] * centred[..., 1]).sum() / (centred[..., 1] ** 2).sum()
    assert float(found.theta[0]) == pytest.approx(slope, rel=1e-12)


def test_past_does_not_move_the_effect():
    """A mean over experiments of the adjusted effect is that without the past."""
    control, treated = drawn(1, "mean", 0.0), drawn(2, "mean", 0.3)
    adjusted = effects(moments_of_sets(control), moments_of_sets(treated), "mean")
    plain = effects(moments_of_sets(control[..., :1]), moments_of_sets(treated[..., :1]), "mean")
    assert np.mean(adjusted.difference) == pytest.approx(np.mean(plain.difference), rel=0.02)
    assert np.var(adjusted.difference) < 0.9 * np.var(plain.difference)


def test_a_negative_baseline_has_the_same_error():
    """Outcomes turned around have the lift turned around, by the absolute value of the control, and the same error."""
    first, second = (unit_sums(each) for each in drawn(1, "mean", 0.0)[:2])
    turned = [unit_sums(-each) for each in drawn(1, "mean", 0.0)[:2]]
    found = effects(moments_of(first, "mean"), moments_of(second, "mean"), "mean")
    other = effects(moments_of(turned[0], "mean"), moments_of(turned[1], "mean"), "mean")
    assert float(other.lift) == pytest.approx(-float(found.lift), rel=1e-12)
    assert float(other.lift_error) == pytest.approx(float(found.lift_error), rel=1e-12)


def test_what_cannot_be_estimated_is_nan():
    """No units, one unit, units that are all equal, a control of 0: never a number that looks like one."""
    some = unit_sums(np.arange(6.0)[:, None])
    for other in (no_units(1), UnitSums(1, (3.0,), ((9.0,),))):
        found = effects(moments_of(some, "mean"), moments_of(other, "mean"), "mean")
        assert math.isnan(float(found.lift))
        assert math.isnan(float(found.lift_error))
    equal = unit_sums(np.full((5, 1), 0.1))
    assert math.isnan(float(effects(moments_of(equal, "mean"), moments_of(equal, "mean"), "mean").lift_error))
    zero = unit_sums(np.array([[-1.0], [1.0]]))
    found = effects(moments_of(zero, "mean"), moments_of(some, "mean"), "mean")
    assert math.isnan(float(found.lift))
    assert float(found.difference) == 2.5
