"""Fast placement of the best remaining candidate, where nothing is drawn and similarity is by one value.

An item that has the value of one above costs the whole penalty, any other nothing. So a position compares two
candidates: the first in order of worth without a common value, and the first with one. Candidates behind both are not
read, so a slate reads little more than its own length of the order. The choice equals that of ``place_ruled`` with
``top_k``, to the bit.
"""

from typing import Final

import numpy as np

from midstream.ranking.rules.diversity import Diversity, is_of_one_value
from midstream.ranking.rules.slate_candidates import Lineup
from midstream.ranking.selectors.selecting import Choosing
from midstream.ranking.selectors.top_k import TopK

_YES: Final = 1


class Best:
    """Placement of one slate by worth, caps and ``mmr``."""

    def __init__(self, lineup: Lineup) -> None:
        """Begin before the first place of a slate that ``is_enough`` for."""
        self._caps, self._whole, self._worth = lineup.caps, lineup.whole, lineup.worth
        count, values = len(lineup.order), lineup.facts.values
        self._values: list[int] = [-1] * count if values is None else values[:, 0][lineup.order].tolist()
        self._above: set[int] = set()
        """Values above."""
        self._next = 0
        """Who is looked at next: of those before it nobody is left who is like none above."""
        # Who may still come, and who of those before ``_next``: bytes, which are read one by one, and their masks.
        self._open, self._alike = bytearray(count), bytearray(count)
        self._masks = [np.frombuffer(each, dtype=np.bool_) for each in (self._open, self._alike)]
        np.logical_not(self._caps.capped(count), out=self._masks[0])
        for at in lineup.pins.values():
            self._open[at] = False
        self.passed_over: set[int] = set()
        """Who was the best by worth alone at a place, and did not come there."""

    def choose(self, place: int) -> tuple[int, float] | None:
        """Return the candidate of a position and its probability; None = no candidate is left."""
        at, alike = self._first_unlike(), self._alike.find(_YES)
        # Of equals the first in order, which is the one that is like one above.
        if alike >= 0 and (at < 0 or self._worth.item(alike) - self._whole >= self._worth.item(at)):
            at = alike
        elif at < 0:
            return None
        elif alike >= 0:
            self.passed_over.add(alike)
        self._open[at] = self._alike[at] = False
        for each in self._caps.take(at):
            free = ~self._caps.having(*each)
            for mask in self._masks:
                np.logical_and(mask, free, out=mask)
        return at, 1.0

    def _first_unlike(self) -> int:
        """Return the first that may come and is like none above; -1 = there is none."""
        for at in range(self._next, len(self._worth)):
            if self._open[at]:
                if self._values[at] not in self._above:
                    self._next = at
                    return at
                self._alike[at] = True
        self._next = len(self._worth)
        return -1

    def above(self, at: int) -> None:
        """Record a placed candidate for the penalties of similar ones."""
        if self._values[at] >= 0:
            self._above.add(self._values[at])


def is_enough(lineup: Lineup, diversity: Diversity | None, selector: Choosing) -> bool:
    """Return whether the short way comes to the same."""
    facts = lineup.facts
    if not isinstance(selector, TopK) or facts.promotions or facts.fresh or facts.taste is not None:
        return False
    values = facts.values
    return diversity is None or values is None or (diversity.method == "mmr" and is_of_one_value(values))
