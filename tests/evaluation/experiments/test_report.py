"""Reports: wrong in at most 5 % of experiments however often they are read, right about planted effects and harm."""

import math

import msgspec
import numpy as np
import pytest

from midstream.evaluation.experiments import any_time, fixed_horizon
from midstream.evaluation.experiments.any_time import AnyTime
from midstream.evaluation.experiments.comparisons import ComparisonRule, compare
from midstream.evaluation.experiments.effects import effects
from midstream.evaluation.experiments.guardrails import Guardrail, judge
from midstream.evaluation.experiments.power import Design, Outlook, plan
from midstream.evaluation.experiments.report import ExperimentReport, Observed, ReportDesign, report
from midstream.evaluation.experiments.segments import segment_effects
from midstream.evaluation.experiments.unit_metrics import Metric
from midstream.evaluation.experiments.unit_sums import Moments, UnitSums, moments, unit_sums

RUNS, DAYS = 1_000, 14
ORDERED = Metric("ordered", "rate", "orders")
REVENUE = Metric("revenue", "mean", "revenue")
COMPLAINTS = Metric("complaints", "rate", "complaints", better="lower")
DESIGN = ReportDesign(
    ("control", "new"), (ORDERED, REVENUE, COMPLAINTS), "ordered", (Guardrail("revenue"), Guardrail("complaints"))
)


def read_daily(control: Moments, treated: Moments, kind, units_tuned: float):
    """Runs in which the any-time interval ever leaves out no effect, and in which the test of one look does."""
    found = effects(control, treated, kind)
    level = AnyTime(0.05, units_tuned)
    ever = (any_time.p_value(found.lift, found.lift_error, found.units, level) < 0.05).any(axis=1)
    one_look = fixed_horizon.p_value(found.lift, found.lift_error, found.freedom) < 0.05
    return ever.mean(), one_look.any(axis=1).mean()


def revenue_by_day(seed: int, units_a_day: int) -> Moments:
    """Moments after each day, (runs, days): one unit of five orders, for a lognormal amount."""
    rng = np.random.default_rng(seed)
    shape = (RUNS, DAYS, units_a_day)
    revenue = (rng.random(shape) < 0.2) * rng.lognormal(3.0, 0.8, shape)
    count = np.broadcast_to(np.arange(1.0, DAYS + 1) * units_a_day, (RUNS, DAYS))
    sums = np.cumsum(revenue.sum(axis=2), axis=1)
    return moments(count, sums[..., None], np.cumsum((revenue**2).sum(axis=2), axis=1)[..., None, None])


def test_no_effect_is_seldom_claimed_however_often_it_is_read():
    """Of 1,000 experiments read daily at most 5 % are ever wrong; by the test of one look, 15 % and more."""
    ever, one_look = read_daily(revenue_by_day(1, 250), revenue_by_day(2, 250), "mean", 7_000)
    assert ever <= 0.05
    assert one_look >= 0.15


def test_units_that_come_back_are_no_news():
    """The same with clicks by impression of units that return each day, adjusted by their past, and by a ratio."""
    rng, variants = np.random.default_rng(3), []
    runs, units = 500, 420
    first_day = np.sort(rng.integers(0, DAYS, units))
    for _ in range(2):
        taste = rng.beta(2, 10, (runs, units))
        past_seen = rng.poisson(6, (runs, units)) + 1
        past = rng.binomial(past_seen, taste)
        totals = np.zeros((2, runs, units))
        by_day = []
        for day in range(DAYS):
            here = (first_day <= day) & ((first_day == day) | (rng.random((runs, units)) < 0.3))
            seen = (rng.poisson(3, (runs, units)) + 1) * here
            totals += (rng.binomial(seen, taste), seen)
            columns = np.stack((*totals, past, past_seen), axis=-1)[:, first_day <= day]
            by_day.append((columns.sum(axis=1), np.einsum("rui,ruj->rij", columns, columns)))
        count = np.broadcast_to(np.cumsum(np.bincount(first_day, minlength=DAYS)).astype(np.float64), (runs, DAYS))
        sums, products = (np.stack(each, axis=1) for each in zip(*by_day, strict=True))
        variants.append(moments(count, sums, products))
    late = slice(2, None)  # from 100 units of both on, as a report does
    late_variants = [Moments(each.units[:, late], each.mean[:, late], each.covariance[:, late]) for each in variants]
    ever, one_look = read_daily(late_variants[0], late_variants[1], "ratio", 840)
    assert ever <= 0.05
    assert one_look >= 0.1


