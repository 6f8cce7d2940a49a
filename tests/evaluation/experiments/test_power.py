"""Plans: units that show the effect with the stated power, in figures of others and in simulated experiments."""

import math

import numpy as np
import pytest
from scipy import special

from midstream.core.errors import Invalid
from midstream.evaluation.experiments import any_time, fixed_horizon
from midstream.evaluation.experiments.any_time import AnyTime
from midstream.evaluation.experiments.effects import effects
from midstream.evaluation.experiments.power import (
    Design,
    Outlook,
    critical_score,
    detectable_lift,
    lift_variance,
    outlook_of,
    plan,
)
from midstream.evaluation.experiments.unit_sums import moments, unit_sums

RATE = Outlook("rate", 0.1)
TRAFFIC = (5_000.0,)


def simulated_rates(seed: int, units: int, design: Design, runs: int):
    """Effects of experiments that end at their units."""
    rng = np.random.default_rng(seed)
    treated = round(units * design.treated_share)
    variants = []
    for count, rate in ((units - treated, RATE.mean), (treated, RATE.mean * (1 + design.lift))):
        successes = rng.binomial(count, rate, runs).astype(np.float64)
        variants.append(moments(np.full(runs, float(count)), successes[:, None], successes[:, None, None], "rate"))
    return effects(variants[0], variants[1], "rate")


def test_units_of_one_look_are_those_of_the_textbook():
    """The rule of 16: 80 % power at 5 % needs 16 variances by the squared difference in each variant; here 15.7."""
    outlook = Outlook("mean", 1.0, deviation=2.0)
    found = plan(outlook, Design(0.001, test="fixed"), TRAFFIC)
    assert found.units / 2 == pytest.approx(15.698 * 4.0 / 0.001**2, rel=2e-3)
    assert critical_score(Design(0.1, test="fixed")) == pytest.approx(1.959964, abs=1e-6)


@pytest.mark.parametrize("share", [0.5, 0.2])
@pytest.mark.parametrize("test, one_sided", [("fixed", False), ("any_time", False), ("any_time", True)])
def test_planted_effects_are_found_with_the_stated_power(test, one_sided, share):
    """Of 4,000 experiments that end at the units of their plan 80 % show the effect, or a little more."""
    design = Design(0.1, test=test, is_one_sided=one_sided, treated_share=share)
    found = plan(RATE, design, TRAFFIC)
    effect = simulated_rates(1, found.units, design, 4_000)
    level = AnyTime(0.05, found.tuned_units)
    if test == "fixed":
        half = fixed_horizon.half_width(effect.lift_error, effect.freedom, 0.05)
    elif one_sided:
        half = any_time.half_width_one_sided(effect.lift_error, effect.units, level)
    else:
        half = any_time.half_width(effect.lift_error, effect.units, level)
    assert 0.785 <= (effect.lift - half > 0).mean() <= 0.835


def test_past_saves_its_share_of_units():
    """With a correlation of 0.6 a small lift needs 64 % of the units; the variance is that of simulated units."""
    outlook = Outlook("mean", 1.0, deviation=2.0)
    small = Design(0.01)
    with_past = Outlook("mean", 1.0, deviation=2.0, past_correlation=0.6)
    assert plan(with_past, small, TRAFFIC).units == pytest.approx(0.64 * plan(outlook, small, TRAFFIC).units, rel=0.01)
    design = Design(0.5, treated_share=0.3)
    rng = np.random.default_rng(7)
    lifts = []
    for _ in range(400):
        past = rng.standard_normal(2_000)
        now = 1.0 + 2.0 * (0.6 * past + 0.8 * rng.standard_normal(2_000))
        now[:600] += 0.5
        sums = [unit_sums(np.column_stack((now[part], past[part]))) for part in (slice(600, None), slice(600))]
        variants = [
            moments(np.asarray(float(each.count)), np.array(each.sums), np.array(each.products)) for each in sums
        ]
        lifts.append(float(effects(variants[0], variants[1], "mean").lift))
    assert np.var(lifts) * 2_000 == pytest.approx(lift_variance(with_past, design), rel=0.15)


def test_days_follow_the_traffic():
    """New units become fewer as users return; beyond a year there is no plan, and the text says so."""
    design = Design(0.05)
    found = plan(RATE, design, (30_000.0, 20_000.0, 15_000.0))
    assert found.units == 232_301
    assert found.days == 2 + math.ceil((232_301 - 50_000) / 15_000) == 15
    assert found.text == (
        "needs about 15 days: 232,301 units for a lift of +5.0% with a power of 80%, read at any time"
    )
    never = plan(RATE, design, (600.0,))
    assert never.days is None
    assert never.text.startswith("needs more than 365 days: ")
    assert plan(RATE, Design(0.05, test="fixed"), TRAFFIC).text.endswith("read once at the end")


