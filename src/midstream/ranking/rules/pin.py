"""Pins: items that the shop wants at positions.

A pinned item is a candidate like any other: it passes every eligibility filter or does not come. Where no source
proposed it, the rule did, under its own name. Its place is its own: nothing is left to chance there, so its propensity
is 1, and it stands nowhere else. It counts for caps and shares, and none of them drops it.

A position that has a pin already keeps the first one of the file, and so does an item. A pin behind the slate that is
asked for does nothing, and neither does one of an item that is not among those which the caller gave. Where nothing
else may come at a place above a pin's position, the next pin moves up to it: its own position would not be reached, and
an eligible item is not lost. Behind it others may come again.
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
    """Where each of them stands, the top is 0; as many as items."""


@dataclass(frozen=True, slots=True, eq=False)
class Pinned:
    """What stands where, as far as filters let it. Three columns, (n,)."""

    positions: tuple[int, ...]
    item_index: Index
    rules: tuple[str, ...]
    traces: tuple[Trace, ...] = ()
    """Pins that cannot be: of items that nobody knows, and where another is before them."""

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
        """Return what is pinned in a request. Cost: 10 µs a rule in force."""
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
