"""Effects, tests and intervals equal those of GrowthBook, to the digits that it prints.

Figures of its packages/stats/tests/frequentist/test_tests.py at 8f1db44.
"""

import math

import numpy as np
import pytest

from midstream.evaluation.experiments import any_time, fixed_horizon
from midstream.evaluation.experiments.any_time import AnyTime
from midstream.evaluation.experiments.effects import Effects, effects
from midstream.evaluation.experiments.unit_sums import MetricKind, UnitSums, moments_of

PRINTED = 0.5e-5
CONTROL = UnitSums(3_407, (1396.87,), ((52377.9767,),))
SMALLER = UnitSums(3_000, (1396.87,), ((52377.9767,),))
TREATED = UnitSums(3_461, (2422.7,), ((134698.29,),))
# fmt: off
RATIO_CONTROL = UnitSums(100, (485.112236689623, 679.9093275844917, 192.59138069991536, 290.1398399750233), (
    (2715.484666118136, 3602.146836776702, 1113.6215759318352, 1559.2878434944676),
    (3602.146836776702, 4939.424001640236, 1460.3181079276983, 2130.9404074446747),
    (1113.6215759318352, 1460.3181079276983, 460.076026390857, 634.239482353647),
    (1559.2878434944676, 2130.9404074446747, 634.239482353647, 920.9461385038898),
))
RATIO_TREATED = UnitSums(100, (514.7757826608777, 705.4090874383759, 206.94157227402536, 302.54389139107326), (
    (2994.897482705013, 3918.1561431600717, 1237.0953021125997, 1701.0287270040265),
    (3918.1561431600717, 5291.36604146392, 1604.0759503266522, 2292.081739775257),
    (1237.0953021125997, 1604.0759503266522, 514.2903702246757, 698.4173425817908),
    (1701.0287270040265, 2292.081739775257, 698.4173425817908, 994.4506208125663),
))
# fmt: on


def effect(control: UnitSums, treated: UnitSums, kind: MetricKind = "mean") -> Effects:
    """The effect of one variant."""
    return effects(moments_of(control, kind), moments_of(treated, kind), kind)


def rate(successes: int, units: int) -> UnitSums:
    """Units of which some succeeded."""
    return UnitSums(units, (successes,), ((successes,),))


def ends(estimate: np.ndarray, half: np.ndarray) -> tuple[float, float]:
    """Both ends of an interval."""
    return float(estimate - half), float(estimate + half)


def printed(*expected: float):
    """The figures as far as they are printed."""
    return pytest.approx(expected, abs=PRINTED)


def test_relative_lift_by_welch():
    """Lift, its standard error, interval and p of one look."""
    found = effect(CONTROL, TREATED)
    assert (found.lift, found.lift_error) == printed(0.70732, 0.37879)
    half = fixed_horizon.half_width(found.lift_error, found.freedom, 0.05)
    assert ends(found.lift, half) == printed(-0.03526, 1.44989)
    assert fixed_horizon.p_value(found.lift, found.lift_error, found.freedom) == pytest.approx(0.06191, abs=PRINTED)


def test_difference_by_welch():
    """The same, absolute."""
    found = effect(CONTROL, TREATED)
    assert (found.difference, found.difference_error) == printed(0.29, 0.12478)
    half = fixed_horizon.half_width(found.difference_error, found.freedom, 0.05)
    assert ends(found.difference, half) == printed(0.04538, 0.53462)
    p_value = fixed_horizon.p_value(found.difference, found.difference_error, found.freedom)
    assert p_value == pytest.approx(0.02016, abs=PRINTED)


def test_proportions_of_one_look():
    """14 of 28 against 16 of 30: the variance of a rate is p (1 - p)."""
    found = effect(rate(14, 28), rate(16, 30), "rate")
    half = fixed_horizon.half_width(found.lift_error, found.freedom, 0.05)
    assert (found.lift, found.lift_error) == printed(0.06667, 0.2717)
    assert ends(found.lift, half) == printed(-0.47767, 0.61101)
    assert fixed_horizon.p_value(found.lift, found.lift_error, found.freedom) == pytest.approx(0.80707, abs=PRINTED)


