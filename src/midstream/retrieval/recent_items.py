"""Source of new catalogue items with few impressions, which other sources cannot propose yet."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from midstream.core.durations import Duration
from midstream.core.field_bounds import HalfLife, Name
from midstream.core.kinds import IMPRESSION
from midstream.core.traits import PROPOSES, Traits
from midstream.core.types import Index, Moment, Proposal
from midstream.retrieval.evidence import Evidence
from midstream.state.items.items import Items
from midstream.state.structures.decay import decay_weights

_MONTH_MS = 30 * 86_400_000
"""The longest window in which impressions are counted."""


class RecentItems(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="recent_items"):
    """The newest items of the catalogue, as long as they are cold.

    An item's age counts from the first item event that named it. Items known from interactions alone are not new, they
    are only unknown to the catalogue. Of the catalogue's items the newest ``new_items_max`` are remembered.
    """

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "recent_items"
    limit: Annotated[int, msgspec.Meta(ge=1)] = 50
    max_age: HalfLife = Duration("30d")
    """Older items are not new any more."""
    impressions_max: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 500
    """An item that was seen more often in the last 30 days is not cold any more: at a click rate of 2 %, 500
    impressions give 10 clicks, from which the rate is known to about a third of itself."""
    half_life: HalfLife = Duration("7d")
    """The score halves with each."""

    def retrieve(self, moment: Moment) -> Proposal:
        """Return the new items that may be served, the newest first. The score is 1 for an item of now.

        Cost: about 50 µs for 1,000 remembered items.
        """
        items = moment.table(Items)
        now_ms = moment.query.now_ms
        item_index, came_ms = items.newest()
        new = (came_ms >= now_ms - self.max_age.ms) & items.available[item_index]
        item_index, came_ms = item_index[new], came_ms[new]
        cold = items.window_count(IMPRESSION, _MONTH_MS, now_ms, item_index) <= self.impressions_max
        item_index, came_ms = item_index[cold][: self.limit], came_ms[cold][: self.limit]
        # Log time may be ahead of the clock that the query has; an item of then is an item of now.
        score = decay_weights(np.minimum(came_ms, now_ms), now_ms, self.half_life.ms)
        return Proposal(item_index, score.astype(np.float32))

    def why(self, moment: Moment, item_index: Index) -> Sequence[Evidence]:
        """Return the age of each item and its impressions in the last 30 days."""
        items, now_ms = moment.table(Items), moment.query.now_ms
        age = np.maximum(now_ms - items.arrived_ms(item_index), 0).tolist()
        seen = items.window_count(IMPRESSION, _MONTH_MS, now_ms, item_index).tolist()
        return [Evidence(facts={"age_ms": old, "impressions_30d": often}) for old, often in zip(age, seen, strict=True)]
