"""Any-time intervals of estimated effects: asymptotic confidence sequences by a normal mixture.

The intervals hold at all looks together, as units come in: 1 - alpha of experiments never have the true effect outside,
however often and for whatever reason somebody looks and stops. They are wider than intervals of one look by a factor
of about 1.5 to 2. What they need is what a t test needs, units enough for a mean to be nearly normal, at the first
look that counts.

Reference: I. Waudby-Smith, D. Arbour, R. Sinha, E. Kennedy, A. Ramdas, "Time-uniform central limit theory and
asymptotic confidence sequences", Annals of Statistics 2024, arXiv 2103.06476v7: eq. 9 (two-sided), 134 (one-sided), 155
(p-value), 161 (tuning).
"""

import math
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.experiments.boundaries import best_rho

Real = NDArray[np.float64]


class AnyTime(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Level of any-time intervals, and where they are narrowest."""

    alpha: Annotated[float, msgspec.Meta(gt=0.0, lt=0.5)] = 0.05
    """Share of experiments whose interval ever misses the true effect, at most."""
    tuned_units: Annotated[float, msgspec.Meta(ge=1.0)] = 5_000.0
    """Units of both variants together at which the interval is narrowest; those of the plan. Ten times
    too few cost 7 % of width there, ten times too many 27 %."""

    def at(self, alpha: float) -> "AnyTime":
        """Return the same at another level."""
        return msgspec.structs.replace(self, alpha=alpha)


def half_width(standard_error: Real | float, units: Real | float, level: AnyTime) -> Real:
    """Return half the width of the two-sided interval (eq. 9).

    Args:
        standard_error: Of the estimate now, (...).
        units: Of both variants together, (...).
        level: Of the sequence.
    """
    rho = best_rho(level.tuned_units, level.alpha)
    spread = 1.0 + rho / np.asarray(units)
    return np.asarray(standard_error * np.sqrt(spread * (np.log1p(units / rho) - 2 * math.log(level.alpha))))


def half_width_one_sided(standard_error: Real | float, units: Real | float, level: AnyTime) -> Real:
    """Return the distance of the one-sided bound from the estimate (eq. 134); arguments as of ``half_width``."""
    rho = best_rho(level.tuned_units, 2 * level.alpha)
    spread = 1.0 + rho / np.asarray(units)
    log_level = np.log1p(np.sqrt(1.0 + units / rho) / (2 * level.alpha))
    return np.asarray(standard_error * np.sqrt(2 * spread * log_level))


def p_value(estimate: Real | float, standard_error: Real | float, units: Real | float, level: AnyTime) -> Real:
    """Return the any-time p-value of no effect (eq. 155): below alpha exactly where the interval leaves out 0.

    Args:
        estimate: The effect, (...).
        standard_error: Of it.
        units: Of both variants together.
        level: Of the sequence, whose tuning the p-value shares.
    """
    rho = best_rho(level.tuned_units, level.alpha)
    score = np.asarray(estimate / standard_error)
    log_evidence = score * score / (2 * (1.0 + rho / np.asarray(units))) - 0.5 * np.log1p(units / rho)
    return np.asarray(np.exp(np.minimum(-log_evidence, 0.0)))


def p_value_above(estimate: Real | float, standard_error: Real | float, units: Real | float, level: AnyTime) -> Real:
    """Return the one-sided any-time p-value of an effect of at most 0, at most 1/2 where the estimate is above.

    It is the level at which the bound of ``half_width_one_sided``, with the tuning of ``level``, would be 0.
    """
    rho = best_rho(level.tuned_units, 2 * level.alpha)
    score = np.maximum(np.asarray(estimate / standard_error), 0.0)
    log_level = score * score / (2 * (1.0 + rho / np.asarray(units)))
    with np.errstate(divide="ignore", over="ignore"):
        found = np.sqrt(1.0 + units / rho) / (2 * np.expm1(log_level))
    return np.asarray(np.where(score > 0.0, np.minimum(found, 0.5), 1.0))
