"""SLOPE: the parameter of an estimator whose bias is as small as its data can tell.

Estimators are ordered from the widest confidence bound, with the least bias, to the narrowest. The last one counts
whose value agrees with those of all before it: |θ_i - θ_j| <= c_i + (√6 - 1) c_j. Its error is within a constant of
that of the best parameter, which is not known.

References:
    Y. Su, P. Srinath, A. Krishnamurthy, "Adaptive Estimator Selection for Off-Policy Evaluation", ICML 2020.
    G. Tucker, J. Lee, "Improved Estimator Selection for Off-Policy Evaluation", 2021 (order by the bounds themselves,
        and √6 - 1 in place of 3).
"""

from collections.abc import Callable, Sequence

import numpy as np

from midstream.evaluation.off_policy.intervals import Terms, Users, Values, upper_width

DELTA = 0.1
"""Of the confidence bounds, as in the paper's experiments."""
AGREEMENT = float(np.sqrt(6) - 1)
PARAMETERS_MAX = 32
"""Each is one estimate of all rows."""


def slope(make: Callable[[float], Terms], parameters: Sequence[float], users: Users, delta: float = DELTA) -> float:
    """Return the parameter chosen by SLOPE.

    Args:
        make: Returns the estimate with a parameter.
        parameters: At least one, at most ``PARAMETERS_MAX`` are tried.
        users: The user of each row; the bounds are of users.
        delta: Each bound holds with probability 1 - delta.
    """
    tried = [make(each) for each in parameters[:PARAMETERS_MAX]]
    width = np.array([upper_width(each, users, 1 - delta) for each in tried])
    value = np.array([each.value for each in tried])
    order = np.argsort(width)[::-1]
    return parameters[int(order[agreeing(value[order], width[order]) - 1])]


def agreeing(value: Values, width: Values) -> int:
    """Return how many of the first estimates agree with all before them, 1 at least.

    Args:
        value: Of estimates, widest bound first, (n,).
        width: Their bounds.
    """
    for at in range(1, len(value)):
        if (np.abs(value[:at] - value[at]) > width[at] + AGREEMENT * width[:at]).any():
            return at
    return len(value)


def weight_grid(weight: Values) -> tuple[float, ...]:
    """Return limits of weights to try: quantiles of the weights above 0, and none.

    Example:
        >>> weight_grid(np.array([0.0, 1.0, 1.0, 3.0]))[-1]
        inf
    """
    positive = weight[weight > 0]
    if not len(positive):
        return (float("inf"),)
    limits = np.unique(np.quantile(positive, [0.5, 0.75, 0.9, 0.95, 0.99, 0.999]))
    return (*limits.tolist(), float("inf"))
