"""Comparison of a variant with the control on one metric: an any-time interval, and the test of one look beside it.

The asymptotic interval needs units enough. With few successes a rate is compared by exact confidence sequences; other
metrics wait: nothing is claimed about them yet.
"""

import math
from typing import Annotated, Literal

import msgspec

from midstream.evaluation.experiments import any_time, fixed_horizon
from midstream.evaluation.experiments.any_time import AnyTime
from midstream.evaluation.experiments.effects import Effects, effects
from midstream.evaluation.experiments.rates import RateDifference, equal_rates_p_value, rate_difference
from midstream.evaluation.experiments.unit_metrics import effective_units
from midstream.evaluation.experiments.unit_sums import MetricKind, UnitSums, moments_of

Basis = Literal["asymptotic", "exact", "too_few_units"]


class ComparisonRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Level of a comparison, and from where on it is believed."""

    level: AnyTime = AnyTime()
    units_min: Annotated[int, msgspec.Meta(ge=2)] = 100
    """Of each variant, before asymptotic intervals count."""
    effective_units_min: Annotated[float, msgspec.Meta(ge=1.0)] = 50.0
    """Of each variant, as of ``effective_units``: the skewness of a sum of 50 successes is 0.14."""

    def at(self, alpha: float) -> "ComparisonRule":
        """Return the same at another level."""
        return msgspec.structs.replace(self, level=self.level.at(alpha))

    def tuned_at(self, units: float | None) -> "ComparisonRule":
        """Return the same with intervals that are narrowest at other units; None = as it is."""
        if units is None:
            return self
        return msgspec.structs.replace(self, level=msgspec.structs.replace(self.level, tuned_units=units))


class LiftInterval(msgspec.Struct, frozen=True):
    """Bounds on a lift, and the p-value of no effect."""

    low: float
    high: float
    p_value: float


class Comparison(msgspec.Struct, frozen=True):
    """A variant against the control on one metric. NaN = cannot be estimated."""

    control: float
    """Value of the metric, without adjustment."""
    treated: float
    difference: float
    """Adjusted by the past."""
    lift: float
    """Relative to the control, adjusted by the past."""
    lift_error: float
    units: int
    """Of both."""
    variance_ratio: float
    """Variance with the past by that without; 1 = the past helps nothing, or there is none."""
    basis: Basis
    """Of the any-time interval."""
    any_time: LiftInterval
    """Of the lift, right at all looks together. Verdicts come from it alone."""
    fixed: LiftInterval
    """Of the lift, right at one look that was planned before."""
    rates: RateDifference | None
    """Exact bounds of a rate at all looks together; None = no rate."""


def compare(control: UnitSums, treated: UnitSums, kind: MetricKind, reading: ComparisonRule) -> Comparison:
    """Compare a variant with the control."""
    found = effects(moments_of(control, kind), moments_of(treated, kind), kind)
    exact = exact_rates(control, treated, reading.level) if kind == "rate" else None
    basis = basis_of(control, treated, kind, reading)
    lift, error = float(found.lift), float(found.lift_error)
    half = float(fixed_horizon.half_width(error, found.freedom, reading.level.alpha))
    return Comparison(
        control=float(found.control),
        treated=float(found.treated),
        difference=float(found.difference),
        lift=lift,
        lift_error=error,
        units=int(found.units),
        variance_ratio=float(found.variance_ratio),
        basis=basis,
        any_time=_any_time(found, basis, reading.level)
        if exact is None or basis != "exact"
        else LiftInterval(
            exact.lift_low,
            exact.lift_high,
            equal_rates_p_value((control.sums[0], control.count), (treated.sums[0], treated.count), reading.level),
        ),
        fixed=LiftInterval(lift - half, lift + half, float(fixed_horizon.p_value(lift, error, found.freedom))),
        rates=exact,
    )


def basis_of(control: UnitSums, treated: UnitSums, kind: MetricKind, reading: ComparisonRule) -> Basis:
    """Return which interval can be believed."""
    enough = all(
        each.count >= reading.units_min and effective_units(each) >= reading.effective_units_min
        for each in (control, treated)
    )
    if enough:
        return "asymptotic"
    return "exact" if kind == "rate" else "too_few_units"


def exact_rates(control: UnitSums, treated: UnitSums, level: AnyTime) -> RateDifference:
    """Return exact bounds of a rate, from the first column."""
    return rate_difference((control.sums[0], control.count), (treated.sums[0], treated.count), level)


def _any_time(found: Effects, basis: Basis, level: AnyTime) -> LiftInterval:
    """Return the asymptotic interval; of too few units, all lifts."""
    lift, error = float(found.lift), float(found.lift_error)
    if basis == "too_few_units" or math.isnan(lift) or math.isnan(error):
        return LiftInterval(-math.inf, math.inf, 1.0)
    half = float(any_time.half_width(error, found.units, level))
    return LiftInterval(lift - half, lift + half, float(any_time.p_value(lift, error, found.units, level)))
