"""What sessions like this one went on to: VMIS-kNN over the newest sessions, this request's own session included.

Reference: B. Kersbergen, O. Sprangers, S. Schelter, "Serenade: Low-Latency Session-Based Recommendation in
e-Commerce at Scale", SIGMOD 2022.
"""

import numpy as np

from midstream.core.types import Moment, Proposal
from midstream.state.last_items import NO_ITEMS, last_items, own_sessions
from midstream.state.session_index import SessionIndex
from midstream.state.session_query import SessionQuery


class SessionKnn(
    SessionQuery, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="session_knn", kw_only=True
):
    """Items of the sessions most similar to the asking one.

    Without any items of the session the last ones of the user stand in; without those, nothing is proposed. Its options
    are those of the query, so that each stands in one place; which items may come again is the placement's ``repeats``
    alone.
    """

    name: str = "session_knn"
    exclude_last_item: bool = False
    history_items_max: int = 5
    """Last items of the user that stand in for a session that has none yet; 0 = none."""

    def retrieve(self, moment: Moment) -> Proposal:
        """Return the items of the neighbours, the best first."""
        recent = last_items(moment, self.history_items_max)
        if len(recent) == 0:
            return Proposal(NO_ITEMS, np.empty(0, dtype=np.float32))
        return Proposal(*moment.table(SessionIndex).score(self, recent, own_sessions(moment)))
