"""Candidates of a slate, best first, with the columns that fill its positions.

A candidate has its number in this order, ``at``, everywhere while a slate is made.
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
"""Receives the rule, the candidate or -1, the position, and the word of a rule's action."""


@dataclass(frozen=True, slots=True, eq=False)
class Lineup:
    """All candidates of a slate. Those without a score are last: only pins may place them."""

    facts: CandidateFacts
    """Row for row as the candidates came."""
    order: NDArray[np.intp]
    """Their rows, best first, (n,)."""
    worth: Real
    """By score and boosts, of those that have a score, (m,)."""
    pins: dict[int, int]
    """Pinned candidate of each position."""
    size: int
    """Places that are decided."""
    caps: Caps
    shares: Shares | None
    whole: float
    """Worth that a cost of 1, of similarity or of calibration, subtracts."""
