"""Components of this shop. A type here is named in midstream.toml by its path, such as ``components:Shelf``.

Its fields are its options. After a change run ``midstream check``, which tells whether it keeps its promises, then
``midstream recommend shelf --session any --item ITEM --explain``.
"""

import msgspec
import numpy as np

from midstream.core.types import Moment, Proposal
from midstream.state.items.items import Items

HALF_LIFE_MS = 7 * 86_400_000
"""Of the list of what most people act on; a list is kept for 7d and for 6h."""
POPULAR_MAX = 1_000


class Shelf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What most people act on among the items that stand where the last one stands, such as in one category."""

    name: str = "shelf"
    attribute: str = "category"
    limit: int = 20

    def retrieve(self, moment: Moment) -> Proposal:
        """Return distinct items, best first, at most ``limit``; nothing while nothing was looked at."""
        items = moment.table(Items)
        item_index, score = items.hottest(HALF_LIFE_MS, POPULAR_MAX)
        if len(moment.recent_item_index) == 0:
            return Proposal(item_index[:0], score[:0])
        shelf = items.category(self.attribute)
        is_here = np.flatnonzero(shelf[item_index] == shelf[moment.recent_item_index[-1]])[: self.limit]
        return Proposal(item_index[is_here], score[is_here])
