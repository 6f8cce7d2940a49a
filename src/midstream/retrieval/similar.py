"""Item-to-item source: items acted on in the same sessions, and where that evidence is small, with the same attributes.

A new item has no pairs, but it has a category and tags from the moment the catalogue names it. The share of an item
(the sum of its pair weights) is the evidence of its pairs: with share s they count s / (s + ``evidence``), and its
attributes the rest. So a new item uses attributes alone, and an old one the acts of visitors.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from midstream.core.field_bounds import Name
from midstream.core.traits import PROPOSES, Traits
from midstream.core.types import Index, Moment, Proposal, Score
from midstream.retrieval.evidence import NOTHING, Evidence, Led
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.attribute_similarity import alike
from midstream.state.items.items import Items
from midstream.state.pairs.covisitation import Pairs
from midstream.state.pairs.covisitation_query import ANSWER_MAX, PairQuery, Power
from midstream.state.settings import WEIGHT_MAX
from midstream.state.users.recent_items import NO_ITEMS, last_items

_NO_SCORES: Score = np.empty(0, dtype=np.float32)


EVIDENCE_MIN = 0.001
"""With 0 an item without pairs would have no weights to mix."""


class Similar(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="similar"):
    """Items similar to one item: the last of the request's own ``items``, or else the session's last."""

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "similar"
    limit: Annotated[int, msgspec.Meta(ge=1, le=ANSWER_MAX)] = 50
    popularity: Power = "0.5"
    """Power of a neighbour's own share by which its pair weight is divided: 0 = frequent neighbours, 1 = neighbours
    that are specific to the item."""
    pairs_min: Annotated[int, msgspec.Meta(ge=0, le=ANSWER_MAX)] = 20
    """With fewer pairs than this, or a share below ``evidence``, attributes are looked at too."""
    evidence: Annotated[float, msgspec.Meta(ge=EVIDENCE_MIN, le=WEIGHT_MAX)] = 10.0
    """Share at which pairs and attributes count alike: about ten visits that went on to another item."""

    def retrieve(self, moment: Moment) -> Proposal:
        """Return the items most like it, best first; never itself. Cost: 15 µs, with attributes that of ``alike``."""
        last = last_items(moment, history_items_max=1)[-1:]
        if len(last) == 0:
            return Proposal(NO_ITEMS, _NO_SCORES)
        item, now_ms = int(last[0]), moment.query.now_ms
        table = moment.table(Pairs)
        paired = table.score(self._query(), last, now_ms)
        share = table.share(item, now_ms)
        if len(paired[0]) >= self.pairs_min and share >= self.evidence:
            return Proposal(paired[0][: self.limit], paired[1][: self.limit])
        trust = share / (share + self.evidence)
        vocabulary = moment.table(Vocabulary)
        found = alike(moment.table(Items), vocabulary, item, self.limit)
        return _mixed(paired, found, trust, vocabulary, self.limit)

    def why(self, moment: Moment, item_index: Index) -> Sequence[Evidence]:
        """Return the one item that it goes by."""
        last = last_items(moment, history_items_max=1)[-1:]
        one = Evidence((Led(int(last[0]), 1.0),)) if len(last) else NOTHING
        return (one,) * len(item_index)

    def _query(self) -> PairQuery:
        return PairQuery(
            last_items_max=1, same_item=0.0, popularity=self.popularity, limit=max(self.limit, self.pairs_min)
        )


def _mixed(
    paired: tuple[Index, Score], found: tuple[Index, Score], trust: float, vocabulary: Vocabulary, limit: int
) -> Proposal:
    """Return both lists as one: scores as parts of the best one's, those of pairs times ``trust``, the others the rest.

    An item that is in both has the sum.
    """
    item_index = np.unique(np.concatenate((paired[0], found[0])))
    score = np.zeros(len(item_index), dtype=np.float64)
    for (own, values), weight in ((paired, trust), (found, 1.0 - trust)):
        if len(own):
            best = max(float(values[0]), 1e-30)
            score[np.searchsorted(item_index, own)] += weight * (values.astype(np.float64) / best)
    mixed = score.astype(np.float32)
    order = np.lexsort((vocabulary.item_hash[item_index], -mixed))[:limit]
    return Proposal(item_index[order], mixed[order])
