"""Vector retrieval: items whose vectors have the highest cosine with that of the request.

The vectors are a declared attribute of items, such as ``embedding = "vector:128"``. The vector of the request is the
weighted sum of the directions of items' vectors, or comes with the request. A vector counts from the moment its item
event is folded; one that was taken away, or whose item may not be served, is not proposed any more.

With a condition (``where``) the nearest are looked at first, ``LOOKED_TIMES`` as many as are wanted. Where too few of
them pass, the condition is asked of every item that has a vector, and the nearest of those that pass are the answer. So
the answer is the same as if all items had been asked first, and an item that does not pass costs no product.
"""

from collections.abc import Mapping, Sequence
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
from midstream.retrieval.evidence import NOTHING, Evidence, strongest
from midstream.retrieval.request_vector import read_vector, vector_faults
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items
from midstream.state.users.recent_items import NO_ITEMS, distinct_items, last_acts

LIMIT_MAX = 1_000
LAST_ITEMS_MAX = 50
LOOKED_TIMES = 4
SPARE = 64
"""Items that a graph is asked for beyond the limit, in place of some that may not be proposed."""
BREADTH_MAX = 4_096
"""Items that a graph is asked for at most: beyond that a scan of all is not much slower."""
ASKED_AT_ONCE = 4_096
"""Items of which a condition's columns are in memory at once."""
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
        directions = self._directions(moment)
        items, weights = self._history(moment)
        towards = self._towards(moment, directions, items, weights)
        if towards is None:
            return _NOTHING
        eligible = self._eligible(moment, items)
        named = self._named(moment, directions, towards, eligible)
        rows, score = self._best(moment, directions, towards, eligible) if named is None else named
        near = score >= np.float32(self.options.similarity_min)
        return (Proposal if named is None else ApproximateProposal)(rows[near], score[near])

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

    def _named(
        self, moment: Moment, directions: Directions, towards: Score, eligible: Mask
    ) -> tuple[Index, Score] | None:
        """Return the nearest of those that the graph names; None = a scan has to answer.

        It is asked for more where too few of them may be proposed, up to ``BREADTH_MAX``.
        """
        options = self.options
        index = moment.table(Items).all_vectors(options.attribute).index
        if options.search != "usearch" or not isinstance(index, VectorIndex):
            return None
        count = options.limit + SPARE
        while True:
            rows = index.named(towards, count, options.breadth)
            if rows is None:
                return None
            is_all = index.size <= count
            rows = rows[rows < len(eligible)]
            rows = rows[eligible[rows] & (directions.scale[rows] > 0.0)]
            if self.where is not None:
                rows = rows[self.where.passes(moment, rows)]
            if len(rows) >= options.limit or is_all:
                return directions.in_order(rows, directions.cosines(towards, rows), options.limit)
            if count >= BREADTH_MAX:
                return None
            count = min(LOOKED_TIMES * count, BREADTH_MAX)

    def _best(self, moment: Moment, directions: Directions, towards: Score, eligible: Mask) -> tuple[Index, Score]:
        """Return the nearest of the eligible items that pass the condition."""
        limit = self.options.limit
        if self.where is None:
            return directions.nearest(towards, eligible, limit)
        rows, score = directions.nearest(towards, eligible, LOOKED_TIMES * limit)
        passes = self.where.passes(moment, rows)
        if np.count_nonzero(passes) >= limit or len(rows) < LOOKED_TIMES * limit:
            return rows[passes][:limit], score[passes][:limit]
        every = np.flatnonzero(eligible & (directions.scale[: len(eligible)] > 0.0)).astype(np.int32)
        for begin in range(0, len(every), ASKED_AT_ONCE):
            part = every[begin : begin + ASKED_AT_ONCE]
            eligible[part] = self.where.passes(moment, part)
        return directions.nearest(towards, eligible, limit)


def _powers(base: float, count: int) -> Score:
    """Return the powers of a number from the 0th on, by products alone: the same on every CPU."""
    found = np.empty(count, dtype=np.float32)
    value = 1.0
    for place in range(count):
        found[place] = value
        value *= base
    return found
