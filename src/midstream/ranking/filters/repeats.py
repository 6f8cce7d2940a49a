"""Filter of the session's own items, by the placement's rule for repeats."""

from typing import ClassVar, Literal

import msgspec
import numpy as np

from midstream.core.field_bounds import Name
from midstream.core.traits import BOUNDED, Traits
from midstream.core.types import Candidates, Index, Mask, Moment
from midstream.ranking.filters.among import among

Repeat = Literal["any", "not_last", "none"]


class Repeats(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="repeats"):
    """Removes items of the request's session."""

    traits: ClassVar[Traits] = BOUNDED
    name: Name = "repeats"
    allow: Repeat = "not_last"
    """``not_last``: all but the item that the session acted on last and the request's own ``items`` (a basket), for
    neither needs to be offered; ``none``: no item of the session; ``any``: every item."""

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        """Return False for items that may not come again."""
        seen = self._seen(moment)
        if len(seen) == 0:
            return np.ones(len(candidates), dtype=np.bool_)
        return ~among(candidates.item_index, seen)

    def _seen(self, moment: Moment) -> Index:
        """Return the items that may not come again."""
        recent = moment.recent_item_index
        if self.allow == "any":
            return recent[:0]
        if self.allow == "none" or not moment.query.items:
            return recent if self.allow == "none" else recent[-1:]
        # What the request sends is the session's newest.
        return moment.sent_item_index if len(moment.sent_item_index) else recent[-1:]
