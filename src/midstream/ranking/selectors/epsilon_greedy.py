"""Epsilon-greedy selector: each position is random with probability ε, and else has the best score left.

With m candidates of the pool left, a position goes to any of them with probability ε / m each, and with 1 − ε to the
best. The logged propensity is the probability given the earlier positions, ε / m, or 1 − ε + ε / m of the best. After
the pool the rest follows in order.

Reference: R. Sutton and A. Barto, Reinforcement Learning, 2nd edition, 2018, section 2.2; A. Swaminathan and others,
    "Off-policy evaluation for slate recommendation", NeurIPS 2017 (uniform slates with distinct items).
"""

from typing import Annotated, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.traits import BOUNDED, Traits
from midstream.core.types import FeatureFrame, Mask, Query, Score, Selection
from midstream.ranking.selectors.plackett_luce import POOL_MAX
from midstream.ranking.selectors.sampling import CHOSEN, uniforms
from midstream.ranking.selectors.top_k import Chances, Real, best_first, in_pool, only_best


class EpsilonGreedy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="epsilon_greedy"):
    """Draws each position with probability ``epsilon``; the first ``keep`` positions are not drawn."""

    traits: ClassVar[Traits] = BOUNDED
    epsilon: Annotated[float, msgspec.Meta(ge=1e-6, le=1)] = 0.1
    """Share of places that are drawn."""
    keep: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    """Positions at the top that always go to the best scores."""
    pool: Annotated[int, msgspec.Meta(ge=1, le=POOL_MAX)] = 100
    """The best candidates, of which a place may be drawn."""

    def select(self, query: Query, features: FeatureFrame, score: Score) -> Selection:
        """Return at most ``query.slate_size`` rows and of each the probability given the rows before. Cost: 20 µs."""
        order = best_first(score).tolist()
        count = min(query.slate_size, len(order))
        kept = min(self.keep, count)
        left = order[kept : max(kept, self.pool)]
        drawn = min(count - kept, len(left))
        chance = uniforms(query.seed, CHOSEN, 2 * drawn).tolist()
        chosen, propensity = order[:kept], [1.0] * kept
        for place in range(drawn):
            share = self.epsilon / len(left)
            is_drawn = chance[2 * place] < self.epsilon
            at = int(chance[2 * place + 1] * len(left)) if is_drawn else 0
            propensity.append(share if at else 1 - self.epsilon + share)
            chosen.append(left.pop(at))
        behind = order[max(kept, self.pool) :][: count - len(chosen)]
        return Selection(
            np.array(chosen + behind, dtype=np.intp), np.array(propensity + [1.0] * len(behind), dtype=np.float32)
        )

    def chances(self, features: FeatureFrame, order: NDArray[np.intp], score: Real) -> Chances:
        """Return a function that gives the remaining candidates of the pool ε / m each, and the best 1 − ε more."""

        def among(utility: Real, allowed: Mask) -> Real:
            return allowed * (self.epsilon / np.count_nonzero(allowed)) + (1 - self.epsilon) * only_best(
                utility, allowed
            )

        return in_pool(max(self.keep, self.pool), among)
