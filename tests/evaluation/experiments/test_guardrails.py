"""Guardrails see harm that leaves little to count, and harm that the control does not have; seldom without harm."""

import numpy as np
import pytest

from midstream.evaluation.experiments.any_time import AnyTime
from midstream.evaluation.experiments.comparisons import ComparisonRule
from midstream.evaluation.experiments.guardrails import Guardrail, judge
from midstream.evaluation.experiments.unit_metrics import Metric
from midstream.evaluation.experiments.unit_sums import UnitSums, unit_sums

REVENUE = Metric("revenue", "mean", "revenue")
COMPLAINTS = Metric("complaints", "mean", "complaints", better="lower")
COMPLAINED = Metric("complained", "rate", "complaints", better="lower")
EMPTY = Metric("empty", "ratio", "empty_slates", "slates", better="lower")
LEVEL = ComparisonRule(AnyTime(0.025))


def means(units: int, having: int, value: float = 20.0) -> UnitSums:
    """Units of which some have a value, half of those twice as much."""
    columns = np.zeros((units, 1))
    columns[:having] = value
    columns[: having // 2] *= 2
    return unit_sums(columns)


def ratios(units: int, empty: int) -> UnitSums:
    """Units of three slates, all of which are empty for some units."""
    columns = np.zeros((units, 2))
    columns[:, 1] = 3.0
    columns[:empty, 0] = 3.0
    return unit_sums(columns)


def found_of(metric: Metric, control: UnitSums, treated: UnitSums, harm_max: float = 0.0):
    """The verdict on one guardrail."""
    return judge(metric, Guardrail(metric.name, harm_max), control, treated, LEVEL)


@pytest.mark.parametrize("left", [0, 45])
def test_lost_revenue_stops(left):
    """No buyer is left, or 45 are, of 5,000 of 100,000 units: judged by the share of units that have any."""
    found = found_of(REVENUE, means(100_000, 5_000), means(100_000, left))
    assert (found.verdict, found.judged) == ("stop", "any")
    assert found.harm == pytest.approx(1 - left / 5_000)
    assert 0.9 < found.harm_low < found.harm
    assert found.reason.startswith(
        f"revenue: units that have any are {left / 100_000:.2%} where the control has 5.00%, {found.harm:.1%} lower"
    )
    assert found.reason.endswith("too few have any to compare the mean; 0.0% is tolerated")
    assert "98.75% sure at all looks together" in found.reason


@pytest.mark.parametrize(
    "metric, control, treated",
    [
        (COMPLAINTS, means(10_000, 0), means(10_000, 5_000)),
        (EMPTY, ratios(10_000, 0), ratios(10_000, 10_000)),
        (COMPLAINED, UnitSums(10_000, (0.0,), ((0.0,),)), UnitSums(10_000, (5_000.0,), ((5_000.0,),))),
    ],
)
def test_harm_that_the_control_does_not_have_stops(metric, control, treated):
    """There is no relative figure: the reason has the difference of shares, and no nan."""
    found = found_of(metric, control, treated)
    assert found.verdict == "stop"
    share = treated.sums[0] / 10_000 if metric.kind == "rate" else treated.with_any / 10_000
    assert f"{share:.2%} of units have any where no unit of the control has" in found.reason
    assert "points more" in found.reason
    assert "nan" not in found.reason
    assert "inf" not in found.reason


def test_equal_units_with_any_are_no_harm():
    """One order that is nearly the whole sum, or fewer units with as much in all: nothing is said."""
    whale = unit_sums(np.array([[1e6]] + [[20.0]] * 4_999 + [[0.0]] * 95_000))
    found = found_of(REVENUE, means(100_000, 5_000), whale)
    assert (found.verdict, found.reason) == ("open", "revenue: too few units")
    richer = means(100_000, 30, value=10_000.0)
    assert found_of(REVENUE, means(100_000, 300), richer).verdict == "open"


def test_tolerated_harm_does_not_stop():
    """Half of the buyers gone is not shown to be more than 60 % harm; all gone is."""
    assert found_of(REVENUE, means(100_000, 80), means(100_000, 40), harm_max=0.6).verdict == "open"
    assert found_of(REVENUE, means(100_000, 5_000), means(100_000, 0), harm_max=0.6).verdict == "stop"


def test_sums_that_are_not_counted_are_not_judged_by_any():
    """Statistics without the number of units that have any wait as before."""
    known = means(100_000, 5_000)
    unknown = UnitSums(known.count, known.sums, known.products)
    assert found_of(REVENUE, unknown, UnitSums(100_000, (0.0,), ((0.0,),))).verdict == "open"
    assert known.merged(known).with_any == 10_000
    assert known.merged(known).without(known) == known
    assert known.merged(unknown).with_any is None


def test_harmless_variants_are_seldom_stopped_by_either_look():
    """Of 60 experiments without effect, read while they come from few buyers to enough, 5 % at most are stopped."""
    rng, level, stopped, looks = np.random.default_rng(11), ComparisonRule(AnyTime(0.05)), 0, set()
    for _ in range(60):
        one, other = ((rng.random(3_500) < 0.03) * rng.lognormal(3.0, 0.5, 3_500) for _ in range(2))
        found = [
            judge(REVENUE, Guardrail("revenue"), unit_sums(one[:seen, None]), unit_sums(other[:seen, None]), level)
            for seen in range(500, 3_501, 500)
        ]
        looks |= {each.reason == "revenue: too few units" for each in found}
        stopped += any(each.verdict == "stop" for each in found)
    assert looks == {True, False}
    assert stopped <= 3
