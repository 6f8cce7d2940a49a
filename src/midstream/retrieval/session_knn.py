"""Session-kNN source: VMIS-kNN over the newest sessions, this request's own session included.

Reference: B. Kersbergen, O. Sprangers, S. Schelter, "Serenade: Low-Latency Session-Based Recommendation in
e-Commerce at Scale", SIGMOD 2022.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from midstream.core.field_bounds import Name
from midstream.core.traits import PROPOSES, Traits
from midstream.core.types import Index, Moment, Proposal
from midstream.retrieval.evidence import Evidence, Real, distinct_latest_first, scores_in, strongest
from midstream.state.sessions.session_index import SessionIndex
from midstream.state.sessions.session_query import ANSWER_MAX, PLACES, POWERS, SessionQuery, weights_of
from midstream.state.users.recent_items import NO_ITEMS, last_items, own_sessions


class SessionKnn(
    SessionQuery, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="session_knn", kw_only=True
):
    """Items of the sessions most similar to the request's session.

    Without items of the session the user's last items replace it; without those, nothing is proposed. Its options are
    those of the query, so that each is defined once. Whether items may be repeated is decided by the placement's
    ``repeats`` alone.
    """

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "session_knn"
    """Used in answers, metrics and weights."""
    exclude_last_item: bool = False
    """Whether the latest item of the session is left out although the others may come back."""
    history_items_max: Annotated[int, msgspec.Meta(ge=0)] = 5
    """Last items of the user that replace a session without items; 0 = none."""

    def retrieve(self, moment: Moment) -> Proposal:
        """Return the items of the neighbours, the best first."""
        recent = last_items(moment, self.history_items_max)
        if len(recent) == 0:
            return Proposal(NO_ITEMS, np.empty(0, dtype=np.float32))
        return Proposal(*moment.table(SessionIndex).score(self, recent, own_sessions(moment)))

    def why(self, moment: Moment, item_index: Index) -> Sequence[Evidence]:
        """Return the share of each last item: the score of a session of that item alone, with its weight.

        Votes of sessions that share several items use the latest one, so shares do not add up. Cost: a query an item.
        """
        recent = last_items(moment, self.history_items_max)
        query = msgspec.structs.replace(self, limit=ANSWER_MAX, allow_session_items=True, exclude_last_item=False)
        table, decays, own = moment.table(SessionIndex), weights_of(self), own_sessions(moment)
        fading = decays[:PLACES] ** POWERS[self.sharpness] * decays[PLACES : 2 * PLACES]
        items: list[int] = []
        said: list[Real] = []
        for item in distinct_latest_first(recent):
            if table.item_session_count(item) == 0:
                continue
            alone = table.score(query, np.array([item], dtype=np.int32), own)
            said.append(fading[len(items)] * scores_in(alone, item_index))
            items.append(item)
            if len(items) == self.last_items_max:
                break
        return strongest(np.array(items, dtype=np.int32), np.array(said).reshape(len(items), len(item_index)))