def test_least_lift_is_that_whose_plan_has_these_units():
    """Both directions of one calculation agree; too few units show nothing."""
    for lift in (0.07, -0.2):
        design = Design(lift)
        assert detectable_lift(RATE, design, plan(RATE, design, TRAFFIC).units) == pytest.approx(lift, rel=1e-4)
    assert detectable_lift(Outlook("mean", 1.0, deviation=2.0), Design(-0.1), 20.0) == -math.inf
    assert detectable_lift(Outlook("rate", 0.9), Design(0.1), 50.0) == math.inf


def test_outlook_of_a_period_before():
    """Mean, deviation and correlation are those of the units; a rate needs no deviation."""
    rng = np.random.default_rng(4)
    past = rng.gamma(2.0, size=5_000)
    now = past + rng.gamma(2.0, size=5_000)
    found = outlook_of(unit_sums(np.column_stack((now, past))), "mean")
    assert found.mean == pytest.approx(now.mean(), rel=1e-12)
    assert found.deviation == pytest.approx(now.std(ddof=1), rel=1e-9)
    assert found.past_correlation == pytest.approx(np.corrcoef(now, past)[0, 1], rel=1e-9)
    ratio = outlook_of(unit_sums(np.column_stack((now, past))), "ratio")
    assert ratio.mean == pytest.approx(now.sum() / past.sum())
    linear = (now - ratio.mean * past) / past.mean()
    assert ratio.deviation == pytest.approx(linear.std(ddof=1), rel=1e-6)
    assert ratio.past_correlation == 0.0


def test_any_time_needs_about_twice_the_units_of_one_look():
    """The price of reading at any time: the ratio of squared scores, 1.92 at 80 %."""
    both = [plan(RATE, Design(0.05, test=test), TRAFFIC).units for test in ("any_time", "fixed")]
    expected = [(critical_score(Design(0.05, test=test)) + special.ndtri(0.8)) ** 2 for test in ("any_time", "fixed")]
    assert both[0] / both[1] == pytest.approx(expected[0] / expected[1], rel=1e-4)
    assert 1.8 < both[0] / both[1] < 2.0


NAN, INF = math.nan, math.inf
BAD_PLANS = [
    (RATE, Design(0.0), TRAFFIC, ["/lift"]),
    (RATE, Design(NAN), TRAFFIC, ["/lift"]),
    (RATE, Design(INF), TRAFFIC, ["/lift"]),
    (RATE, Design(-1.5), TRAFFIC, ["/lift"]),
    (Outlook("rate", 0.6), Design(0.8), TRAFFIC, ["/lift"]),
    (Outlook("rate", 0.0), Design(0.1), TRAFFIC, ["/mean"]),
    (Outlook("rate", 1.0), Design(-0.1), TRAFFIC, ["/mean"]),
    (Outlook("mean", NAN, 1.0), Design(0.1), TRAFFIC, ["/mean"]),
    (Outlook("mean", 1.0, INF), Design(0.1), TRAFFIC, ["/deviation"]),
    (Outlook("mean", 1.0, 0.0), Design(0.1), TRAFFIC, ["/deviation"]),
    (Outlook("mean", 1.0, 1.0, 1.5), Design(0.1), TRAFFIC, ["/past_correlation"]),
    (RATE, Design(0.1, alpha=0.0), TRAFFIC, ["/alpha"]),
    (RATE, Design(0.1, power=1.0), TRAFFIC, ["/power"]),
    (RATE, Design(0.1, treated_share=1.0), TRAFFIC, ["/treated_share"]),
    (RATE, Design(0.1), (), ["/new_units_by_day"]),
    (RATE, Design(0.1), (5.0, NAN), ["/new_units_by_day/1"]),
    (Outlook("mean", 0.0, -1.0), Design(0.0, power=2.0), (-1.0,), ["/mean", "/deviation", "/power", "/lift"]),
]


@pytest.mark.parametrize("outlook, design, traffic, where", BAD_PLANS)
def test_a_plan_of_nonsense_is_refused_by_field(outlook, design, traffic, where):
    """Each field that cannot be used is named with what came and what would be right, and nothing divides by 0."""
    with pytest.raises(Invalid) as refused:
        plan(outlook, design, traffic)
    found = [each.where for each in refused.value.faults]
    assert found[: len(where)] == where
    assert all(each.came and each.right and each.page.startswith("/docs/") for each in refused.value.faults)


@pytest.mark.parametrize("units", [-1.0, NAN, INF])
def test_a_detectable_lift_of_no_number_of_units_is_refused(units):
    """As of a rate that no metric has."""
    with pytest.raises(Invalid, match="/units"):
        detectable_lift(RATE, Design(0.1), units)
    with pytest.raises(Invalid, match="/mean"):
        detectable_lift(Outlook("rate", 1.0), Design(0.1), 100.0)


def test_days_without_units_are_a_plan_without_an_end():
    """No units for ever is no fault of the figures: it is more than a year."""
    assert plan(RATE, Design(0.1), (0.0,)).days is None
