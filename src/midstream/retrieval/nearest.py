"""Vector retrieval: items whose vectors have the highest cosine with that of the request.

The vectors are a declared attribute of items, such as ``embedding = "vector:128"``. The vector of the request is the
weighted sum of the directions of items' vectors, or comes with the request. A vector counts from the moment its item
event is folded; one that was taken away, or whose item may not be served, is not proposed any more.

A condition (``where``) is asked of ``asked_max`` items at most, and between two parts of them the time of the request
may end the search: what was cut is said.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.field_bounds import Name
from midstream.core.traits import PROPOSES, Traits
from midstream.core.types import Index, Mask, Moment, Proposal, Score
from midstream.features.expressions.names import CONTEXT, ITEM, NOW, Names
from midstream.features.language import Condition, Use, condition
from midstream.models.kernels.cosine import Directions, direction_of
from midstream.models.vector_index import VectorIndex
from midstream.retrieval.approximate import ApproximateProposal
from midstream.retrieval.cut_search import AskedItems, CutProposal, endless
from midstream.retrieval.evidence import NOTHING, Evidence, strongest
from midstream.retrieval.request_vector import read_vector, vector_faults
from midstream.retrieval.vector_search import BREADTH_MAX, VectorSearch
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items
from midstream.state.users.recent_items import NO_ITEMS, distinct_items, last_acts

LIMIT_MAX = 1_000
LAST_ITEMS_MAX = 50
ASKED_MAX = 1_000_000
"""Items of which a condition may be asked: 0.2 s of the dearest one, and 0.1 s of a comparison."""
WHERE = Use(frozenset((ITEM, CONTEXT, NOW)), 100.0)
"""Of ``where``, which may be asked of every item: 20 comparisons or five tests for a tag, 0.2 µs an item."""
Towards = Literal["last_items", "user", "request"]
_NOTHING = Proposal(NO_ITEMS, np.empty(0, dtype=np.float32))


class NearestOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="nearest"):
    """Items whose vectors are nearest to the last items, to the user's items, or to a vector of the request."""

    traits: ClassVar[Traits] = PROPOSES
    attribute: Name
    """A declared attribute of the kind ``vector:LENGTH``."""
    name: Name = "nearest"
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] = 100
    to: Towards = "last_items"
    """last_items (of the session, or else of the user), user (the user's last acts, by their weights) or request (a
    vector in the request's context)."""
    context: Name = "vector"
    """Name of that vector in the context."""
    last_items_max: Annotated[int, msgspec.Meta(ge=1, le=LAST_ITEMS_MAX)] = 5
    """Last distinct items that count with ``to = "last_items"``."""
    position_decay: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.7
    """Weight of each of them as a part of that of the item after it."""
    similarity_min: Annotated[float, msgspec.Meta(ge=-1, le=1)] = 0.0
    """Items with a lower cosine are not proposed."""
    allow_history_items: bool = False
    """Whether items that the request goes by may be proposed; ``repeats`` decides what may be served."""
    search: Literal["exact", "usearch"] = "exact"
    """exact (a scan of all vectors) or usearch (a graph, extra ``vectors``, with a scan where there is none yet)."""
    breadth: Annotated[int, msgspec.Meta(ge=16, le=BREADTH_MAX)] = 256
    """Rows that a search of the graph holds at a time: more find more of the true nearest and take longer."""
    where: str = ""
    """Condition on the proposed items over the catalogue and the request, such as "item.stock > 0"."""
    asked_max: Annotated[int, msgspec.Meta(ge=LIMIT_MAX, le=ASKED_MAX)] = 65_536
    """Items of which it is asked in a request: 7 ms of a comparison, and 13 ms of the dearest condition."""

    def compiled(self, names: Names, where: str) -> "Nearest":
        """Return the source that runs.

        Args:
            names: Of the placement; its attributes have that of the vectors.
            where: Pointer to the options, for faults.

        Raises:
            ConfigInvalid: The condition cannot be read.
        """
        found = condition(self.where, names, f"{where}.where", WHERE) if self.where else None
        if isinstance(found, tuple):
            raise ConfigInvalid(found)
        return Nearest(self, int(names.attributes[self.attribute].rpartition(":")[2]), found)


