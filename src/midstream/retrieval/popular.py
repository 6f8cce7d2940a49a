"""Popularity source: items with the most acts over a long time."""

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from midstream.core.durations import Duration
from midstream.core.field_bounds import HalfLife, Name
from midstream.core.traits import PROPOSES, Traits
from midstream.core.types import Index, Moment, Proposal
from midstream.retrieval.evidence import Evidence
from midstream.state.items.items import Items


class Popular(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="popular"):
    """Items that most people act on over a long time: the highest sum of action weights.

    A floor source: it runs in every request, so the last resort is always warm.
    """

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "popular"
    """Used in answers, metrics and weights."""
    limit: int = 50
    """Items proposed at most."""
    half_life: HalfLife = Duration("7d")
    """The weight of an act halves with each. Each half-life in use keeps a list of its own."""

    def retrieve(self, moment: Moment) -> Proposal:
        """Return the hottest items, the hottest first; none before the first interaction."""
        return Proposal(*moment.table(Items).hottest(self.half_life.ms, self.limit))

    def why(self, moment: Moment, item_index: Index) -> Sequence[Evidence]:
        """Return the heat of each item, and its half-life."""
        heat = moment.table(Items).heat(self.half_life.ms, item_index)
        return [Evidence(facts={"heat": each, "half_life": str(self.half_life)}) for each in heat.tolist()]
