"""Co-visitation source: items acted on in the same sessions as the items of this one, this request's own included.

Reference: M. Deshpande, G. Karypis, "Item-Based Top-N Recommendation Algorithms", ACM TOIS 22(1), 2004.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from midstream.core.field_bounds import Name
from midstream.core.traits import PROPOSES, Traits
from midstream.core.types import Index, Moment, Proposal
from midstream.retrieval.evidence import Evidence, Real, distinct_latest_first, scores_in, strongest
from midstream.state.pairs.covisitation import Pairs
from midstream.state.pairs.covisitation_query import ANSWER_MAX, PairQuery, weights_of
from midstream.state.users.recent_items import NO_ITEMS, last_items


class Covisitation(
    PairQuery, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="covisitation", kw_only=True
):
    """Neighbours of the last items of the session, the later ones counting more.

    Without items of the session the user's last items replace it; without those, nothing is proposed. Its options are
    those of the query, so that each is defined once. Whether items may be repeated is decided by the placement's
    ``repeats`` alone.
    """

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "covisitation"
    """Used in answers, metrics and weights."""
    exclude_last_item: bool = False
    """Whether the latest item of the session is left out although the others may come back."""
    history_items_max: Annotated[int, msgspec.Meta(ge=0)] = 5
    """Last items of the user that replace a session without items; 0 = none."""

    def retrieve(self, moment: Moment) -> Proposal:
        """Return the neighbours, the best first. Cost: about 10 µs."""
        recent = last_items(moment, self.history_items_max)
        if len(recent) == 0:
            return Proposal(NO_ITEMS, np.empty(0, dtype=np.float32))
        return Proposal(*moment.table(Pairs).score(self, recent, moment.query.now_ms))

    def why(self, moment: Moment, item_index: Index) -> Sequence[Evidence]:
        """Return the share of each last item in each score: the shares add up to the score. Cost: 10 µs an item."""
        recent = last_items(moment, self.history_items_max)
        query = msgspec.structs.replace(self, limit=ANSWER_MAX, allow_session_items=True, exclude_last_item=False)
        table, weights = moment.table(Pairs), weights_of(self)
        items: list[int] = []
        said: list[Real] = []
        for item in distinct_latest_first(recent):
            alone = table.score(query, np.array([item], dtype=np.int32), moment.query.now_ms)
            if len(alone[0]):  # an item without a neighbour takes nobody's place
                said.append(weights[len(items)] * scores_in(alone, item_index))
                items.append(item)
            if len(items) == len(weights):
                break
        return strongest(np.array(items, dtype=np.int32), np.array(said).reshape(len(items), len(item_index)))
