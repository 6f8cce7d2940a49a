"""Editorial source: a fixed list of items."""

from typing import Annotated, ClassVar

import msgspec
import numpy as np

from midstream.core.field_bounds import Length, Name
from midstream.core.traits import PROPOSES, Traits
from midstream.core.types import Index, Moment, Proposal
from midstream.state.ids.vocabulary import Vocabulary

EDITORIAL_MAX = 1_000


class Editorial(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="editorial"):
    """A fixed list of items, in its order. A floor source; ids that are not known yet are passed over."""

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "editorial"
    items: Annotated[tuple[str, ...], Length(0, EDITORIAL_MAX)] = ()
    """Ids, the most wanted first."""

    def retrieve(self, moment: Moment) -> Proposal:
        """Return the known items of the list, in its order; the score falls from 1 to nearly 0."""
        found = moment.table(Vocabulary).item_indices(self.items)
        item_index: Index = np.array(list(dict.fromkeys(found[found >= 0].tolist())), dtype=np.int32)
        count = len(item_index)
        return Proposal(item_index, (np.arange(count, 0, -1) / max(count, 1)).astype(np.float32))
