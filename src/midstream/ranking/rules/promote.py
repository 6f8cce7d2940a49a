"""Promotions: some items have a share of the positions, between a minimum and a maximum.

A share holds in every prefix of a slate: of the first k positions at least ⌊min · k⌋ and at most ⌈max · k⌉ go to the
items of the promotion. So they are spread over the slate, and a slate that ends early has its share as well. A position
goes to them only when it has to: when the free positions up to some k are no more than the promotions still need by
then. The selector chooses the item.

Pins count. A minimum that cannot be held, because caps, another promotion's maximum, positions for new items or pins
precede it, or because no such item is left, is given up at that position and no other. Where not all can be held, the
first of the file has the positions that it needs, and the next the rest. A maximum is never exceeded, but by pins.

Reference: S. C. Geyik, S. Ambler, K. Kenthapadi, "Fairness-Aware Ranking in Search & Recommendation Systems with
    Application to LinkedIn Talent Search", KDD 2019, definitions 2.1 and 2.2 (the bounds); positions are looked ahead
    as their DetConstSort does by moving items up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.field_bounds import Length
from midstream.core.types import Mask
from midstream.ranking.rules.in_force import Ids, Stated

_ROUNDING = 1e-9
"""Tolerance: 0.1 · 30 is 3, whatever its last bit."""


class Promote(Stated, frozen=True, kw_only=True, tag="promote"):
    """A share of the positions for some items."""

    where: str | None = None
    """Condition: which items."""
    items: Annotated[Ids, Length(0, 1_000)] = ()
    """Or their ids, 1,000 at most."""
    min: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """At least this share of the positions, where there are such items."""
    max: Annotated[float, msgspec.Meta(ge=0.01, le=1)] = 1.0
    """At most this share."""


@dataclass(frozen=True, slots=True, eq=False)
class Promoted:
    """A promotion in force and the candidates that it is about."""

    name: str
    min: float
    max: float
    member: Mask
    """(n,)."""

    def least(self, size: int) -> NDArray[np.int64]:
        """Return the minimum of promoted items in the first 0 to ``size`` positions, (size + 1,)."""
        return np.asarray(np.floor(self.min * np.arange(size + 1) + _ROUNDING), dtype=np.int64)

    def most(self, size: int) -> NDArray[np.int64]:
        """Return the maximum of promoted items in the first 0 to ``size`` positions, (size + 1,)."""
        return np.asarray(np.ceil(self.max * np.arange(size + 1) - _ROUNDING), dtype=np.int64)


class Shares:
    """Promotions that need a position, and those that are full, while a slate is made."""

    def __init__(
        self, promotions: Sequence[Promoted], order: NDArray[np.intp], pins: Mapping[int, int], size: int
    ) -> None:
        """Begin with the pins.

        Args:
            promotions: In the order of the file, with a candidate a row.
            order: Rows of candidates; other arguments and methods use positions in it.
            pins: Pinned candidate of each position, as a number of ``order``.
            size: Positions of the slate.
        """
        self.promotions = promotions
        self.member = np.stack([each.member[order] for each in promotions])
        self._size = size
        self._have = [0] * len(promotions)
        self.pinned(pins)

    def pinned(self, pins: Mapping[int, int]) -> None:
        """Count the pins at their current positions, before the first position or after a pin moved up."""
        size, promotions = self._size, self.promotions
        pinned = np.zeros((len(promotions), size + 1), dtype=np.int64)
        taken = np.zeros(size + 1, dtype=np.int64)
        for place, at in pins.items():
            if place < size:
                pinned[:, place + 1] += self.member[:, at]
                taken[place + 1] += 1
        pinned = pinned.cumsum(axis=1)
        room = np.stack([each.most(size) for each in promotions]) - pinned
        self._free = np.arange(size + 1) - taken.cumsum()
        self._least = np.stack([each.least(size) for each in promotions]) - pinned
        # Of all beginnings that are longer: what the fullest of them leaves.
        self._room: list[list[int]] = np.minimum.accumulate(room[:, ::-1], axis=1)[:, ::-1].tolist()
        self._calm = 0  # up to this place nobody can be in need

    def full(self, place: int) -> list[int]:
        """Return the numbers of the promotions that may have no more at a place."""
        return [number for number, have in enumerate(self._have) if have >= self._room[number][place + 1]]

    def needing(self, place: int, may: Mask, left: Mask) -> list[int]:
        """Return the numbers of the promotions one of which must have a position; none = any item may have it.

        Args:
            place: The next one.
            may: Candidates allowed there, (n,).
            left: Candidates allowed there or later; a promotion needs no more than it has of these.
        """
        if place < self._calm:
            return []
        want, room = self._wanted(place, left), self._free[place + 1 :] - self._free[place]
        demand = want.sum(axis=0)
        spare = int(np.where(demand > 0, room - demand, len(room)).min())
        if spare > 0:  # a place takes one of it at most, and where nothing is needed nothing will be
            self._calm = place + spare
            return []
        comes: Mask = np.any(self.member & may, axis=1)
        behind = room - 1  # what there is for those that cannot have this place
        for number, can in enumerate(comes.tolist()):  # who is named first has what it needs, the next what is left
            fits = room if can else np.minimum(room, behind)
            np.minimum(want[number], np.minimum.accumulate(fits[::-1])[::-1], out=want[number])
            room = room - want[number]
            if not can:
                behind = behind - want[number]
        tight = np.flatnonzero(room == 0)
        return np.flatnonzero(comes & (want[:, tight[0]] > 0)).tolist() if len(tight) else []

    def _wanted(self, place: int, left: Mask) -> NDArray[np.int64]:
        """Return the positions that each promotion needs from ``place`` up to each later one, none falling.

        An early need stays whatever a pin brings later.
        """
        lacking = self._least[:, place + 1 :] - np.array(self._have)[:, None]
        supply = np.sum(self.member & left, axis=1)[:, None]
        needed: NDArray[np.int64] = np.maximum.accumulate(np.maximum(lacking, 0), axis=1)
        np.minimum(needed, supply, out=needed)
        return needed

    def take(self, at: int) -> None:
        """Count a candidate that is no pin."""
        for number, is_member in enumerate(self.member[:, at].tolist()):
            self._have[number] += is_member

    def short(self, chosen: Sequence[int]) -> list[tuple[str, int]]:
        """Return for each promotion whose minimum does not hold its name and the first position where it does not."""
        counts = self.member[:, chosen].cumsum(axis=1)
        found = list[tuple[str, int]]()
        for number, each in enumerate(self.promotions):
            lacking = np.flatnonzero(counts[number] < each.least(len(chosen))[1:])
            if len(lacking):
                found.append((each.name, int(lacking[0])))
        return found