def test_sequential_mean():
    """Tuned at 1,000 units."""
    found, level = effect(SMALLER, TREATED), AnyTime(0.05, 1_000)
    assert (found.lift, found.lift_error) == printed(0.50336, 0.33341)
    assert ends(found.lift, any_time.half_width(found.lift_error, found.units, level)) == printed(-0.55844, 1.56516)
    assert any_time.p_value(found.lift, found.lift_error, found.units, level) == 1.0


def test_sequential_proportion():
    """Tuned at 5,000 units; the p-value is as small as the reference says."""
    found, level = effect(rate(1396, 3000), rate(2422, 3461), "rate"), AnyTime()
    assert (found.lift, found.lift_error) == printed(0.50386, 0.03386)
    assert ends(found.lift, any_time.half_width(found.lift_error, found.units, level)) == printed(0.40098, 0.60675)
    assert 1e-44 < any_time.p_value(found.lift, found.lift_error, found.units, level) < 1e-43


def test_one_sided_of_one_look():
    """Bounds below and above, and p of both sides."""
    found = effect(SMALLER, TREATED)
    half = fixed_horizon.half_width_one_sided(found.lift_error, found.freedom, 0.05)
    assert ends(found.lift, half) == printed(-0.045136675850396046, 1.0518588475628676)
    p_value = fixed_horizon.p_value_above(found.lift, found.lift_error, found.freedom)
    assert p_value == pytest.approx(0.06558262868467746, abs=1e-12)
    below = fixed_horizon.p_value_above(-found.difference, found.difference_error, found.freedom)
    assert below == pytest.approx(0.9644572751012698, abs=1e-12)


def test_sequential_one_sided():
    """Equation 134; the p-value of closed form is within the tolerance (1e-4) of the search there."""
    found, level = effect(SMALLER, TREATED), AnyTime()
    half = any_time.half_width_one_sided(found.lift_error, found.units, level)
    assert ends(found.lift, half) == printed(-0.42356454602790883, 1.4302867177403806)
    half = any_time.half_width_one_sided(found.difference_error, found.units, level)
    assert ends(found.difference, half) == printed(-0.12656844172804982, 0.5953217750613832)
    p_value = any_time.p_value_above(found.difference, found.difference_error, found.units, level)
    assert p_value == pytest.approx(0.46316491943359384, abs=2e-4)


def test_ratio_with_its_past():
    """CUPED of a ratio: the gradient has four columns a variant."""
    found = effect(RATIO_CONTROL, RATIO_TREATED, "ratio")
    assert (found.lift, found.lift_error) == printed(-0.0007, 0.00391)
    half = fixed_horizon.half_width(found.lift_error, found.freedom, 0.05)
    assert ends(found.lift, half) == printed(-0.00841, 0.00700)
    assert fixed_horizon.p_value(found.lift, found.lift_error, found.freedom) == pytest.approx(0.85771, abs=PRINTED)
    half = any_time.half_width(found.lift_error, found.units, AnyTime())
    assert ends(found.lift, half) == printed(-0.02063, 0.01923)


def test_mean_with_its_past():
    """CUPED of a mean. It leaves the pasts' difference out of the gradient, which is 1e-5 of the interval here."""
    control = UnitSums(3_000, (1396.87, 16.87), ((52377.9767, 1.0), (1.0, 527.9767)))
    treated = UnitSums(3_461, (2422.7, 22.7), ((134698.29, 1.0), (1.0, 1348.29)))
    found = effect(control, treated)
    assert (found.lift, found.lift_error) == printed(0.50338, 0.33341)
    half = any_time.half_width(found.lift_error, found.units, AnyTime())
    assert ends(found.lift, half) == pytest.approx((-0.50969, 1.51646), abs=2e-5)


def test_interval_and_confseq_are_one_boundary():
    """The half-width is the normal mixture's bound at as many units, on the scale of the estimate."""
    from midstream.evaluation.experiments.boundaries import NormalMixture

    units, error = 6_461.0, 0.33
    bound = NormalMixture.tuned(1_000, 0.05).bound(units, 0.05)
    assert any_time.half_width(error, units, AnyTime(0.05, 1_000)) == pytest.approx(
        error * bound / math.sqrt(units), rel=1e-14
    )
