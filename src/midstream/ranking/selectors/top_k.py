"""Top-k selector: takes the highest scores."""

from collections.abc import Callable
from typing import ClassVar, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.traits import BOUNDED, Traits
from midstream.core.types import FeatureFrame, Mask, Query, Score, Selection

Real: TypeAlias = NDArray[np.float64]
Chances: TypeAlias = Callable[[Real, Mask], Real]
"""Returns the share of each candidate at a position, (n,), from the worth of each, (n,), best score first, and the
mask of allowed ones. At least one is allowed; the share of others is 0, and all shares sum to the whole."""


class TopK(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="top_k"):
    """The highest scores, best first; equal ones in the order of the candidates. Nothing is left to chance."""

    traits: ClassVar[Traits] = BOUNDED

    def select(self, query: Query, features: FeatureFrame, score: Score) -> Selection:
        """Return at most ``query.slate_size`` rows, each with propensity 1."""
        chosen = best_first(score)[: query.slate_size]
        return Selection(chosen, np.ones(len(chosen), dtype=np.float32))

    @property
    def keep(self) -> int:
        """No place is left to chance anyway."""
        return 0

    def chances(self, features: FeatureFrame, order: NDArray[np.intp], score: Real) -> Chances:
        """Return a function that gives the best remaining candidate probability 1."""
        return only_best


def best_first(score: Score | Real) -> NDArray[np.intp]:
    """Return the rows of the scores that are numbers, best first; equal ones in the order of the candidates."""
    order = (-score).argsort(kind="stable")  # NaN comes last
    return order[np.isfinite(score[order])]


def only_best(utility: Real, allowed: Mask) -> Real:
    """Return 1 for the first of the best that may come, 0 for all others: ``Chances``."""
    share = np.zeros(len(utility))
    share[int(np.argmax(np.where(allowed, utility, -np.inf)))] = 1.0
    return share


def in_pool(size: int, among: Callable[[Real, Mask], Real]) -> Chances:
    """Return chances of the first ``size`` candidates, by ``among``, and where none of them may come of the best."""

    def chances(utility: Real, allowed: Mask) -> Real:
        if not allowed[:size].any():
            return only_best(utility, allowed)
        share = np.zeros(len(utility))
        share[:size] = among(utility[:size], allowed[:size])
        return share

    return chances
