"""Positions for new items (cold-start exploration): items without outcomes get impressions.

At such a position the placement's selector draws among the new candidates alone, so that the best of them is not always
the one that is tried, and its propensity is the probability among them. An item is new for a time from the moment when
the catalogue first named it, which the state holds; an item that interactions alone named is not known to be new. New
items compete for all other positions like any other.
"""

from dataclasses import dataclass
from typing import Annotated

from midstream.core.durations import Duration
from midstream.core.field_bounds import Between
from midstream.core.types import Index, Mask, Moment
from midstream.ranking.rules.in_force import Positions, Stated
from midstream.state.items.items import Items


class NewItems(Stated, frozen=True, kw_only=True, tag="new_items"):
    """Positions that go to items which the catalogue named lately."""

    positions: Positions
    """The top is 0."""
    within: Annotated[Duration, Between("1ms")] = Duration("7d")
    """How long an item is new."""


@dataclass(frozen=True, slots=True, eq=False)
class Fresh:
    """Positions in force, and the candidates that are new."""

    name: str
    positions: frozenset[int]
    member: Mask
    """(n,)."""


def is_new(moment: Moment, item_index: Index, within_ms: int) -> Mask:
    """Return which items the catalogue first named within a time before now, (n,); those of the future are of now."""
    arrived_ms = moment.table(Items).arrived_ms(item_index)
    found: Mask = (arrived_ms > 0) & (arrived_ms >= moment.query.now_ms - within_ms)
    return found
