"""Readers of the last acts of a session or user: their items, and the candidate's similarity to them."""

from dataclasses import dataclass

import numpy as np

from midstream.core.types import Candidates, Index, Moment
from midstream.features.readers.coding import Coding
from midstream.features.readers.inputs import looked_up
from midstream.state.attributes.value_overlap import shared_values
from midstream.state.expressions.program import Columns
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items
from midstream.state.pairs.covisitation import Pairs
from midstream.state.pairs.covisitation_query import PairQuery
from midstream.state.sessions.session_index import SessionIndex
from midstream.state.sessions.session_query import SessionQuery
from midstream.state.users.recent_items import distinct_items, last_items, own_sessions


@dataclass(frozen=True, slots=True)
class Shared:
    """Share of the last items that have the candidate's value of an attribute."""

    scope: str
    attribute: str
    actions: tuple[str, ...]
    last: int
    rows: int = 1

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Count the values of the last items, then look up those of the candidates."""
        acted = distinct_items(moment, self.scope, self.actions, self.last)
        if len(acted):
            codes = moment.table(Items).codes(self.attribute)
            found[0] = shared_values(codes, acted, candidates.item_index, is_among=False)


@dataclass(frozen=True, slots=True)
class Last:
    """The last items, or a value of each, as numbers: the newest first."""

    scope: str
    attribute: str
    """Empty: the items themselves."""
    actions: tuple[str, ...]
    length: int
    coding: Coding

    @property
    def rows(self) -> int:
        """A column for each."""
        return self.length

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Write the same numbers for all candidates."""
        acted = distinct_items(moment, self.scope, self.actions, self.length)
        if len(acted):
            found[: len(acted)] = self._numbers(moment, acted)[:, np.newaxis]

    def _numbers(self, moment: Moment, acted: Index) -> Columns:
        if self.attribute:
            numbers: Columns = self.coding.of_items(moment.table(Items), self.attribute, acted)[0]
            return numbers
        return self.coding.of_hashes(moment.table(Vocabulary).item_numbers(acted))


@dataclass(frozen=True, slots=True)
class PairScores:
    """Scores of pairs with the last items of the session, or of the user without a session."""

    query: PairQuery
    history_items_max: int
    rows: int = 1

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Look the candidates up in the answer."""
        recent = last_items(moment, self.history_items_max)
        if len(recent):
            items, score = moment.table(Pairs).score(self.query, recent, moment.query.now_ms)
            found[0] = looked_up(items, score.astype(np.float64), candidates.item_index)


@dataclass(frozen=True, slots=True)
class KnnScores:
    """Scores of the sessions most like this one."""

    query: SessionQuery
    history_items_max: int
    rows: int = 1

    def fill(self, moment: Moment, candidates: Candidates, found: Columns) -> None:
        """Look the candidates up in the answer."""
        recent = last_items(moment, self.history_items_max)
        if len(recent):
            items, score = moment.table(SessionIndex).score(self.query, recent, own_sessions(moment))
            found[0] = looked_up(items, score.astype(np.float64), candidates.item_index)
