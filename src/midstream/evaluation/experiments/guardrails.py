"""Guardrails: one-sided any-time tests of harm, each with a verdict and its reason in words.

A variant is stopped when harm beyond what is tolerated is shown, at whatever look that is. All guardrails of all
variants together stop a harmless one in at most alpha of experiments, so each has its share of alpha.

A mean or a ratio waits for units enough. Harm can be that there are none: all revenue is lost, or every slate of the
variant is empty and none of the control's. Until both sides have enough, the share of units that have any of it is
compared by exact bounds, at a quarter of the guardrail's level; the metric itself has half.

One unit with most of the sum, as by one very large order, leaves a mean uncertain for good. Then the rest is compared:
both sides without their largest unit, at the last quarter of the level.

Reference: I. Waudby-Smith et al., arXiv 2103.06476v7, eq. 134; M. Schultzberg, S. Ankargren, M. Fränberg,
"Risk-aware product decisions in A/B tests with multiple metrics", 2024 (guardrails as tests of inferiority).
"""

import math
from typing import Annotated, Literal

import msgspec

from midstream.evaluation.experiments import any_time
from midstream.evaluation.experiments.comparisons import ComparisonRule, basis_of, exact_rates
from midstream.evaluation.experiments.effects import Effects, effects
from midstream.evaluation.experiments.rates import RateDifference, rate_difference
from midstream.evaluation.experiments.unit_metrics import Metric, effective_units
from midstream.evaluation.experiments.unit_sums import UnitSums, moments_of

Verdict = Literal["stop", "safe", "open"]
Judged = Literal["metric", "any", "rest"]
_DOMINANT = 0.5
"""Share of a sum from which on one unit has most of it."""


