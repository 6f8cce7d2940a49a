"""Effect of a variant against the control: difference and relative lift, with variances by the delta method and CUPED.

Any metric is a smooth function of means over units, so its variance is that of its linear part: gradient, covariance
of the means, gradient. A ratio (clicks by impressions) is a function of two means; a lift is one of both variants'
means, and its baseline's noise counts. CUPED takes from each unit's outcome what its own past predicts: the mean of the
past is the same in all variants, so the effect stays, and the variance falls by the squared correlation.

References:
    A. Deng, U. Knoblich, J. Lu, "Applying the Delta Method in Metric Analytics", KDD 2018, eq. 4 and section 3.
    A. Deng, Y. Xu, R. Kohavi, T. Walker, "Improving the Sensitivity of Online Controlled Experiments by Utilizing
    Pre-Experiment Data", WSDM 2013, eq. 4 and appendix B.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.experiments.unit_sums import MetricKind, Moments

Real = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Effects:
    """Effects of one or many comparisons, (...). NaN = cannot be estimated."""

    units: Real
    """Of both variants."""
    control: Real
    """Value of the metric, without adjustment."""
    treated: Real
    difference: Real
    """Treated less control, adjusted by the past where there is one."""
    difference_error: Real
    """Standard error."""
    lift: Real
    """The difference by the absolute value of the control's."""
    lift_error: Real
    freedom: Real
    """Degrees of freedom by Welch and Satterthwaite."""
    theta: Real
    """Coefficient of the past; 0 = there is none."""
    variance_ratio: Real
    """Variance of the difference with the past by that without: 1 = the past helps nothing."""


@dataclass(frozen=True, slots=True)
class _Value:
    """A function of the means of a variant and its gradient."""

    value: Real
    gradient: Real
    """(..., columns)."""


def effects(control: Moments, treated: Moments, kind: MetricKind) -> Effects:
    """Return the effect of the treated on a metric, and its standard errors.

    Theta is one for both variants, as it must be for the effect to stay; it is the one with the least variance of the
    difference, so each variant counts by 1 / units.

    Args:
        control: Columns as in ``UnitSums``, (...).
        treated: The same of the other variant.
        kind: Of the metric. The past is there when there are twice the columns it needs.
    """
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        outcome = [_outcome(each, kind, is_past=False) for each in (control, treated)]
        past = [_outcome(each, kind, is_past=True) for each in (control, treated)]
        theta = _theta((control, treated), outcome, past)
        adjusted = [
            _Value(now.value - theta * before.value, now.gradient - theta[..., None] * before.gradient)
            for now, before in zip(outcome, past, strict=True)
        ]
        difference = adjusted[1].value - adjusted[0].value
        own = [_form(each, of.gradient) / each.units for each, of in zip((control, treated), adjusted, strict=True)]
        plain = [_form(each, of.gradient) / each.units for each, of in zip((control, treated), outcome, strict=True)]
        variance = own[0] + own[1]
        base, sign = np.abs(outcome[0].value), np.sign(outcome[0].value)
        lift = difference / base
        of_control = (-adjusted[0].gradient - (lift * sign)[..., None] * outcome[0].gradient) / base[..., None]
        lift_variance = _form(control, of_control) / control.units + own[1] / (base * base)
        spread = own[0] ** 2 / (control.units - 1) + own[1] ** 2 / (treated.units - 1)
        return Effects(
            units=control.units + treated.units,
            control=outcome[0].value,
            treated=outcome[1].value,
            difference=_known(difference, variance),
            difference_error=np.sqrt(_known(variance, variance)),
            lift=_known(lift, lift_variance),
            lift_error=np.sqrt(_known(lift_variance, lift_variance)),
            freedom=variance * variance / spread,
            theta=theta,
            variance_ratio=variance / (plain[0] + plain[1]),
        )


@dataclass(frozen=True, slots=True)
class UnitSpread:
    """A metric over units of one kind, as a plan needs it, (...)."""

    value: Real
    deviation: Real
    """Standard deviation of a unit; of a ratio that of its linear part."""
    past_correlation: Real
    """Between the outcome of a unit and its past; 0 = there is none."""


def unit_spread(of: Moments, kind: MetricKind) -> UnitSpread:
    """Return value, spread and correlation with the past of a metric over units."""
    with np.errstate(divide="ignore", invalid="ignore"):
        now, before = (_outcome(of, kind, is_past=past) for past in (False, True))
        own, past = _form(of, now.gradient), _form(of, before.gradient)
        correlation = _form(of, now.gradient, before.gradient) / np.sqrt(own * past)
    return UnitSpread(now.value, np.sqrt(own), np.where(past > 0.0, correlation, 0.0))


def _known(value: Real, variance: Real) -> Real:
    """Return values whose variance is above 0; others cannot be estimated."""
    return np.where((variance > 0.0) & np.isfinite(variance) & np.isfinite(value), value, np.nan)


def _outcome(of: Moments, kind: MetricKind, *, is_past: bool) -> _Value:
    """Return a mean or a ratio of means, now or in the past; of no past, 0."""
    width, columns = (2 if kind == "ratio" else 1), of.mean.shape[-1]
    first = width if is_past else 0
    gradient = np.zeros_like(of.mean)
    if first + width > columns:
        return _Value(np.zeros(of.mean.shape[:-1]), gradient)
    if kind != "ratio":
        gradient[..., first] = 1.0
        return _Value(of.mean[..., first], gradient)
    numerator, denominator = of.mean[..., first], of.mean[..., first + 1]
    value = numerator / denominator
    gradient[..., first] = 1.0 / denominator
    gradient[..., first + 1] = -value / denominator
    if is_past:
        # A past without a denominator predicts nothing.
        gradient = np.where(denominator[..., None] > 0.0, gradient, 0.0)
        value = np.where(denominator > 0.0, value, 0.0)
    return _Value(value, gradient)


def _theta(variants: tuple[Moments, Moments], outcome: list[_Value], past: list[_Value]) -> Real:
    """Return the coefficient of the past, 0 where the past does not vary."""
    together = sum(
        _form(each, before.gradient, now.gradient) / each.units
        for each, now, before in zip(variants, outcome, past, strict=True)
    )
    spread = sum(_form(each, before.gradient) / each.units for each, before in zip(variants, past, strict=True))
    return np.where(np.asarray(spread) > 0.0, together / np.asarray(spread), 0.0)


def _form(of: Moments, first: Real, second: Real | None = None) -> Real:
    """Return the covariance of two linear functions of a unit's columns."""
    other = first if second is None else second
    return np.asarray(np.einsum("...i,...ij,...j->...", first, of.covariance, other), dtype=np.float64)
