"""Seeded worlds of slates with known rewards: two Plackett-Luce policies over the same items, and the target's value.

Visitors are of a few types, and each type has scores of its own. Rewards are clicks: an item's rate times how many look
at the place. So all probabilities are exact, and the truth is that of one place to the last bit; of several, an average
over drawn items above of the clicks that are expected below them.
"""

from dataclasses import dataclass

import numpy as np

from midstream.evaluation.off_policy.reward_model import FOLDS, SlateItems
from midstream.evaluation.off_policy.slates import SlateLog

LOOKED_AT = (1.0, 0.7, 0.5, 0.35, 0.25, 0.2)
TRUTH_ROWS = 4_000


@dataclass(frozen=True)
class SlateWorld:
    """Two policies, and what their items earn."""

    logging: np.ndarray
    """Scores of the logging policy, (types, items): their softmax is the first place's distribution."""
    target: np.ndarray
    rate: np.ndarray
    """Clicks by type and item where everybody looks, (types, items)."""
    places: int

    @classmethod
    def drawn(cls, draw, items=30, places=4, types=10, spread=1.0, boldness=0.5):
        """Return a world.

        Args:
            draw: Random numbers.
            items: Number of them.
            places: Of a slate.
            types: Of visitors.
            spread: Of the rates' logits between items.
            boldness: Of the target, which leans to what is clicked more.
        """
        liked = spread * draw.normal(size=items)[None, :] + 0.3 * draw.normal(size=(types, items))
        logging = 0.6 * draw.normal(size=(types, items))
        target = logging + boldness * (liked - liked.mean()) + 0.2 * draw.normal(size=(types, items))
        return cls(logging, target, 0.6 / (1 + np.exp(1.0 - liked)), places)

    def slates(self, draw, users, listed_max=None):
        """Return logged slates, one a user, the type of each, and their items.

        Args:
            draw: Random numbers.
            users: Number of them.
            listed_max: Items that a list of the target has at most; None = all.
        """
        kind = draw.integers(len(self.rate), size=users)
        chosen, logged, left = self._chosen(draw, kind, self.logging)
        rows, shape = np.arange(users), chosen.shape
        target, reward = np.ones(shape), np.zeros(shape)
        is_listed, listed = np.zeros(shape, dtype=bool), []
        for place in range(self.places):
            share = np.exp(self.target[kind]) * left[place]
            share /= share.sum(axis=1, keepdims=True)
            at = chosen[:, place]
            target[:, place] = share[rows, at]
            reward[:, place] = draw.uniform(size=users) < self.rate[kind, at] * LOOKED_AT[place]
            least = 0.0 if listed_max is None else np.sort(share, axis=1)[:, [-listed_max]]
            kept = (share > 0) & (share >= least)
            is_listed[:, place] = kept[rows, at]
            row, item = np.nonzero(kept)
            listed.append((row, np.full(len(row), place), item, share[row, item]))
        parts = [np.concatenate(each) for each in zip(*listed, strict=True)]
        log = SlateLog(rows, reward, logged, target, np.zeros(shape))
        return log, kind, SlateItems(draw.integers(FOLDS, size=users), chosen, is_listed, *parts)

    def truth(self, seed=1):
        """Return the target's clicks a slate."""
        draw = np.random.default_rng(seed)
        kind = np.arange(len(self.rate) * (1 if self.places == 1 else TRUTH_ROWS // len(self.rate))) % len(self.rate)
        _, _, left = self._chosen(draw, kind, self.target)
        found = 0.0
        for looked_at, free in zip(LOOKED_AT, left, strict=False):
            share = np.exp(self.target[kind]) * free
            found += looked_at * ((share * self.rate[kind]).sum(axis=1) / share.sum(axis=1)).mean()
        return float(found)

    def _chosen(self, draw, kind, score):
        """Return drawn items and their probabilities, (n, places), and which items were left at each place."""
        rows, shape = np.arange(len(kind)), (len(kind), self.places)
        chosen, chance, left = np.zeros(shape, dtype=np.intp), np.ones(shape), []
        free = np.ones((len(kind), score.shape[1]), dtype=bool)
        for place in range(self.places):
            left.append(free.copy())
            share = np.exp(score[kind]) * free
            share /= share.sum(axis=1, keepdims=True)
            chosen[:, place] = (share.cumsum(axis=1) > draw.uniform(size=(len(kind), 1))).argmax(axis=1)
            chance[:, place] = share[rows, chosen[:, place]]
            free[rows, chosen[:, place]] = False
        return chosen, chance, left
