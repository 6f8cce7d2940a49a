"""Probability of a given slate under a selector: place by place, each given the rows above it, without a draw.

A selector logs the probability of what it drew. Here the slate is given, whoever drew it, so what another selector, or
the same with other scores, would have made of it is computed: weights of off-policy estimates.

Reference: R. L. Plackett, "The Analysis of Permutations", Applied Statistics 24(2), 1975 (the product over places).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import FeatureFrame, Score
from midstream.ranking.selectors.selecting import Choosing
from midstream.ranking.selectors.top_k import Real, best_first, only_best


@dataclass(frozen=True, slots=True, eq=False)
class SlateChances:
    """Probabilities of a slate's places; the whole slate's is the product."""

    chosen: Real
    """Of the row at each place, given those above it, (places,); 0 from the first place on that cannot be."""
    share: Real
    """Of each row at each place, given the same above, (places, n): a place sums to 1, or to 0 below an impossible
    one."""


def slate_chances(
    selector: Choosing, features: FeatureFrame, score: Score, rows: NDArray[np.intp], places: int | None = None
) -> SlateChances:
    """Return the probability with which a selector makes a slate.

    Args:
        selector: Any that is built in.
        features: Columns for the selector, row for row.
        score: Of each row, (n,); NaN = it cannot be chosen.
        rows: The slate from its first place on, -1 = an item that is no row.
        places: Only the first ones; None = all.

    Cost: a place takes what the selector takes for one of its own, 5 to 30 µs.
    """
    rows = rows[:places]
    order = best_first(score)
    utility = score[order].astype(np.float64)
    found = SlateChances(np.zeros(len(rows)), np.zeros((len(rows), len(score))))
    if not len(order):
        return found
    among = selector.chances(features, order, utility)
    at_of = np.full(len(score), -1, dtype=np.intp)
    at_of[order] = np.arange(len(order))
    allowed = np.ones(len(order), dtype=np.bool_)
    for place, row in enumerate(rows.tolist()):
        if not allowed.any():
            break
        share = only_best(utility, allowed) if place < selector.keep else among(utility, allowed)
        share = share / share.sum()
        found.share[place, order] = share
        at = -1 if row < 0 else int(at_of[row])
        if at < 0 or not share[at] > 0 or not allowed[at]:
            break
        found.chosen[place] = share[at]
        allowed[at] = False
    return found
