"""Places that the best of what is left has: the short way where nothing is drawn and likeness is of one value.

An item that is like one above costs the whole, any other nothing. So at a place there are two to compare: the first in
order of worth of those like none above, and of those like one. Nothing is computed for the others. The choice is that
of ``place_ruled`` with ``top_k``, to the bit.
"""

from typing import Final

import numpy as np

from midstream.ranking.lineup import Lineup
from midstream.ranking.rule_diversity import Diversity, is_of_one_value
from midstream.ranking.selecting import Choosing
from midstream.ranking.top_k import TopK

_YES: Final = 1


class Best:
    """Who comes at each place of one slate, by worth, caps and ``mmr``."""

    def __init__(self, lineup: Lineup) -> None:
        """Begin before the first place of a slate that ``is_enough`` for."""
        self._caps, self._whole = lineup.caps, lineup.whole
        self._worth: list[float] = lineup.worth.tolist()
        self._values = None if lineup.values is None else np.ascontiguousarray(lineup.values[:, 0])
        self._seen = {-1}  # values above, and what is none
        # Who may still come, like none above and like one: bytes, in which the first is found at once, and their masks.
        self._none, self._one = bytearray(len(lineup.order)), bytearray(len(lineup.order))
        self._like_none, self._like_one = (np.frombuffer(each, dtype=np.bool_) for each in (self._none, self._one))
        self._like_none[: len(self._worth)] = True
        self._like_none[list(lineup.pins.values())] = False
        self._like_none &= ~self._caps.capped(len(lineup.order))
        self.passed_over: set[int] = set()
        """Who was the best by worth alone at a place, and did not come there."""

    def choose(self, place: int) -> tuple[int, float] | None:
        """Return who comes at a place, and how probable that was; None = nobody is left."""
        at, other = self._none.find(_YES), self._one.find(_YES)
        if other >= 0:
            # Of equals the first in order.
            if at < 0 or (self._worth[other] - self._whole, at) > (self._worth[at], other):
                at, other = other, at
            if 0 <= other < at:
                self.passed_over.add(other)
        if at < 0:
            return None
        self._none[at] = self._one[at] = False
        for each in self._caps.take(at):
            free = ~self._caps.having(*each)
            self._like_none &= free
            self._like_one &= free
        return at, 1.0

    def above(self, at: int) -> None:
        """Count who has got a place for those that are like it."""
        if self._values is None:
            return
        value = int(self._values[at])
        if value not in self._seen:
            self._seen.add(value)
            moved = self._like_none & (self._values == value)
            self._like_one |= moved
            self._like_none ^= moved


def is_enough(lineup: Lineup, diversity: Diversity | None, selector: Choosing) -> bool:
    """Return whether the short way comes to the same."""
    if not isinstance(selector, TopK) or lineup.facts.promotions or lineup.facts.fresh:
        return False
    values = lineup.values
    return diversity is None or values is None or (diversity.method == "mmr" and is_of_one_value(values))