class Guardrail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A metric that must not get worse."""

    metric: str
    harm_max: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    """Relative harm that is tolerated: 0.02 = a variant is stopped when it is shown to be more than 2 % worse."""
    tuned_units: Annotated[float, msgspec.Meta(ge=1.0)] | None = None
    """Units of both variants at which harm is to be seen soonest, those of its plan; None = those of the report."""


class GuardrailVerdict(msgspec.Struct, frozen=True):
    """A variant on one guardrail."""

    metric: str
    verdict: Verdict
    """``stop``: more harm than tolerated is shown. ``safe``: less is shown. ``open``: neither yet."""
    harm: float
    """Estimated, relative to the control: above 0 = worse. NaN = cannot be estimated, as with a control of 0."""
    harm_low: float
    """At least this much, at all looks together; minus infinity = too few units."""
    harm_high: float
    """At most this much, at all looks together."""
    reason: str
    judged: Judged = "metric"
    """What the harm is of: the metric, the share of units that have any of it, or the metric of all others than the
    largest unit of each side."""


def judge(
    metric: Metric, guardrail: Guardrail, control: UnitSums, treated: UnitSums, reading: ComparisonRule
) -> GuardrailVerdict:
    """Return whether a variant must be stopped.

    Args:
        metric: Of the guardrail; its ``better`` says which direction is harm.
        guardrail: What is tolerated.
        control: Units of the control.
        treated: Units of the variant.
        reading: With the level of this guardrail alone; each of the two bounds holds at it.
    """
    sign = -1.0 if metric.better == "higher" else 1.0
    found = effects(moments_of(control, metric.kind), moments_of(treated, metric.kind), metric.kind)
    basis = basis_of(control, treated, metric.kind, reading)
    # A rate that is short of successes is the share of units with any: it needs no second look.
    own = reading if metric.kind == "rate" else reading.at(reading.level.alpha / 2)
    if metric.kind != "rate" and basis != "asymptotic":
        quarter = reading.at(reading.level.alpha / 4)
        by_other = _judge_any(metric, guardrail, (control, treated), found, quarter)
        by_other = by_other or _judge_rest(metric, guardrail, (control, treated), quarter)
        return by_other or _waits(metric, (control, treated), found, reading)
    harm, error = sign * float(found.lift), float(found.lift_error)
    low, high, exact = -math.inf, math.inf, None
    if basis == "exact":
        exact = exact_rates(control, treated, own.level)
        low, high = _harm_of(exact, sign)
    elif basis == "asymptotic" and not math.isnan(error):
        half = float(any_time.half_width_one_sided(error, found.units, own.level))
        low, high = harm - half, harm + half
    verdict: Verdict = "open"
    if low > guardrail.harm_max:
        verdict = "stop"
    elif high < guardrail.harm_max:
        verdict = "safe"
    if verdict == "stop" and exact is not None and not control.sums[0]:
        reason = _absolute(metric, treated.sums[0] / treated.count, exact, own.level.alpha)
    else:
        reason = _reason(metric, guardrail, verdict, (harm, low, high), own.level.alpha)
    return GuardrailVerdict(metric.name, verdict, harm, low, high, reason)


def _judge_any(
    metric: Metric, guardrail: Guardrail, sides: tuple[UnitSums, UnitSums], found: Effects, own: ComparisonRule
) -> GuardrailVerdict | None:
    """Return a stop by the share of units that have any, where that is shown; None = it is not.

    The estimate of the metric must be as bad: fewer units that have more in all are no harm by this look.
    """
    control, treated = sides
    if control.with_any is None or treated.with_any is None or not (control.count and treated.count):
        return None
    sign = -1.0 if metric.better == "higher" else 1.0
    base = float(found.control)
    estimate = sign * (float(found.treated) - base)
    exact = rate_difference((control.with_any, control.count), (treated.with_any, treated.count), own.level)
    low, high = _harm_of(exact, sign)
    if not (low > guardrail.harm_max and estimate > guardrail.harm_max * abs(base)):
        return None
    shares = control.with_any / control.count, treated.with_any / treated.count
    alpha = own.level.alpha
    if not control.with_any:
        reason = _absolute(metric, shares[1], exact, alpha)
        return GuardrailVerdict(metric.name, "stop", math.nan, low, high, reason, "any")
    harm = sign * (shares[1] / shares[0] - 1.0)
    direction = "lower" if metric.better == "higher" else "higher"
    reason = (
        f"{metric.name}: units that have any are {shares[1]:.2%} where the control has {shares[0]:.2%}, {harm:.1%} "
        f"{direction}, at least {low:.1%} ({_sure(alpha)}); too few have any to compare the {metric.kind}; "
        f"{guardrail.harm_max:.1%} is tolerated"
    )
    return GuardrailVerdict(metric.name, "stop", harm, low, high, reason, "any")


def _judge_rest(
    metric: Metric, guardrail: Guardrail, sides: tuple[UnitSums, UnitSums], own: ComparisonRule
) -> GuardrailVerdict | None:
    """Return a stop by all units but the largest one of each side, where one has most of a sum; None = it is not shown.

    Both sides lose theirs, so that the larger one of equal sides is not the worse for it.
    """
    control, treated = (each.rest for each in sides)
    if control is None or treated is None or not _dominant(sides):
        return None
    if basis_of(control, treated, metric.kind, own) != "asymptotic":
        return None
    found = effects(moments_of(control, metric.kind), moments_of(treated, metric.kind), metric.kind)
    harm = (-1.0 if metric.better == "higher" else 1.0) * float(found.lift)
    half = float(any_time.half_width_one_sided(float(found.lift_error), found.units, own.level))
    if not harm - half > guardrail.harm_max:
        return None
    alpha = own.level.alpha
    told = _reason(metric, guardrail, "stop", (harm, harm - half, harm + half), alpha)
    reason = f"{metric.name}: {_dominance(sides)}; of all others {told}"
    return GuardrailVerdict(metric.name, "stop", harm, harm - half, harm + half, reason, "rest")


def _waits(
    metric: Metric, sides: tuple[UnitSums, UnitSums], found: Effects, reading: ComparisonRule
) -> GuardrailVerdict:
    """Return that nothing is shown yet, and why."""
    harm = (-1.0 if metric.better == "higher" else 1.0) * float(found.lift)
    reason = f"{metric.name}: {shortage(sides, reading)}"
    return GuardrailVerdict(metric.name, "open", harm, -math.inf, math.inf, reason)


def shortage(sides: tuple[UnitSums, UnitSums], reading: ComparisonRule) -> str:
    """Return in words why sums of two sides cannot be compared: too few units, or a few that have most of them."""
    uneven = min(effective_units(each) for each in sides)
    if _dominant(sides):
        return f"{_dominance(sides)}, so nothing is shown of the whole; a cap bounds what one unit counts with"
    if min(each.count for each in sides) >= reading.units_min and uneven > 0.0:
        needed = reading.effective_units_min
        return f"a few units have most of it, as if {uneven:.0f} had all where {needed:.0f} are needed"
    return "too few units"


def _dominant(sides: tuple[UnitSums, UnitSums]) -> bool:
    return any(each.largest_share > _DOMINANT and each.count > 1 for each in sides)


def _dominance(sides: tuple[UnitSums, UnitSums]) -> str:
    """Return in words which side has a unit with most of its sum."""
    names = zip(("control", "variant"), sides, strict=True)
    told = [f"{each.largest_share:.1%} of the {name}'s" for name, each in names if each.largest_share > _DOMINANT]
    return f"one unit has {' and one '.join(told)} sum"


def _harm_of(exact: RateDifference, sign: float) -> tuple[float, float]:
    low, high = sorted((sign * exact.lift_low, sign * exact.lift_high))
    return low, high


def _absolute(metric: Metric, share: float, exact: RateDifference, alpha: float) -> str:
    """Return the words on harm that the control does not have, of which there is no relative figure."""
    return (
        f"{metric.name}: {share:.2%} of units have any where no unit of the control has, at least "
        f"{100 * exact.low:.2f} percentage points more ({_sure(alpha)})"
    )


def _sure(alpha: float) -> str:
    return f"{1.0 - alpha:.2%} sure at all looks together"


def _reason(
    metric: Metric, guardrail: Guardrail, verdict: Verdict, harm: tuple[float, float, float], alpha: float
) -> str:
    estimate, low, high = harm
    direction = "lower" if metric.better == "higher" else "higher"
    tolerated = f"{guardrail.harm_max:.1%} is tolerated"
    if verdict == "stop":
        return (
            f"{metric.name} is {estimate:.1%} {direction} than the control's, at least {low:.1%} ({_sure(alpha)}); "
            f"{tolerated}"
        )
    if verdict == "safe":
        return f"{metric.name} is at most {high:.1%} {direction} than the control's ({_sure(alpha)}); {tolerated}"
    if math.isinf(low) and math.isinf(high):
        return f"{metric.name}: too few units"
    if math.isinf(high):
        return f"{metric.name} may be from {low:.1%} {direction} than the control's without an upper bound; {tolerated}"
    return f"{metric.name} may be from {low:.1%} to {high:.1%} {direction} than the control's; {tolerated}"
