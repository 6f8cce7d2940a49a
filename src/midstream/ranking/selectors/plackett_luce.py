"""Plackett-Luce selector: draws slates in which higher scores rank higher more often, and every item may be seen.

At each position a candidate i of those left is drawn with probability exp(s_i / τ) / Σ exp(s_j / τ). That is the logged
propensity: the probability given the earlier positions, so that of the whole slate is their product. All positions are
drawn at once by the Gumbel trick: candidates in the order of s_i / τ − log(−log u_i) are such a slate.

τ is ``temperature`` times the standard deviation of the pool's scores, so that one number means the same for a blend, a
ranker and a click rate, also after a new training.

Reference: R. L. Plackett, "The Analysis of Permutations", Applied Statistics 24(2), 1975; J. I. Yellott, "The
    relationship between Luce's choice axiom, Thurstone's theory, and the double exponential distribution", Journal of
    Mathematical Psychology 15(2), 1977 (the trick); H. Oosterhuis, "Computationally Efficient Optimization of
    Plackett-Luce Ranking Models for Relevance and Fairness", SIGIR 2021, equation 2.
"""

from typing import Annotated, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.traits import BOUNDED, Traits
from midstream.core.types import FeatureFrame, Mask, Query, Score, Selection
from midstream.ranking.selectors.sampling import CHOSEN, uniforms
from midstream.ranking.selectors.top_k import Chances, Real, best_first, in_pool

POOL_MAX = 1_000
"""Candidates that may take part: as many as a request ranks."""


class PlackettLuce(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="plackett_luce"):
    """Slates are drawn, better scores higher more often; the first ``keep`` places are not."""

    traits: ClassVar[Traits] = BOUNDED
    temperature: Annotated[float, msgspec.Meta(ge=1e-6, le=1_000)] = 0.1
    """In standard deviations of the scores: near 0 = as ``top_k``, 1,000 = any order."""
    keep: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    """Positions at the top that always go to the best scores."""
    pool: Annotated[int, msgspec.Meta(ge=1, le=POOL_MAX)] = 100
    """The best candidates, of which the slate is drawn; the others follow in order where a slate is longer."""

    def select(self, query: Query, features: FeatureFrame, score: Score) -> Selection:
        """Return at most ``query.slate_size`` rows and of each the probability given the rows before. Cost: 60 µs."""
        order = best_first(score)
        kept = min(self.keep, query.slate_size, len(order))
        pool, behind = order[kept : max(kept, self.pool)], order[max(kept, self.pool) :]
        drawn, chance = self._drawn(query.seed, score[pool].astype(np.float64))
        chosen = np.concatenate((order[:kept], pool[drawn], behind))[: query.slate_size]
        propensity = np.ones(len(chosen), dtype=np.float32)
        count = min(len(drawn), len(chosen) - kept)
        propensity[kept : kept + count] = chance[:count]
        return Selection(chosen, propensity)

    def chances(self, features: FeatureFrame, order: NDArray[np.intp], score: Real) -> Chances:
        """Return a function that gives the remaining candidates of the pool their probabilities.

        Args:
            features: Not read.
            order: Rows of the candidates, best score first.
            score: Their scores, in that order.
        """
        size = max(self.keep, self.pool)
        own = score[self.keep : size]
        # Of equal scores the deviation is 1e-17 as often as 0. What likeness takes from them still counts, in units of
        # 1 as there.
        deviation = float(own.std()) if len(own) and own.min() < own.max() else 0.0
        spread = self.temperature * (deviation or 1.0)

        def among(utility: Real, allowed: Mask) -> Real:
            top = utility[allowed].max()
            return np.where(allowed, np.exp((utility - top) / spread, where=allowed, out=np.zeros(len(utility))), 0.0)

        return in_pool(size, among)

    def _drawn(self, seed: int, score: NDArray[np.float64]) -> tuple[NDArray[np.intp], Score]:
        """Return an order of some scores, and the probability of each given those before it."""
        spread = score.std() if len(score) else 0.0
        utility = (score - score.mean()) / (self.temperature * spread) if spread > 0 else np.zeros(len(score))
        order = np.argsort(np.log(-np.log(uniforms(seed, CHOSEN, len(score)))) - utility, kind="stable")
        ranked = utility[order]
        left = np.logaddexp.accumulate(ranked[::-1])[::-1]
        tiny = np.finfo(np.float32).tiny
        return order, np.clip(np.exp(ranked - left), tiny, 1.0).astype(np.float32)
