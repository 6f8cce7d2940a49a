"""Reward model of slates for Cascade-DR: what a place and all below it earn, times how much its item does to that.

Q_k(item) = mean of place k × (s + Σ earned) / (s + Σ mean of the places), the sums over the slates that have the item,
s that of ``PRIOR`` places. It is fitted for each fifth of the users on the other four, so that no user's reward
predicts itself. Cascade-DR is right whatever the model is, as long as both its halves are of one model: an item without
a share in the target's list of a place has the mean of the place in both.

Reference: V. Chernozhukov and others, "Double/Debiased Machine Learning for Treatment and Structural Parameters", The
    Econometrics Journal 21(1), 2018 (each part is predicted by a fit on the others).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.off_policy.intervals import Values
from midstream.evaluation.off_policy.slates import SlateLog

FOLDS = 5
PRIOR = 20.0
"""Places of an average slate that an item begins with."""


@dataclass(frozen=True, slots=True, eq=False)
class SlateItems:
    """The items of slates, and those that a target would put there given the same above."""

    chosen: NDArray[np.intp]
    """Item of each place, (n, places); -1 = none, or one that is not listed below for its place."""
    row: NDArray[np.intp]
    """Slate of each listed item, (listed,)."""
    place: NDArray[np.intp]
    item: NDArray[np.intp]
    share: Values
    """The target's probability; those that are not listed have the rest."""
    exists: NDArray[np.bool_]
    """Which places a slate has, (n, places)."""


def with_rewards(log: SlateLog, items: SlateItems) -> SlateLog:
    """Return a log with a model's rewards.

    Args:
        log: Its users are whole numbers, equal for one user.
        items: Of as many places or more; those beyond the log's are left out.

    Cost: ``FOLDS`` passes over slates and listed items.
    """
    shape = log.reward.shape
    chosen, exists = items.chosen[:, : shape[1]], items.exists[:, : shape[1]]
    listed = items.place < shape[1]
    row, place, item, share = items.row[listed], items.place[listed], items.item[listed], items.share[listed]
    later: Values = np.cumsum(log.reward[:, ::-1], axis=1)[:, ::-1]
    count = 1 + max(int(chosen.max(initial=-1)), int(item.max(initial=-1)))
    predicted, expected = np.zeros(shape), np.zeros(shape)
    fold = log.users % FOLDS
    for number in range(FOLDS):
        inside, outside = fold == number, fold != number
        mean, ratio = _fitted(later[outside], chosen[outside], exists[outside], count)
        predicted[inside] = mean * np.where(chosen[inside] >= 0, ratio[chosen[inside]], 1.0)
        mine = inside[row]
        lifted = np.bincount(
            row[mine] * shape[1] + place[mine], share[mine] * (ratio[item[mine]] - 1.0), shape[0] * shape[1]
        )
        expected[inside] = mean * (1.0 + lifted.reshape(shape)[inside])
    return log.with_model(np.where(exists, predicted, 0.0), np.where(exists, expected, 0.0))


def _fitted(later: Values, chosen: NDArray[np.intp], exists: NDArray[np.bool_], count: int) -> tuple[Values, Values]:
    """Return the mean of each place, and the ratio of each item; the last ratio is that of no item, 1."""
    there = exists.sum(axis=0)
    mean: Values = np.where(exists, later, 0.0).sum(axis=0) / np.maximum(there, 1)
    known = (chosen >= 0) & exists
    level = np.broadcast_to(mean, later.shape)
    prior = PRIOR * float(level[exists].mean()) if exists.any() else 0.0
    earned = np.bincount(chosen[known], later[known], count) + prior
    usual = np.bincount(chosen[known], level[known], count) + prior
    ratio = np.divide(earned, usual, out=np.ones(count), where=usual > 0)
    return mean, np.append(ratio, 1.0)
