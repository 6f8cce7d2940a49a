"""Full-text source: items that have the words of a text of the request, by BM25 and by acts of similar sessions.

The score is (1 − personal − popularity) · BM25 / best BM25 + personal · session_knn / its best + popularity · h / (1 +
h) with the heat h of the longest half-life: of equal matches those that similar sessions went on to come first.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, TypeAlias

import msgspec
import numpy as np

from midstream.core.field_bounds import Name
from midstream.core.traits import PROPOSES, Traits
from midstream.core.types import Index, Moment, Proposal
from midstream.retrieval.evidence import NOTHING, Evidence, Real, scores_in
from midstream.retrieval.session_knn import SessionKnn
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items
from midstream.state.search.text_index import NO_MATCHES, Matches, TextIndex

LIMIT_MAX = 500
"""As many as are scored."""
TEXT_CHARS_MAX = 256
"""Of a text of a request; what is longer is cut."""
Require: TypeAlias = Literal["any", "all"]
"""Items with one of the words, or with every word alone."""
Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=0.4)]
_NEIGHBOURHOOD = SessionKnn(limit=LIMIT_MAX)


class TextSearch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="text_search"):
    """Items that match a text of the request's context, best first; without a text none."""

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "text_search"
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] = 200
    context: Name = "q"
    """Name of the text in the request's context."""
    require: Require = "any"
    """any (items with one of the words) or all."""
    personal: Share = 0.2
    """Share of what similar sessions went on to in the score."""
    popularity: Share = 0.1
    """Share of the items' heat."""

    def retrieve(self, moment: Moment) -> Proposal:
        """Return the matching items, equal ones by id hash. Cost: that of ``TextIndex.matches`` and of session_knn."""
        found = matches_of(moment, self.context, self.require)
        if found is None or not len(found.item_index):
            return Proposal(NO_MATCHES.item_index, np.empty(0, dtype=np.float32))
        items = found.item_index
        score = self._scores(moment, found)
        order = np.lexsort((moment.table(Vocabulary).item_hash[items], -score))[: self.limit]
        return Proposal(items[order], score[order])

    def why(self, moment: Moment, item_index: Index) -> Sequence[Evidence]:
        """Return of each matching item its BM25 and how many of the words it has."""
        found = matches_of(moment, self.context, self.require)
        if found is None:
            return (NOTHING,) * len(item_index)
        rows = {item: row for row, item in enumerate(found.item_index.tolist())}
        return tuple(
            Evidence(facts={"bm25": float(found.score[rows[item]]), "words": float(found.words[rows[item]])})
            if item in rows
            else NOTHING
            for item in item_index.tolist()
        )

    def _scores(self, moment: Moment, found: Matches) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        score: Real = (1.0 - self.personal - self.popularity) * (found.score / found.score.max())
        if self.personal:
            near = _NEIGHBOURHOOD.retrieve(moment)
            if len(near.item_index):
                own = scores_in((near.item_index, near.score), found.item_index)
                score = score + self.personal * own / max(float(near.score[0]), 1e-30)
        if self.popularity:
            heat, factor = moment.table(Items).heat_of_all()
            warmth = heat[found.item_index] * factor
            score = score + self.popularity * warmth / (1.0 + warmth)
        return score.astype(np.float32)


def matches_of(moment: Moment, name: str, require: Require) -> Matches | None:
    """Return the servable items that match the text which a request has under a name; None = it has none."""
    text = moment.query.context.get(name)
    if not isinstance(text, str):
        return None
    found = moment.table(TextIndex).matches(text[:TEXT_CHARS_MAX], moment.table(Items).available)
    if require == "any":
        return found
    kept = found.words == found.asked
    return Matches(found.item_index[kept], found.score[kept], found.words[kept], found.asked)
