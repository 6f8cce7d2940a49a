"""Confidence sequences of rates: exact at every number of trials, by the beta-binomial mixture.

Where successes are few, a rate is far from normal; these intervals assume nothing but that units are independent and
each either succeeds or not. The interval of a difference is made of two, each at half the level: exact as well, and
wider than the asymptotic one.

Reference: S. Howard et al., "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49,
2021, proposition 7 with g = p, h = 1 - p; section 4.3.
"""

import math
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.experiments.any_time import AnyTime
from midstream.evaluation.experiments.boundaries import best_rho, beta_binomial_log_mixture

Real = NDArray[np.float64]
_HALVINGS = 40
"""Of the rates that are searched: to 10^-12."""
_LEAST_PRECISION = 1e-3
"""Of the mixing distribution, in units of p (1 - p)."""


class RateInterval(msgspec.Struct, frozen=True):
    """A rate and the interval that holds it at all looks together."""

    rate: float
    """NaN without trials."""
    low: float
    high: float


class RateDifference(msgspec.Struct, frozen=True):
    """Bounds on the effect on a rate that hold at all looks together, without a normal approximation."""

    low: float
    """Of the treated rate less that of the control."""
    high: float
    lift_low: float
    """Of the ratio of both, less 1."""
    lift_high: float
    """Infinite where the control's rate may be 0."""


def rate_bounds(successes: Real, trials: Real, level: AnyTime) -> tuple[Real, Real]:
    """Return lower and upper bounds of rates, element by element.

    Args:
        successes: (n,), at most ``trials``.
        trials: (n,), at least 1.
        level: ``tuned_units`` are the trials at which the interval is narrowest.

    Cost: 80 evaluations of the mixture for each.
    """
    rate = successes / trials

    def is_out(rate_assumed: Real) -> NDArray[np.bool_]:
        return _log_mixture(rate_assumed, rate, trials, level) > -math.log(level.alpha)

    zero, one = np.zeros_like(rate), np.ones_like(rate)
    low, high = _edge(is_out, np.stack((zero, one)), np.stack((rate, rate)))
    return np.where(rate > 0.0, low, 0.0), np.where(rate < 1.0, high, 1.0)


def _log_mixture(rate_assumed: Real, rate: Real, trials: Real, level: AnyTime) -> Real:
    variance = rate_assumed * (1.0 - rate_assumed)
    precision = np.maximum(best_rho(level.tuned_units, level.alpha) - 1.0, _LEAST_PRECISION) * variance
    bounds = (rate_assumed, 1.0 - rate_assumed)
    total, time = (rate - rate_assumed) * trials, variance * trials
    return beta_binomial_log_mixture(total, time, precision, bounds, is_one_sided=False)


def equal_rates_p_value(control: tuple[float, int], treated: tuple[float, int], level: AnyTime) -> float:
    """Return the any-time p-value of equal rates: below alpha where the intervals of ``rate_difference`` are apart.

    They are apart where each common rate is out of one of them, so the larger mixture at the rate where both are the
    same is the least evidence that any common rate has against it.
    """
    if not (control[1] and treated[1]) or control[0] * treated[1] == treated[0] * control[1]:
        return 1.0
    half = _half(level)
    trials = np.array([control[1], treated[1]], dtype=np.float64)
    rate = np.array([control[0], treated[0]]) / trials
    lower = int(np.argmin(rate))
    low, high = float(rate.min()), float(rate.max())
    least = math.inf
    for _ in range(_HALVINGS):
        middle = min((low + high) / 2, 1.0 - 1e-16)
        found = _log_mixture(np.full(2, middle), rate, trials, half)
        least = min(least, float(found.max()))
        low, high = (low, middle) if found[lower] > found[1 - lower] else (middle, high)
    return min(1.0, 2.0 * math.exp(-max(least, 0.0)))


def _half(level: AnyTime) -> AnyTime:
    return msgspec.structs.replace(level, alpha=level.alpha / 2, tuned_units=max(1.0, level.tuned_units / 2))


def _edge(is_out: Callable[[Real], NDArray[np.bool_]], outside: Real, inside: Real) -> Real:
    """Return where the interval ends between a place outside it, or at the end of all rates, and one inside."""
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2
        # In the last halvings a middle may be rounded to 0 or 1, where the mixture is not defined: both are outside.
        certain = (middle <= 0.0) | (middle >= 1.0)
        out = certain | is_out(np.where(certain, 0.5, middle))
        outside, inside = np.where(out, middle, outside), np.where(out, inside, middle)
    return (outside + inside) / 2


def rate_interval(successes: float, trials: int, level: AnyTime) -> RateInterval:
    """Return a rate with its any-time interval; of no trials, all rates."""
    if not trials:
        return RateInterval(math.nan, 0.0, 1.0)
    low, high = rate_bounds(np.array([successes]), np.array([float(trials)]), level)
    return RateInterval(successes / trials, float(low[0]), float(high[0]))


def rate_difference(control: tuple[float, int], treated: tuple[float, int], level: AnyTime) -> RateDifference:
    """Return bounds on the effect on a rate: each rate has an interval at half the level.

    Args:
        control: Successes and units.
        treated: The same.
        level: Of both together.
    """
    half = _half(level)
    successes, trials = np.array([control[0], treated[0]]), np.array([control[1], treated[1]], dtype=np.float64)
    is_seen = trials > 0.0
    low, high = rate_bounds(np.where(is_seen, successes, 0.0), np.where(is_seen, trials, 1.0), half)
    first, second = np.where(is_seen, low, 0.0).tolist(), np.where(is_seen, high, 1.0).tolist()
    return RateDifference(
        low=first[1] - second[0],
        high=second[1] - first[0],
        lift_low=first[1] / second[0] - 1.0,
        lift_high=second[1] / first[0] - 1.0 if first[0] > 0.0 else math.inf,
    )
