"""Candidates best first, with what is known of them before the first place of a slate: what its places are filled from.

A candidate is called by its number in this order, ``at``, everywhere while a slate is made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.ranking.rules.cap import Caps
from midstream.ranking.rules.promote import Shares
from midstream.ranking.rules.rules import CandidateFacts
from midstream.ranking.selectors.top_k import Real

Tracing: TypeAlias = Callable[[str, int, int, str], None]
"""Told the rule, the candidate or -1, the place, and the word for what the rule did."""


@dataclass(frozen=True, slots=True, eq=False)
class Lineup:
    """All candidates of a slate. Those without a score stand behind the others: pins alone may be there."""

    facts: CandidateFacts
    """Row for row as the candidates came."""
    order: NDArray[np.intp]
    """Their rows, best first, (n,)."""
    worth: Real
    """By score and boosts, of those that have a score, (m,)."""
    pins: dict[int, int]
    """Who stands at which place."""
    size: int
    """Places that are decided."""
    caps: Caps
    shares: Shares | None
    whole: float
    """What a whole cost of likeness takes from the worth."""
