"""Calibration: lowers items of categories of which the slate has more than the user's own acts.

The share of category g in the acts is p(g), in the slate q(g). Of a candidate the cost is what the divergence

    KL(p ‖ q̃) = Σ p(g) log(p(g) / q̃(g)),    q̃ = (1 − α) q + α p

would be with it on the slate, so that the best worth less cost at each position is the greedy step of

    argmax over slates I of (1 − λ) · Σ s(i) − λ · KL(p ‖ q̃)

divided by 1 − λ. Scores count in ranges of the candidates' worth, so λ means the same for a blend and a ranker. An item
with several tags belongs to each of them in equal parts; an item without a value changes no share.

Reference: H. Steck, "Calibrated recommendations", RecSys 2018: equations 2 and 3 (with equal weights of positions), 5
    to 7, and α = 0.01.
"""

from typing import Annotated, ClassVar, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.traits import BOUNDED, Traits
from midstream.core.types import FeatureFrame, Index, Mask, Query, Score, Selection
from midstream.ranking.selectors.top_k import TopK

Real = NDArray[np.float64]
RULE: Final = "calibrated"
"""Name of it in traces and metrics."""
VALUES_MAX: Final = 64
"""Categories of the acts that count: those with the largest shares."""


class CalibratedSelector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="calibrated"):
    """The best scores, as far as the slate has the categories of the user's acts in their shares. Nothing is drawn."""

    traits: ClassVar[Traits] = BOUNDED
    attribute: str
    """Of kind ``category`` or ``tags``."""
    weight: Annotated[float, msgspec.Meta(ge=0, le=0.99)] = 0.5
    """λ: 0 = the scores alone, near 1 = the shares alone."""
    smoothing: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.01
    """α: part of the acts' shares in those of the slate, so that a missing category has a finite cost."""
    acts: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 50
    """Last acts that make the shares, each with the weight of its type; then items of the session."""

    def select(self, query: Query, features: FeatureFrame, score: Score) -> Selection:
        """Return the best scores: the choice where there is no act to go by."""
        return TopK().select(query, features, score)

    @property
    def odds(self) -> float:
        """Ranges of the worth that a divergence of 1 costs."""
        return self.weight / (1.0 - self.weight)


class Taste(NamedTuple):
    """Shares of categories in the acts of a user, and in each candidate."""

    target: Real
    """p, above 0, sums to 1, (g,)."""
    shares: Real
    """Of each candidate, (n, g)."""
    known: Mask
    """Whether a candidate has any value, (n,)."""

    def where(self, keep: Mask | NDArray[np.intp]) -> "Taste":
        """Return the same of some candidates."""
        known: Mask = self.known[keep]
        return Taste(self.target, self.shares[keep], known)


def taste_of(codes: Index, acted: Index, weight: Score) -> Taste | None:
    """Return the shares, None = no act is on an item with a value.

    Args:
        codes: Value codes of the candidates, (n, w), -1 = none.
        acted: Value codes of the items acted on, (m, w).
        weight: Of each act, (m,), above 0.
    """
    parts = _parts(acted) * weight.astype(np.float64)[:, None]
    values, place = np.unique(acted, return_inverse=True)
    mass = np.zeros(len(values))
    np.add.at(mass, place.reshape(-1), parts.reshape(-1))
    values, mass = values[values >= 0], mass[values >= 0]
    kept = np.sort(np.lexsort((values, -mass))[:VALUES_MAX])
    values, mass = values[kept], mass[kept]
    if not len(values):
        return None
    part, shares = _parts(codes), np.zeros((len(codes), len(values)))
    for column in range(codes.shape[1]):
        at = np.searchsorted(values, codes[:, column])
        hit = np.flatnonzero(values[np.minimum(at, len(values) - 1)] == codes[:, column])
        shares[hit, at[hit]] += part[hit, column]
    known: Mask = np.any(codes >= 0, axis=1)
    return Taste(mass / mass.sum(), shares, known)


def _parts(codes: Index) -> Real:
    """Return the part of each value in its item, 0 where there is none."""
    has = codes >= 0
    found: Real = has / np.maximum(has.sum(axis=1, keepdims=True), 1)
    return found


class Miscalibration:
    """Divergence of a slate from the acts, with each candidate on it."""

    def __init__(self, taste: Taste, smoothing: float) -> None:
        """Begin an empty slate."""
        self._target, self._known, self._smoothing = taste.target, taste.known, smoothing
        self._profiles, place = np.unique(taste.shares, axis=0, return_inverse=True)
        self._profile: NDArray[np.intp] = place.reshape(-1)
        self._above = np.zeros(len(taste.target))
        self._count = 0
        self.cost: Real = self._costs()
        """In nats, 0 and more, (n,)."""

    def take(self, at: int) -> bool:
        """Put a candidate on the slate; return whether costs are others now."""
        if not self._known[at]:
            return False
        self._above = self._above + self._profiles[self._profile[at]]
        self._count += 1
        self.cost = self._costs()
        return True

    def _costs(self) -> Real:
        with_it = self._divergence((self._above + self._profiles) / (self._count + 1))
        without = self._divergence(self._above[None] / max(self._count, 1))
        return np.where(self._known, with_it[self._profile], without[0])

    def _divergence(self, shares: Real) -> Real:
        """Return KL(p ‖ q̃) for each row of shares."""
        mixed = (1.0 - self._smoothing) * shares + self._smoothing * self._target
        found: Real = np.log(self._target / mixed) @ self._target
        return found
