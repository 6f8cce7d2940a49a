"""Feature kinds of the last acts of a session or user: the last items, and their similarity to the candidate.

A session has the items of acts with a weight above 0 since its last gap, and the request's own items; a user the last
``limits.user_ring_max`` interactions. Items count once, by their last act.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

import msgspec

from midstream.features.readers.coding import BUCKETS_MAX, coding_of
from midstream.features.readers.history_inputs import KnnScores, Last, PairScores, Shared
from midstream.features.readers.inputs import columns_from
from midstream.state.expressions.program import Expression
from midstream.state.pairs import covisitation_query
from midstream.state.pairs.covisitation_query import PairQuery
from midstream.state.sessions import session_query
from midstream.state.sessions.session_query import SessionQuery

WhoScope: TypeAlias = Literal["session", "user"]
Columns: TypeAlias = Mapping[str, Expression]
LAST_MAX = 50
"""As many as a session or a user keeps by default."""
LastCount = Annotated[int, msgspec.Meta(ge=1, le=LAST_MAX)]
HistoryCount = Annotated[int, msgspec.Meta(ge=0, le=LAST_MAX)]
Buckets = Annotated[int, msgspec.Meta(ge=2, le=BUCKETS_MAX)]


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="match", kw_only=True):
    """Share of the last items that have the candidate's category, 0 to 1; of tags the mean of it over its tags.

    NaN = the candidate has no value, or none of those items has one. The candidate itself counts, if it is among them.
    """

    name: str
    scope: WhoScope = "session"
    attribute: str
    """Category or tags."""
    actions: tuple[str, ...] = ()
    """Of a user: which acts; empty = all with a weight above 0."""
    last: LastCount = 10

    def expressions(self) -> Columns:
        """Return |those with the value| / |those with any|."""
        reader = Shared(self.scope, self.attribute, tuple(sorted(self.actions)), self.last)
        return {self.name: columns_from(reader)[0]}


class LastItems(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sequence", kw_only=True
):
    """The last items, or a value of each, as numbers in columns ``recent_0`` (the newest), ``recent_1`` and so on.

    NaN = there are no more, or the item has no value.
    """

    name: str
    scope: WhoScope = "session"
    attribute: str = ""
    """Category, or tags (the first one); empty = the items themselves, which can be ``hashed`` only."""
    actions: tuple[str, ...] = ()
    """Of a user: which acts; empty = all with a weight above 0."""
    last: LastCount = 10
    form: Literal["index", "hashed"] = "hashed"
    """As in ``category``."""
    values: tuple[str, ...] = ()
    buckets: Buckets = 1 << 20

    def expressions(self) -> Columns:
        """Return XXH64 of the item's id or of the value modulo buckets, or the value's place in the list."""
        coding = coding_of(self.form, self.values, self.buckets)
        reader = Last(self.scope, self.attribute, tuple(sorted(self.actions)), self.last, coding)
        names = tuple(f"{self.name}_{place}" for place in range(self.last))
        return dict(zip(names, columns_from(reader), strict=True))


class PairScore(PairQuery, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="pair_score", kw_only=True):
    """Score of the candidate in the source ``covisitation``: pairs with the session's last items.

    Its options are those of the source. NaN = not among the best ``limit``.
    """

    name: str
    exclude_last_item: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=covisitation_query.ANSWER_MAX)] = covisitation_query.ANSWER_MAX
    history_items_max: HistoryCount = 5
    """Last items of the user that replace a session without items; 0 = none."""

    def expressions(self) -> Columns:
        """Return the score of the pairs."""
        query = PairQuery(**{each: getattr(self, each) for each in PairQuery.__struct_fields__})
        return {self.name: columns_from(PairScores(query, self.history_items_max))[0]}


class KnnScore(SessionQuery, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="knn_score", kw_only=True):
    """Score of the candidate in the source ``session_knn``: votes of the most similar sessions.

    Its options are those of the source. NaN = not among the best ``limit``.
    """

    name: str
    exclude_last_item: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=session_query.ANSWER_MAX)] = session_query.ANSWER_MAX
    history_items_max: HistoryCount = 5
    """Last items of the user that replace a session without items; 0 = none."""

    def expressions(self) -> Columns:
        """Return the votes."""
        query = SessionQuery(**{each: getattr(self, each) for each in SessionQuery.__struct_fields__})
        return {self.name: columns_from(KnnScores(query, self.history_items_max))[0]}
