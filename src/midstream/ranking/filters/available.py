"""Filter of availability: items that are known, not deleted and available."""

from typing import ClassVar

import msgspec

from midstream.core.traits import BOUNDED, Traits
from midstream.core.types import Candidates, Mask, Moment
from midstream.state.items.items import Items


class Available(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="available"):
    """Keeps items that are servable now; an item made unavailable is gone from the next answer."""

    traits: ClassVar[Traits] = BOUNDED
    name: str = "available"

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        """Return True where the item may be served."""
        return moment.table(Items).available.take(candidates.item_index)
