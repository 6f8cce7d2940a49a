"""Guardrails see harm that leaves little to count, and harm that the control does not have; seldom without harm."""

import math

import numpy as np
import pytest
from msgspec.structs import replace

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
    return unit_sums(columns, has_rest=True)


def ratios(units: int, empty: int) -> UnitSums:
    """Units of three slates, all of which are empty for some units."""
    columns = np.zeros((units, 2))
    columns[:, 1] = 3.0
    columns[:empty, 0] = 3.0
    return unit_sums(columns, has_rest=True)


LATENCY = Metric("latency", "ratio", "latency_us", "timed_slates", better="lower")


def latencies(dice: np.random.Generator, units: int, factor: float) -> np.ndarray:
    """Time and number of the slates of some units: 20 ms with a heavy tail, and units that are slow or fast."""
    slates = 1 + dice.poisson(3.0, units)
    own = np.repeat(20.0 * factor * dice.lognormal(0.0, 0.3, units), slates)
    unit = np.repeat(np.arange(units), slates)
    took_ms = own * dice.lognormal(0.0, 0.5, len(unit)) + 80.0 * (dice.random(len(unit)) < 0.01)
    return np.column_stack((np.bincount(unit, weights=took_ms, minlength=units), slates))


def latency_stops(seed: int, factor: float) -> bool:
    """Whether any of 16 looks stops a variant that is slower by a factor, where a tenth is tolerated."""
    dice = np.random.default_rng(seed)
    sides = [latencies(dice, 4_000, each) for each in (1.0, factor)]
    rail = Guardrail("latency", 0.1)
    looks = (
        judge(LATENCY, rail, unit_sums(sides[0][:seen]), unit_sums(sides[1][:seen]), LEVEL)
        for seen in range(250, 4_001, 250)
    )
    return any(each.verdict == "stop" for each in looks)


def test_a_slow_variant_is_stopped_and_an_equal_one_is_not():
    """A quarter slower: in 99 of 100 worlds within 4,000 units a side; 10 % slower, which is tolerated: in 2.5 %."""
    assert sum(latency_stops(seed, 1.25) for seed in range(200)) >= 198
    assert sum(latency_stops(1_000 + seed, 1.1) for seed in range(200)) <= 5
    assert sum(latency_stops(2_000 + seed, 1.0) for seed in range(100)) == 0


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
    assert "99.38% sure at all looks together" in found.reason


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
    """One order that is nearly the whole sum, or fewer units with as much in all: no harm is said."""
    found = found_of(REVENUE, means(100_000, 5_000), whale(5_000))
    assert (found.verdict, found.judged) == ("open", "metric")
    assert found.reason == (
        "revenue: one unit has 87.0% of the variant's sum, so nothing is shown of the whole; a cap bounds what one "
        "unit counts with"
    )
    few = found_of(REVENUE, means(100_000, 300), means(100_000, 30, value=10_000.0))
    assert few.reason == "revenue: a few units have most of it, as if 27 had all where 50 are needed"
    assert found_of(REVENUE, means(90, 30), means(90, 30)).reason == "revenue: too few units"


def whale(units_having: int, value: float = 30.0, largest: float = 1e6) -> UnitSums:
    """Units of which some have a value, and one of them much more."""
    columns = np.zeros((100_000, 1))
    columns[:units_having] = value
    columns[7] = largest
    return unit_sums(columns, has_rest=True)


def test_one_order_hides_no_harm_of_all_others():
    """Half of what all others bring is gone, and one order of a million makes up for it on the mean."""
    for largest in (1e6, 1e12):  # whatever digits a sum of both would have left
        found = found_of(REVENUE, means(100_000, 5_000), whale(5_000, 15.0, largest))
        assert (found.verdict, found.judged) == ("stop", "rest")
        assert found.harm == pytest.approx(0.5, abs=0.01)
        assert 0.4 < found.harm_low < found.harm
        share = "93.0%" if largest == 1e6 else "100.0%"
        assert found.reason.startswith(
            f"revenue: one unit has {share} of the variant's sum; of all others revenue is 50.0% l"
        )
        assert "99.38% sure" in found.reason
    of_control = found_of(REVENUE, whale(5_000), means(100_000, 5_000, value=10.0))
    assert (of_control.verdict, of_control.judged) == ("stop", "rest")
    assert "of the control's sum" in of_control.reason
    slates = Metric("per_slate", "ratio", "revenue", "slates")
    spread = np.random.default_rng(2).random(10_000)
    ones = [np.column_stack((spread * each, np.full(10_000, 3.0))) for each in (30.0, 15.0)]
    ones[1][5, 0] = 1e7
    by_slate = found_of(slates, unit_sums(ones[0], has_rest=True), unit_sums(ones[1], has_rest=True))
    assert (by_slate.verdict, by_slate.judged) == ("stop", "rest")
    assert by_slate.harm == pytest.approx(0.5, abs=0.01)
    assert found_of(REVENUE, whale(5_000), whale(4_900)).verdict == "open"


def test_equal_variants_with_one_large_order_are_seldom_stopped():
    """Whichever side has it: of 200 experiments, read at each thousand units, 5 % at most."""
    rng, level, stopped = np.random.default_rng(3), ComparisonRule(AnyTime(0.05)), 0
    for number in range(200):
        sides = [(rng.random(4_000) < 0.05) * rng.lognormal(3.0, 1.0, 4_000) for _ in range(2)]
        sides[number % 2][rng.integers(100)] = 1e5
        looks = []
        for seen in range(1_000, 4_001, 1_000):
            control, variant = (unit_sums(each[:seen, None], has_rest=True) for each in sides)
            looks.append(judge(REVENUE, Guardrail("revenue"), control, variant, level))
        stopped += any(each.verdict == "stop" for each in looks)
    assert stopped <= 10


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
    assert known.merged(known).without(known) == replace(known, rest=None)
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
        looks |= {math.isinf(each.harm_high) for each in found}
        stopped += any(each.verdict == "stop" for each in found)
    assert looks == {True, False}
    assert stopped <= 3
