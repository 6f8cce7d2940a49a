"""What is acted on in the same sessions as the items of this one, this request's own session included.

Reference: M. Deshpande, G. Karypis, "Item-Based Top-N Recommendation Algorithms", ACM TOIS 22(1), 2004.
"""

import numpy as np

from midstream.core.types import Moment, Proposal
from midstream.state.last_items import NO_ITEMS, last_items
from midstream.state.pair_query import PairQuery
from midstream.state.pairs import Pairs


class Covisitation(
    PairQuery, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="covisitation", kw_only=True
):
    """Neighbours of the last items of the session, the later ones counting more.

    Without any items of the session the last ones of the user stand in; without those, nothing is proposed. Its options
    are those of the query, so that each stands in one place; which items may come again is the placement's ``repeats``
    alone.
    """

    name: str = "covisitation"
    exclude_last_item: bool = False
    history_items_max: int = 5
    """Last items of the user that stand in for a session that has none yet; 0 = none."""

    def retrieve(self, moment: Moment) -> Proposal:
        """Return the neighbours, the best first. Cost: about 10 µs."""
        recent = last_items(moment, self.history_items_max)
        if len(recent) == 0:
            return Proposal(NO_ITEMS, np.empty(0, dtype=np.float32))
        return Proposal(*moment.table(Pairs).score(self, recent, moment.query.now_ms))
