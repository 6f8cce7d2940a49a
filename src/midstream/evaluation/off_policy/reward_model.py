"""Cross-fitted reward model of slates: item by place, shrunken by empirical Bayes, for DM, DR and Cascade-DR.

    q(item, k)   m_k + a_k (e_item + e_item,k)
    Q_k(item)    q(item, k) + Σ_{j > k} v_j

m_k is the mean reward of place k and a_k its mean absolute reward, so an item that gets twice the clicks at one place
gets twice those of any other place (the position-based click model), and rewards of both signs do no harm. e_item is
the item's effect over all its places, e_item,k what its own place says beyond that. Both are Σ(r - prediction so far) /
(Σ a + φ / τ²): φ is the variance of a reward within an item, τ² that of true effects between items, from the variance
components of one way. Where items do not differ by more than chance, τ² is 0 and every item has the mean of its place;
so has an item that was never logged. v_j is the mean over slates of the target's expected q at place j.

It is fitted for each fold on the others. Folds are of units, so no unit's reward predicts itself: a model that saw the
row which it predicts makes the correction of DR too small, and the estimate drifts to the logged mean.

DR and Cascade-DR are right whatever the model is, as long as both their halves are of one model, which may not depend
on the logged choice. So an item without a share in the target's list of a place has the mean of the place in both, and
the list of a place is cut by the target's shares alone.

References:
    S. Searle, G. Casella, C. McCulloch, "Variance Components", 1992, section 3.6 (analysis of variance, unbalanced).
    C. Morris, "Parametric Empirical Bayes Inference", JASA 78, 1983.
    V. Chernozhukov and others, "Double/Debiased Machine Learning for Treatment and Structural Parameters", The
        Econometrics Journal 21(1), 2018 (each part is predicted by a fit on the others).
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.off_policy.intervals import Values
from midstream.evaluation.off_policy.slates import SlateLog

FOLDS = 5
Rows: TypeAlias = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class SlateItems:
    """The items of slates, and those that a target would put there given the same above."""

    fold: Rows
    """Of each slate's unit, (n,), 0 to ``FOLDS`` - 1; all slates of a unit are in one."""
    chosen: Rows
    """Item of each place, (n, places); -1 = the slate has no such place."""
    is_listed: NDArray[np.bool_]
    """Whether that item is in the target's list below, (n, places)."""
    row: Rows
    """Slate of each listed item, (listed,)."""
    place: Rows
    item: Rows
    share: NDArray[np.floating[Any]]
    """The target's probability; those that are not listed have the rest."""

    def first(self, places: int) -> "SlateItems":
        """Return the items of the first places."""
        if places >= self.chosen.shape[1]:
            return self
        kept = self.place < places
        return SlateItems(
            self.fold, self.chosen[:, :places], self.is_listed[:, :places],
            self.row[kept], self.place[kept], self.item[kept], self.share[kept],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Effects:
    """A fit: q(item, k) = mean_k + scale_k (item effect + cell effect)."""

    mean: Values
    """(places,)"""
    scale: Values
    """(places,)"""
    item: Values
    """(items + 1,), the last one of no item: 0."""
    cell: Values
    """(cells + 1,), the last one of no cell: 0."""


def with_rewards(log: SlateLog, items: SlateItems) -> SlateLog:
    """Return a log with a model's rewards.

    Args:
        log: Of slates.
        items: Of the same slates, of as many places or more; those beyond the log's are left out.

    Cost: ``FOLDS`` passes over slates and listed items, 0.1 µs a listed item.
    """
    items = items.first(log.places)
    shape = log.reward.shape
    exists = items.chosen >= 0
    cells, chosen_cell, listed_cell = _cells(items)
    count = 1 + max(int(items.chosen.max(initial=-1)), int(items.item.max(initial=-1)))
    spot = items.row.astype(np.int64) * shape[1] + items.place
    reached = exists & (log.weight_above > 0)
    predicted, expected = np.zeros(shape), np.zeros(shape)
    for number in range(FOLDS):
        inside, outside = items.fold == number, items.fold != number
        if not inside.any():
            continue
        fit = _fitted(log.reward[outside], items.chosen[outside], chosen_cell[outside], (count, cells))
        lift = items.share * (fit.item[items.item] + fit.cell[listed_cell])
        listed = np.bincount(spot, lift, shape[0] * shape[1]).reshape(shape)
        own = fit.mean + fit.scale * listed
        below = _below(_means(own[outside], reached[outside]), exists[inside])
        effect = np.asarray(fit.item[items.chosen[inside]] + fit.cell[chosen_cell[inside]], dtype=np.float64)
        known = np.where(items.is_listed[inside], effect, 0.0)
        predicted[inside] = fit.mean + fit.scale * known + below
        expected[inside] = own[inside] + below
    return log.with_model(np.where(exists, predicted, 0.0), np.where(exists, expected, 0.0))


def _cells(items: SlateItems) -> tuple[int, NDArray[np.intp], NDArray[np.intp]]:
    """Return the number of pairs of an item and a place that were logged, and the pair of each choice and listed item.

    -1 = a pair that was never logged.
    """
    places = items.chosen.shape[1]
    exists = items.chosen >= 0
    pair: NDArray[np.int64] = items.chosen.astype(np.int64) * places + np.arange(places, dtype=np.int64)
    key = np.where(exists, pair, -1)
    logged = np.unique(key[exists])
    if not len(logged):
        return 0, np.full(key.shape, -1, dtype=np.intp), np.full(len(items.item), -1, dtype=np.intp)
    wanted = items.item.astype(np.int64) * places + items.place
    return len(logged), _at(logged, key), _at(logged, wanted)


def _at(known: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return where each value is among sorted ones, -1 = it is not."""
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, at, -1).astype(np.intp)


def _fitted(reward: Values, chosen: Rows, cell: Rows, counts: tuple[int, int]) -> _Effects:
    """Return the fit of some slates; counts are of items and of cells."""
    exists = chosen >= 0
    mean = _means(reward, exists)
    scale = _means(np.abs(reward), exists)
    size = np.broadcast_to(scale, reward.shape)
    used = exists & (size > 0)  # a place without any reward says nothing of its items
    error, size = (reward - mean)[used], size[used]
    item = _shrunken(chosen[used], error, size, counts[0])
    own = _shrunken(cell[used], error - size * item[chosen[used]], size, counts[1])
    return _Effects(mean, scale, np.append(item, 0.0), np.append(own, 0.0))


def _shrunken(group: Rows, error: Values, size: Values, groups: int) -> Values:
    """Return the effect of each group, (groups,): 0 of one that has no rows.

    Args:
        group: Of each row, (n,).
        error: What is to be explained: effect × size and noise, whose variance is in proportion to size.
        size: Above 0.
        groups: Number of them.
    """
    none = np.zeros(groups)
    total = np.bincount(group, size, groups)
    seen = total > 0
    count = int(seen.sum())
    gain = np.bincount(group, error, groups)
    if count < 2 or len(group) <= count:  # noqa: PLR2004  (one group has no other to differ from)
        return none
    between = float((gain[seen] ** 2 / total[seen]).sum())
    noise = max(0.0, float((error**2 / size).sum()) - between) / (len(group) - count)
    # Σ t - Σ t² / Σ t: each term above 0, where the difference of both sums may be lost to rounding
    spread = (between - (count - 1) * noise) / float((total * ((total.sum() - total) / total.sum())).sum())
    if spread <= 0:
        return none
    return np.asarray(np.divide(gain, total + noise / spread, out=none, where=seen), dtype=np.float64)


def _means(values: Values, counted: NDArray[np.bool_]) -> Values:
    """Return the mean of each column over its rows that count; 0 of none."""
    total = np.where(counted, values, 0.0).sum(axis=0)
    return np.asarray(total / np.maximum(counted.sum(axis=0), 1), dtype=np.float64)


def _below(later: Values, exists: NDArray[np.bool_]) -> Values:
    """Return what the places below each earn, (n, places), as far as slates have them."""
    each: Values = np.where(exists, later, 0.0)
    return np.asarray(each[:, ::-1].cumsum(axis=1)[:, ::-1] - each, dtype=np.float64)