def test_planted_effects_are_found_with_the_stated_power():
    """Of 1,000 experiments read daily until the end of their plan, 80 % at least show a lift of 8 %."""
    outlook, design = Outlook("rate", 0.1), Design(0.08)
    found = plan(outlook, design, (6_000.0,))
    assert found.days is not None
    level, seen = AnyTime(0.05, found.tuned_units), np.arange(1.0, found.days + 1) * 3_000
    rng = np.random.default_rng(4)
    successes = [np.cumsum(rng.binomial(3_000, rate, (RUNS, found.days)), axis=1) for rate in (0.1, 0.108)]
    variants = [moments_of_rates(each, seen) for each in successes]
    effect = effects(variants[0], variants[1], "rate")
    half = any_time.half_width(effect.lift_error, effect.units, level)
    assert (effect.lift - half > 0).any(axis=1).mean() >= 0.8
    assert (effect.lift + half < 0).any(axis=1).mean() <= 0.01


def test_planted_harm_is_stopped_in_the_stated_time():
    """A tenth fewer orders is stopped by the guardrail within the days of its plan in 99 % of 1,000 experiments."""
    harm = plan(Outlook("rate", 0.1), Design(-0.1, alpha=0.025, power=0.99, is_one_sided=True), (6_000.0,))
    assert harm.days is not None
    rng, guardrail = np.random.default_rng(5), Guardrail("ordered", tuned_units=harm.tuned_units)
    reading = ComparisonRule(AnyTime(0.025)).tuned_at(guardrail.tuned_units)
    seen = np.arange(1.0, harm.days + 1) * 3_000
    ever = []
    for rate in (0.09, 0.1):
        successes = [np.cumsum(rng.binomial(3_000, each, (RUNS, harm.days)), axis=1) for each in (0.1, rate)]
        variants = [moments_of_rates(each, seen) for each in successes]
        found = effects(variants[0], variants[1], "rate")
        half = any_time.half_width_one_sided(found.lift_error, found.units, reading.level)
        is_stopped = -found.lift - half > 0
        ever.append(is_stopped.any(axis=1).mean())
        for run, day in zip(range(40), rng.integers(0, harm.days, 40), strict=True):
            control, treated = (rates(int(seen[day]), float(n[run, day])) for n in successes)
            verdict = judge(ORDERED, guardrail, control, treated, reading).verdict
            assert (verdict == "stop") == bool(is_stopped[run, day])
    assert ever[0] >= 0.99
    assert ever[1] <= 0.025


def moments_of_rates(successes: np.ndarray, units: np.ndarray) -> Moments:
    """Moments of rates after each day, (runs, days)."""
    counted = successes.astype(np.float64)
    return moments(np.broadcast_to(units, counted.shape), counted[..., None], counted[..., None, None], "rate")


def rates(units: int, successes: float) -> UnitSums:
    """Units of which some succeeded."""
    return UnitSums(units, (successes,), ((successes,),))


