"""Support of an off-policy estimate: effective sample size, largest weight, target mass that was never logged.

An estimate is refused where one of four figures says that its interval would not cover as often as it promises:

* Effective users, (Σ W)² / Σ W² over the weights of whole users (Kish), and effective acts, the same over weighted
  rewards of whole users. An interval needs so many users that count: of 4,050 simulated worlds (300 to 4,000 users,
  acts on 3 to 30 % of choices, three spreads of weights) 95 % intervals cover 95.1 % from 45 effective acts on, 90.0 %
  of those with 22 to 45, and 91.5 % with 8 to 22. Effective users decide before any reward is looked at: below 128
  intervals cover 89 % and less, from 181 on 94.4 %, as far as acts are not rare.
* Mass without support, the target's probability of what could not be logged. Its rewards are unknown, so it moves the
  value by up to its share of the difference of the two means. As far as that is one standard deviation of a reward, a
  share u moves the estimate by u √(effective size) standard errors; .36 of them cost 1.5 points of coverage. With 1,000
  that is 1.1 %.
* Mean weight, which is 1 less that mass if the logged probabilities are those by which was chosen. Five standard errors
  away from it they are not, or a few weights are so heavy that the mean has not been reached. (Weights are skewed: 2 of
  1,500 sound logs were more than 4 away, none 5.) Above it the mean may be by as much as the probability of what no
  user met: a place that is almost certain has been the same each time, so its weights have no spread.

References:
    L. Kish, "Survey Sampling", 1965, section 8.2.
    N. Sachdeva, Y. Su, T. Joachims, "Off-policy Bandits with Deficient Support", KDD 2020.
    P. Bottou and others, "Counterfactual Reasoning and Learning Systems", JMLR 14, 2013, section 4 (mean weight).
"""

import msgspec
import numpy as np

from midstream.evaluation.off_policy.intervals import Users, Values, user_sums

EFFECTIVE_MIN = 200.0
"""Effective users of an estimate."""
ACTS_MIN = 50.0
"""Effective acts of an estimate: users whose weighted rewards carry it."""
MISSING_MAX = 0.01
"""Share of the target's mass without support."""
MEAN_ERRORS_MAX = 5.0
"""Standard errors between the mean weight and what it should be."""
UNMET = 10.0
"""Users among whom something is met once on average; that none of them meets it has a probability of e to the -10."""
_ROUNDING = 1e-4
"""Of a product of a hundred logged probabilities, which are float32."""


class Support(msgspec.Struct, frozen=True):
    """What the weights of one estimate say about it."""

    slates: int
    """Rows: slates, or single choices."""
    users: int
    effective: float
    """Effective users: as many with equal weights would say as much."""
    effective_rows: float
    """The same over rows, as if each were a user: larger where users have several."""
    acts: float
    """Effective acts: the same over the weighted rewards of users."""
    weight_max: float
    weight_mean: float
    missing: float
    """Share of the target's mass that could not be logged, 0 to 1."""
    reason: str | None = None
    """Why nothing can be estimated; None = it can."""


def support(weight: Values, weighted: Values, missing: float, users: Users) -> Support:
    """Return the support of an estimate.

    Args:
        weight: Of each row, (n,).
        weighted: The reward of each row times its weights, (n,).
        missing: Share of the target's mass without support.
        users: The user of each row, (n,).
    """
    if not len(weight):
        return Support(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, missing, "nothing was logged")
    sums, counts = user_sums(weight, users), user_sums(np.ones(len(weight)), users)
    found = Support(
        slates=len(weight), users=len(sums), effective=effective(sums), effective_rows=effective(weight),
        acts=effective(user_sums(np.abs(weighted), users)),
        weight_max=float(weight.max()), weight_mean=float(weight.mean()), missing=missing,
    )  # fmt: skip
    return msgspec.structs.replace(found, reason=_reason(found, _mean_error(sums, counts)))


def effective(weight: Values) -> float:
    """Return (Σ w)² / Σ w², 0 of no weight.

    Example:
        >>> effective(np.array([1.0, 1.0, 0.0]))
        2.0
    """
    squares = float(np.square(weight).sum())
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def missing_of(weight_above: Values, missing: Values) -> Values:
    """Return the share of the target's slates that leave what could be logged at a place or above it, (places,).

    That the first such place is k has the probability E[w_1:k-1 · missing_k] under the logging policy, so the sum over
    places is exact, though no such slate was ever logged.

    Args:
        weight_above: Weight of the places above each, (n, places).
        missing: The target's probability, given the items above, of items that could not be logged, (n, places).
    """
    if not len(missing):
        return np.zeros(int(missing.shape[1]), dtype=np.float64)
    at_place: Values = np.asarray((weight_above * missing).mean(axis=0), dtype=np.float64)
    return np.minimum(np.cumsum(at_place), 1.0)


def _mean_error(sums: Values, counts: Values) -> float:
    """Return the standard error of the mean weight, of users."""
    mean = sums.sum() / counts.sum()
    users = len(sums)
    if users < 2:  # noqa: PLR2004  (a user alone has no spread)
        return float("inf")
    return float(np.sqrt(users / (users - 1) * np.square(sums - mean * counts).sum()) / counts.sum())


def _reason(found: Support, mean_error: float) -> str | None:
    """Return the first reason for which nothing can be said."""
    few = (
        f"the weights are worth {found.effective:.0f} users of {found.users} ({EFFECTIVE_MIN:.0f} at least): "
        "log more slates or more exploration, or estimate fewer places"
    )
    if found.users < EFFECTIVE_MIN:  # of few slates an item with any chance counts as one that could not be logged
        return few
    if found.missing > MISSING_MAX:
        return (
            f"{found.missing:.1%} of what it would serve could never have been logged ({MISSING_MAX:.0%} at most): "
            "the logged placement gave those items no chance"
        )
    if found.effective < EFFECTIVE_MIN:
        return few
    if found.acts < ACTS_MIN:
        return (
            f"what followed is worth {found.acts:.0f} users with an act ({ACTS_MIN:.0f} at least): log more slates, or "
            "count an act that is more frequent"
        )
    away = found.weight_mean - (1 - found.missing)
    if not -MEAN_ERRORS_MAX * mean_error - _ROUNDING <= away <= MEAN_ERRORS_MAX * mean_error + UNMET / found.users:
        return (
            f"the mean weight is {found.weight_mean:.4f} and should be {1 - found.missing:.4f} "
            f"(within {MEAN_ERRORS_MAX * mean_error:.4f}): the logged probabilities are not those of the logged choices"
        )
    return None