@dataclass(frozen=True, slots=True)
class Nearest:
    """The source: its options, the length of the vectors, and the condition."""

    traits: ClassVar[Traits] = PROPOSES
    options: NearestOptions
    length: int
    where: Condition | None

    @property
    def name(self) -> str:
        """Stable name in answers, served records and metrics."""
        return self.options.name

    @property
    def limit(self) -> int:
        """Number of items at most."""
        return self.options.limit

    def faults(self, context: Mapping[str, object]) -> tuple[Fault, ...]:
        """Return the faults of a request's context: a vector of another length, and what the condition cannot read."""
        told = () if self.where is None else self.where.faults(context)
        name = self.options.context
        if self.options.to != "request" or name not in context:
            return told
        return (*told, *vector_faults(context[name], self.length, name))

    def example(self) -> Mapping[str, str]:
        """Return a context with which the source has a vector, for the warm-up."""
        return {self.options.context: f"[1{',1' * (self.length - 1)}]"} if self.options.to == "request" else {}

    def retrieve(self, moment: Moment) -> Proposal:
        """Return the nearest items, best first, equal ones by id hash; the score is the cosine.

        Nothing where the request has no vector: no item with one was acted on, or none was sent. Cost: linear in the
        vectors, at the rate of memory, and that of the condition.
        """
        return self.retrieve_within(moment, endless)

    def retrieve_within(self, moment: Moment, remaining_s: Callable[[], float]) -> Proposal:
        """Return the same, as far as the condition could be asked in the time: a ``CutProposal`` where it could not."""
        options, directions = self.options, self._directions(moment)
        items, weights = self._history(moment)
        towards = self._towards(moment, directions, items, weights)
        if towards is None:
            return _NOTHING
        eligible, asked = self._eligible(moment, items), None
        if self.where is not None:
            asked = AskedItems(self.where, moment, options.asked_max, remaining_s, len(eligible))
        search = VectorSearch(directions, towards, eligible, options.limit, np.float32(options.similarity_min), asked)
        index = moment.table(Items).all_vectors(options.attribute).index
        named = None
        if options.search == "usearch" and isinstance(index, VectorIndex):
            named = search.named(index, options.breadth)
        found = search.scanned() if named is None else named
        near = found.score >= search.score_min
        rows, score = found.rows[near], found.score[near]
        if found.cut:
            return CutProposal(rows, score, "where", found.cut)
        return (Proposal if named is None else ApproximateProposal)(rows, score)

    def why(self, moment: Moment, item_index: Index) -> Sequence[Evidence]:
        """Return the items that each goes by: the part of each in the cosine."""
        directions = self._directions(moment)
        items, weights = self._history(moment)
        if not len(items):
            return (NOTHING,) * len(item_index)
        shares = np.zeros((len(items), len(item_index)))
        for place, (item, weight) in enumerate(zip(items.tolist(), weights.tolist(), strict=True)):
            own = directions.mean((item,), (1.0,))
            if own is not None:
                shares[place] = weight * np.nan_to_num(directions.cosines(own, item_index), nan=0.0)
        return strongest(items, shares)

    def _directions(self, moment: Moment) -> Directions:
        vectors = moment.table(Items).all_vectors(self.options.attribute)
        return Directions(vectors.values, vectors.scale, moment.table(Vocabulary).item_hash)

    def _history(self, moment: Moment) -> tuple[Index, Score]:
        """Return the items with vectors that the request goes by, and their weights; none with ``to = "request"``."""
        options = self.options
        if options.to == "request":
            return _NOTHING.item_index, _NOTHING.score
        if options.to == "user":
            items, weights = last_acts(moment, {}, LAST_ITEMS_MAX)
        else:
            items = distinct_items(moment, "session", (), options.last_items_max)
            if not len(items):
                items = distinct_items(moment, "user", (), options.last_items_max)
            weights = _powers(options.position_decay, len(items))
        known = moment.table(Items).all_vectors(options.attribute).scale[items] > 0.0
        return items[known], weights[known]

    def _towards(self, moment: Moment, directions: Directions, items: Index, weights: Score) -> Score | None:
        """Return the direction of the request, None = it has none."""
        if self.options.to != "request":
            return directions.mean(items.tolist(), weights.tolist())
        sent = moment.query.context.get(self.options.context)
        found = read_vector(sent, self.length) if isinstance(sent, str) else ""
        return None if isinstance(found, str) else direction_of(found)

    def _eligible(self, moment: Moment, items: Index) -> Mask:
        """Return which items may be proposed, as far as no condition decides it."""
        table = moment.table(Items)
        eligible = table.available[: table.count].copy()
        if not self.options.allow_history_items:
            history = np.concatenate((items, moment.recent_item_index))
            eligible[history[history >= 0]] = False
        return eligible


def _powers(base: float, count: int) -> Score:
    """Return the powers of a number from the 0th on, by products alone: the same on every CPU."""
    found = np.empty(count, dtype=np.float32)
    value = 1.0
    for place in range(count):
        found[place] = value
        value *= base
    return found
