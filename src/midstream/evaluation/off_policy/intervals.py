"""Intervals of weighted means whose rows come in clusters: jackknife and bootstrap over users.

Slates of one user are alike, so users are left out or drawn, never slates. Leaving one out gives the variance of a
self-normalised estimate too, also where users have different numbers of rows, and more where one user weighs much.

References:
    B. Efron, C. Stein, "The Jackknife Estimate of Variance", Annals of Statistics 9(3), 1981.
    B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 8, 11 and 13.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ShapeMismatch

Values: TypeAlias = NDArray[np.float64]
Users: TypeAlias = NDArray[np.intp]
_DRAWN_MAX = 4_000_000
"""Numbers of draws at once: 32 MB."""
CLUSTERS_MIN = 2
"""Without a second user nothing can be said about the next."""


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What each row adds to an estimate: Σ base / n + Σ_k (Σ correction_k / Σ weight_k)."""

    base: Values
    """(n,), averaged over all rows."""
    correction: Values
    """(n, k), each column divided by its own sum of weights."""
    weight: Values | None = None
    """(n, k) of a self-normalised estimate; None = each row is 1."""

    @property
    def value(self) -> float:
        """The estimate; NaN where a column has no weight."""
        return float(_values(*_totals(self)))


@dataclass(frozen=True, slots=True)
class Confidence:
    """How intervals are made."""

    level: float = 0.95
    resamples: int = 0
    """Of the bootstrap; 0 = jackknife."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class UserInterval:
    """Bounds of an estimate, and its standard error."""

    low: float
    high: float
    error: float


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Sums of each user's rows."""

    count: Values
    """(users,)"""
    base: Values
    """(users,)"""
    correction: Values
    """(users, k)"""
    weight: Values
    """(users, k)"""


def interval(terms: Terms, users: Users, confidence: Confidence) -> UserInterval:
    """Return an interval of an estimate; NaN where there are fewer than two users.

    Args:
        terms: What each row adds.
        users: The user of each row, (n,), whole numbers without gaps are fastest.
        confidence: Level, and the number of resamples of a bootstrap.

    Raises:
        ShapeMismatch: Another number of users than rows.

    Cost: n × k, and resamples × users.
    """
    sums = _by_user(terms, users)
    if len(sums.count) < CLUSTERS_MIN:
        return UserInterval(float("nan"), float("nan"), float("nan"))
    return _bootstrap(sums, confidence) if confidence.resamples else _jackknife(sums, confidence.level)


def upper_width(terms: Terms, users: Users, level: float) -> float:
    """Return the one-sided width of a Student t interval: the confidence bound that SLOPE compares estimates by."""
    from scipy.stats import t

    sums = _by_user(terms, users)
    if len(sums.count) < CLUSTERS_MIN:
        return float("inf")
    return float(_error(_influence(sums)) * t.ppf(level, len(sums.count) - 1))


def user_sums(values: Values, users: Users) -> Values:
    """Return the sum of each user's rows, (users,) of (n,), (users, k) of (n, k)."""
    if len(values) != len(users):
        message = f"{len(values)} rows and {len(users)} users"
        raise ShapeMismatch(message)
    group = np.unique(users, return_inverse=True)[1]
    if values.ndim == 1:
        return np.bincount(group, values).astype(np.float64)
    return np.stack([np.bincount(group, column) for column in values.T], axis=1).astype(np.float64)


def _by_user(terms: Terms, users: Users) -> _Sums:
    columns = terms.correction.shape[1]
    weight = np.ones(terms.correction.shape) if terms.weight is None else terms.weight
    together = np.concatenate((np.ones((len(terms.base), 1)), terms.base[:, None], terms.correction, weight), axis=1)
    sums = user_sums(together, users)
    return _Sums(sums[:, 0], sums[:, 1], sums[:, 2 : 2 + columns], sums[:, 2 + columns :])


def _totals(terms: Terms) -> tuple[Values, Values, Values, Values]:
    weight = np.ones(terms.correction.shape) if terms.weight is None else terms.weight
    count = np.array(float(len(terms.base)))
    return count, np.array(terms.base.sum()), terms.correction.sum(axis=0), weight.sum(axis=0)


def _values(count: Values, base: Values, correction: Values, weight: Values) -> Values:
    """Return estimates of sums: (...,) and (..., k) to (...,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(base / count + (correction / weight).sum(axis=-1), dtype=np.float64)


def _influence(sums: _Sums) -> Values:
    """Return what the estimate changes by each user, (users,): the jackknife's, which sum to 0."""
    each = (sums.count, sums.base, sums.correction, sums.weight)
    without = _values(*(np.asarray(part.sum(axis=0) - part, dtype=np.float64) for part in each))
    return np.asarray((without.mean() - without) * (len(without) - 1) / len(without), dtype=np.float64)


def _error(influence: Values) -> float:
    count = len(influence)
    return float(np.sqrt(count / (count - 1) * np.square(influence).sum()))


def _jackknife(sums: _Sums, level: float) -> UserInterval:
    from scipy.stats import t

    influence = _influence(sums)
    error = _error(influence)
    value = float(_values(*(part.sum(axis=0) for part in (sums.count, sums.base, sums.correction, sums.weight))))
    quantile = float(t.ppf((1 + level) / 2, len(influence) - 1))
    return UserInterval(value - error * quantile, value + error * quantile, error)


def _bootstrap(sums: _Sums, confidence: Confidence) -> UserInterval:
    found = np.concatenate([_values(*drawn) for drawn in _drawn(sums, confidence)])
    low, high = np.quantile(found, [(1 - confidence.level) / 2, (1 + confidence.level) / 2])
    return UserInterval(float(low), float(high), float(found.std(ddof=1)))


def _drawn(sums: _Sums, confidence: Confidence) -> Iterator[tuple[Values, Values, Values, Values]]:
    """Yield sums over users drawn with replacement, a row a resample."""
    rng = np.random.default_rng(confidence.seed)
    count = len(sums.count)
    size = max(1, _DRAWN_MAX // count)
    for start in range(0, confidence.resamples, size):
        rows = min(size, confidence.resamples - start)
        times = rng.multinomial(count, np.full(count, 1 / count), rows).astype(np.float64)
        yield times @ sums.count, times @ sums.base, times @ sums.correction, times @ sums.weight
