"""Placement under all rules, with any built-in selector: the allowed candidates of a position, and the chosen one.

Every step is over columns of all candidates. ``place_best`` is the faster algorithm where its choice is the same.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.types import FeatureFrame, Mask
from midstream.ranking.rules.calibration import CalibratedSelector, Miscalibration
from midstream.ranking.rules.diversity import Diversity, Likest, Volume, unlike
from midstream.ranking.rules.new_items import Fresh
from midstream.ranking.rules.slate_candidates import Lineup, Tracing
from midstream.ranking.selectors.sampling import CHOSEN, drawn_of, uniforms
from midstream.ranking.selectors.selecting import Choosing
from midstream.ranking.selectors.top_k import Chances, TopK, only_best


class Ruled:
    """Placement of one slate."""

    def __init__(
        self,
        lineup: Lineup,
        penalty: Diversity | CalibratedSelector | None,
        selector: Choosing,
        frame: FeatureFrame,
        seed: int,
        trace: Tracing,
    ) -> None:
        """Begin before the first position; ``trace`` gets the actions of promotions and positions for new items."""
        self._lineup, self._selector, self._frame, self._trace = lineup, selector, frame, trace
        order, count = lineup.order, len(lineup.worth)
        self._ranked = order[:count]
        self._caps, self._shares = lineup.caps, lineup.shares
        self._dice: list[float] = [] if isinstance(selector, TopK) else uniforms(seed, CHOSEN, lineup.size).tolist()
        self._keep = min(selector.keep, lineup.size)
        self._chances = selector.chances(frame, self._ranked, lineup.worth) if count else only_best
        self._apart: dict[str, tuple[NDArray[np.intp], Chances]] = {}
        self._penalty, self._utility = _penalty_of(penalty, lineup), lineup.worth
        if isinstance(self._penalty, Miscalibration):  # also the first one has a category
            self._lower()
        self._fresh = [(each, each.member[order]) for each in lineup.facts.fresh]
        self._open: Mask = ~self._caps.capped(len(order))
        """Who is free and capped by nothing."""
        self._open[count:] = False
        self._open[list(lineup.pins.values())] = False
        self.passed_over: set[int] = set()
        """Who was the best by worth alone at a place, and did not come there."""

    def choose(self, place: int) -> tuple[int, float] | None:
        """Return the candidate of a position and its probability; None = no candidate is allowed.

        Positions for new items and minimum shares narrow the allowed candidates.
        """
        may = self._may(place)
        if not may.size or not may[may.argmax()]:  # faster than any
            return None
        fresh = self._fresh_at(place, may)
        if fresh is not None:
            may = may & fresh[1]
        needing = [] if self._shares is None else self._shares.needing(place, may, self._open)
        if needing and self._shares is not None:
            may = may & self._shares.member[needing].any(axis=0)
        at, probability = self._pick(place, may, fresh)
        self._open[at] = False
        for number, value in self._caps.take(at):
            self._open &= ~self._caps.having(number, value)
        if fresh is not None:
            self._trace(fresh[0].name, at, place, "new")
        if self._shares is not None:
            self._shares.take(at)
            for number in [each for each in needing if self._shares.member[each, at]][:1]:
                self._trace(self._shares.promotions[number].name, at, place, "promoted")
        return at, probability

    def above(self, at: int) -> None:
        """Record a placed candidate for the penalties of similar ones."""
        if self._penalty is not None and self._penalty.take(at):
            self._lower()

    def _lower(self) -> None:
        worth = self._lineup.worth
        if self._penalty is not None:
            self._utility = worth - self._penalty.cost[: len(worth)] * self._lineup.whole

    def _may(self, place: int) -> Mask:
        """Return the candidates allowed at a position: those within all caps and maximum shares."""
        if self._shares is None:
            return self._open
        may = self._open
        for number in self._shares.full(place):
            may = may & ~self._shares.member[number]
        return may

    def _fresh_at(self, place: int, may: Mask) -> tuple[Fresh, Mask] | None:
        """Return the rule of a position for new items, and the new ones; None = no rule, or no new item is allowed."""
        for fresh, member in self._fresh:
            if place in fresh.positions:
                if (may & member).any():
                    return fresh, member
                self._trace(fresh.name, -1, place, "none")
        return None

    def _pick(self, place: int, may: Mask, fresh: tuple[Fresh, Mask] | None) -> tuple[int, float]:
        """Return the candidate of a position and its probability."""
        utility = self._utility
        may = may[: len(utility)]
        best = int(may.argmax())  # by worth alone, which is how they are ordered
        if utility is not self._lineup.worth:
            unlikest = int(np.where(may, utility, -np.inf).argmax())
            if unlikest != best:
                self.passed_over.add(best)
                best = unlikest
        if place < self._keep or isinstance(self._selector, TopK):
            return best, 1.0
        if fresh is None:
            return drawn_of(self._chances(utility, may), self._dice[place])
        rows, chances = self._apart_of(*fresh)
        at, probability = drawn_of(chances(utility[rows], may[rows]), self._dice[place])
        return int(rows[at]), probability

    def _apart_of(self, fresh: Fresh, member: Mask) -> tuple[NDArray[np.intp], Chances]:
        """Return the new candidates, best first, and the selector's probabilities over them alone."""
        if fresh.name not in self._apart:
            rows = np.flatnonzero(member[: len(self._ranked)])
            # Places that are kept are kept above; among the new ones each may be drawn.
            free = (
                self._selector if isinstance(self._selector, TopK) else msgspec.structs.replace(self._selector, keep=0)
            )
            self._apart[fresh.name] = rows, free.chances(self._frame, self._ranked[rows], self._lineup.worth[rows])
        return self._apart[fresh.name]


def _penalty_of(
    options: Diversity | CalibratedSelector | None, lineup: Lineup
) -> Likest | Volume | Miscalibration | None:
    """Return what lowers candidates by the items above; None = nothing does."""
    facts = lineup.facts
    if isinstance(options, CalibratedSelector):
        return None if facts.taste is None else Miscalibration(facts.taste.where(lineup.order), options.smoothing)
    if options is None or facts.values is None:
        return None
    return unlike(options, facts.values[lineup.order], lineup.size)
