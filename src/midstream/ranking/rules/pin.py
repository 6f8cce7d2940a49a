"""Pins: items at fixed positions.

A pinned item is a candidate like any other: it must pass every eligibility filter. If no source proposed it, it counts
as proposed by the rule, under the rule's name. It is placed at its position and nowhere else, without randomness, so
its propensity is 1. It counts for caps and shares, and none of them drops it.

A position with two pins gets the first of the file, and so does an item. A pin behind the end of the slate does
nothing, and neither does one of an item outside of a ranking's given items. If no other item is allowed at a position
above a pin's, the next pin moves up to it: its own position would not be reached, and an eligible item would be lost.
After it others may be allowed again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from midstream.core.types import Index, Mask, Moment, Trace
from midstream.ranking.rules.in_force import Ids, Positions, Ruling, Stated
from midstream.state.ids.vocabulary import Vocabulary

PINS = "pins"
"""Name of the reading of all pins in failures: where it cannot be done, a slate is made without them."""


class Pin(Stated, frozen=True, kw_only=True, tag="pin"):
    """Items at positions."""

    items: Ids
    """Ids, 100 at most."""
    positions: Positions
    """Position of each item, the top is 0; as many as items."""


@dataclass(frozen=True, slots=True, eq=False)
class Pinned:
    """Pinned items and their positions, as far as filters allow them. Three columns, (n,)."""

    positions: tuple[int, ...]
    item_index: Index
    rules: tuple[str, ...]
    traces: tuple[Trace, ...] = ()
    """Pins that cannot be placed: of unknown items, and those that conflict with an earlier pin."""

    def among(self, item_index: Index) -> Mask | None:
        """Return which of some items are pinned, (n,); None = none is pinned at all."""
        return np.isin(item_index, self.item_index) if self.positions else None

    def unproposed(self, item_index: Index) -> Iterator[tuple[str, Index]]:
        """Yield for each rule the items that are not among some candidates, in the order of their positions."""
        if not self.positions:
            return
        is_new = ~np.isin(self.item_index, item_index)
        for rule in dict.fromkeys(self.rules):
            own = np.array([each == rule for each in self.rules], dtype=np.bool_) & is_new
            if own.any():
                yield rule, self.item_index[own]


NO_PINS: Final = Pinned((), np.empty(0, dtype=np.int32), ())


@dataclass(frozen=True, slots=True)
class Pins:
    """The pins of a placement, in the order of the file."""

    rulings: tuple[Ruling[Pin], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rules."""
        return tuple(each.name for each in self.rulings)

    def read(self, moment: Moment) -> Pinned:
        """Return the pinned items of a request. Cost: 10 µs a rule in force."""
        free: dict[int, tuple[int, str]] = {}
        traces: list[Trace] = []
        for ruling in self.rulings:
            if ruling.is_in_force(moment):
                _put(ruling.rule, moment, free, traces)
        places = sorted(free)
        items = np.array([free[place][0] for place in places], dtype=np.int32)
        return Pinned(tuple(places), items, tuple(free[place][1] for place in places), tuple(traces))


def _put(rule: Pin, moment: Moment, free: dict[int, tuple[int, str]], traces: list[Trace]) -> None:
    """Add the pins of a rule to those before it."""
    found = moment.table(Vocabulary).item_indices(rule.items).tolist()
    taken = {item for item, _ in free.values()}
    possible = frozenset(moment.query.given or rule.items)
    for item_id, item, position in zip(rule.items, found, rule.positions, strict=True):
        if position >= moment.query.slate_size or item_id not in possible:
            continue
        if item < 0:
            traces.append(Trace(rule.name, -1, position, "unknown"))
        elif position in free or item in taken:
            traces.append(Trace(rule.name, item, position, "taken"))
        else:
            free[position] = (item, rule.name)
            taken.add(item)