def observed(ordered: tuple[float, float], complaints: tuple[float, float] = (100.0, 100.0), units=(10_000, 10_000)):
    """Sums of an experiment with two variants."""
    revenue = unit_sums(np.repeat([[0.0], [20.0], [60.0]], [8_000, 1_500, 500], axis=0))
    return Observed(
        units_by_day=np.array([units]),
        shares=np.array([0.5, 0.5]),
        sums={
            "ordered": [rates(10_000, each) for each in ordered],
            "revenue": [revenue, revenue],
            "complaints": [rates(10_000, each) for each in complaints],
        },
        segments={"phone": [rates(4_000, 400.0), rates(4_000, 600.0)], "desk": [rates(6_000, 600.0)] * 2},
    )


def test_a_report_says_what_is_better():
    """Verdict and reason of the primary metric, guardrails that are open, segments of which one is shown."""
    found = report(DESIGN, observed((1_000.0, 1_300.0)))
    assert found.is_valid
    (new,) = found.variants
    assert new.verdict == "better"
    assert new.reason.startswith("ordered: lift +30.0%, from +")
    assert new.primary.comparison.lift == pytest.approx(0.3)
    assert [each.metric for each in new.secondary] == ["revenue", "complaints"]
    assert [each.verdict for each in new.guardrails] == ["open", "open"]
    assert [(each.segment, each.is_shown) for each in new.segments] == [("phone", True), ("desk", False)]
    assert report(DESIGN, observed((1_000.0, 1_000.0))).variants[0].verdict == "undecided"
    assert report(DESIGN, observed((1_300.0, 1_000.0))).variants[0].verdict == "worse"
    reread = msgspec.json.decode(msgspec.json.encode(found), type=ExperimentReport)
    assert reread.variants[0].reason == new.reason


def test_a_wrong_sample_ratio_stops_all_claims():
    """There is no verdict, no lift and no guardrail; the reason has both figures."""
    found = report(DESIGN, observed((1_000.0, 1_300.0), units=(10_000, 9_200)))
    assert not found.is_valid
    assert found.variants == ()
    assert found.reason.startswith(
        "no claim is made: units by variant are 10,000, 9,200 where 9,600, 9,600 are expected"
    )


def test_a_broken_guardrail_comes_before_the_primary_metric():
    """A variant that wins and harms is stopped, and the reason says by what and how sure."""
    found = report(DESIGN, observed((1_000.0, 1_300.0), complaints=(100.0, 200.0))).variants[0]
    assert found.verdict == "stop"
    assert found.reason.startswith("complaints is 100.0% higher than the control's, at least ")
    assert "97.50% sure at all looks together" in found.reason
    assert found.reason.endswith("0.0% is tolerated")


def test_a_guardrail_is_safe_when_less_than_tolerated_is_shown():
    """With 10 % tolerated, an equal rate in many units is safe; with few units nothing is said."""
    guardrail, reading = Guardrail("ordered", harm_max=0.1), ComparisonRule()
    found = judge(ORDERED, guardrail, rates(100_000, 10_000.0), rates(100_000, 10_000.0), reading)
    assert found.verdict == "safe"
    assert found.reason.startswith("ordered is at most 4.")
    few = unit_sums(np.array([[1.0], [2.0], [3.0]]))
    unknown = judge(REVENUE, Guardrail("revenue"), few, few, reading)
    assert (unknown.verdict, unknown.reason) == ("open", "revenue: too few units")
    assert judge(ORDERED, guardrail, rates(100_000, 10_000.0), rates(100_000, 8_500.0), reading).verdict == "stop"


