"""Tests of one look at a number of units that was fixed before: Welch's t test on estimated effects.

An experiment that is looked at daily and stopped at the first p below 0.05 is wrong four to five times as often as
that; these figures stand beside the any-time intervals for the one look that was planned.

Reference: B. L. Welch, "The generalization of 'Student's' problem when several different population variances are
involved", Biometrika 34, 1947.
"""

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]


def half_width(standard_error: Real | float, freedom: Real | float, alpha: float) -> Real:
    """Return half the width of the two-sided interval of one look."""
    from scipy import special

    return np.asarray(standard_error * special.stdtrit(freedom, 1.0 - alpha / 2), dtype=np.float64)


def half_width_one_sided(standard_error: Real | float, freedom: Real | float, alpha: float) -> Real:
    """Return the distance of the one-sided bound of one look from the estimate."""
    from scipy import special

    return np.asarray(standard_error * special.stdtrit(freedom, 1.0 - alpha), dtype=np.float64)


def p_value(estimate: Real | float, standard_error: Real | float, freedom: Real | float) -> Real:
    """Return the two-sided p-value of no effect."""
    from scipy import special

    return np.asarray(2.0 * special.stdtr(freedom, -np.abs(estimate / standard_error)), dtype=np.float64)


def p_value_above(estimate: Real | float, standard_error: Real | float, freedom: Real | float) -> Real:
    """Return the one-sided p-value of an effect of at most 0."""
    from scipy import special

    return np.asarray(special.stdtr(freedom, -np.asarray(estimate / standard_error)), dtype=np.float64)