def test_few_successes_are_compared_exactly():
    """A rate with less than 50 successes has an exact interval; a mean with as little waits."""
    exact = compare(rates(5_000, 4.0), rates(5_000, 9.0), "rate", ComparisonRule())
    assert exact.basis == "exact"
    assert exact.any_time.low < 0.0 < exact.any_time.high
    assert exact.any_time.p_value == 1.0
    shown = compare(rates(5_000, 4.0), rates(5_000, 60.0), "rate", ComparisonRule())
    assert shown.basis == "exact"
    assert shown.any_time.p_value < 1e-4
    pair = {"all": (rates(5_000, 4.0), rates(5_000, 60.0))}
    assert segment_effects(pair, "rate", ComparisonRule())[0].is_shown
    for successes in range(5, 50, 3):
        each = compare(rates(5_000, 4.0), rates(5_000, float(successes)), "rate", ComparisonRule()).any_time
        assert (each.p_value < 0.05) == (each.low > 0.0)
    assert shown.any_time.low > 0.0
    whale = unit_sums(np.array([[5_000.0]] + [[1.0]] * 500))
    mean = compare(whale, whale, "mean", ComparisonRule())
    assert (mean.basis, mean.any_time.low, mean.any_time.high) == ("too_few_units", -math.inf, math.inf)
    assert compare(rates(5_000, 400.0), rates(5_000, 400.0), "rate", ComparisonRule()).basis == "asymptotic"


def test_segments_without_effect_are_seldom_shown():
    """Of 60 reports with 20 segments without an effect at most 5 % show any; uncorrected, two of three would."""
    rng = np.random.default_rng(6)
    shown, uncorrected = 0, 0
    for _ in range(60):
        successes = rng.binomial(2_000, 0.1, (20, 2)).astype(np.float64)
        pairs = {str(at): (rates(2_000, a), rates(2_000, b)) for at, (a, b) in enumerate(successes.tolist())}
        found = segment_effects(pairs, "rate", ComparisonRule(AnyTime(0.05, 4_000)))
        shown += any(each.is_shown for each in found)
        uncorrected += any(each.comparison.fixed.p_value < 0.05 for each in found)
    assert shown <= 3
    assert uncorrected > 30


def test_several_variants_share_the_level():
    """With two variants against the control the primary metric's intervals are wider than with one."""
    three = ReportDesign(("control", "new", "other"), (ORDERED,), "ordered")
    sums = {"ordered": [rates(10_000, each) for each in (1_000.0, 1_100.0, 1_000.0)]}
    found = report(three, Observed(np.array([[10_000] * 3]), np.ones(3), sums))
    two = ReportDesign(("control", "new"), (ORDERED,), "ordered")
    alone = report(two, Observed(np.array([[10_000] * 2]), np.ones(2), {"ordered": sums["ordered"][:2]}))
    wide, narrow = found.variants[0].primary.comparison.any_time, alone.variants[0].primary.comparison.any_time
    assert wide.low < narrow.low < narrow.high < wide.high
    assert found.variants[0].primary.p_value_corrected >= alone.variants[0].primary.p_value_corrected


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"primary": "clicks"}, "clicks is not a metric; metrics: ordered, revenue, complaints"),
        ({"guardrails": (Guardrail("latency"),)}, "latency is not a metric"),
        ({"variants": ("control",)}, "2 to 16 different names"),
        ({"variants": ("a", "a")}, "2 to 16 different names"),
        ({"metrics": (ORDERED, ORDERED)}, "at most 100 different names"),
    ],
)
def test_a_design_that_leads_nowhere_is_refused(changed, message):
    """Before the start, not in the report."""
    with pytest.raises(ValueError, match=message):
        msgspec.structs.replace(DESIGN, **changed)


def test_a_primary_sum_that_one_unit_has_says_so():
    """In place of too few units, of which there are enough."""
    metric = Metric("revenue", "mean", "revenue")
    value = np.zeros((2, 5_000, 1))
    value[:, :400] = 20.0
    value[1, 0] = 1e6
    sums = {"revenue": [unit_sums(each, has_rest=True) for each in value]}
    counts = np.array([[5_000, 5_000]])
    found = report(ReportDesign(("a", "b"), (metric,), "revenue"), Observed(counts, np.array([0.5, 0.5]), sums))
    assert found.variants[0].verdict == "undecided"
    assert found.variants[0].reason.startswith("revenue: one unit has 99.2% of the variant's sum, so nothing is shown")
