"""Model source: proposes items by a fitted item model of any kind, from the user's history up to the last click.

The model is as old as its training; the history is current: the user's last acts, the session and the request's own
items. So a click after the training counts, and so does a user that the training did not have. A model's rows and the
state's indices are joined by the 64-bit hash of the id: unknown items of either side are left out, and no answer
depends on the order in which items came.

The kinds differ in their fit (``models``), not in their answers, so they share this module. Each has a name of its own,
for answers and metrics, and takes the models that ``SERVES`` names.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import SourceUnavailable
from midstream.core.field_bounds import Name
from midstream.core.traits import PROPOSES, Traits
from midstream.core.types import Index, Moment, Proposal
from midstream.models.descriptions import description_of
from midstream.models.histories import Histories
from midstream.models.items.content import ContentModel, UnknownActs, Vector
from midstream.models.items.item_contributions import act_parts
from midstream.models.model import best_said, is_item_model
from midstream.models.vocabulary import ItemVocabulary
from midstream.retrieval.evidence import NOTHING, Evidence, strongest
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items
from midstream.state.settings import WEIGHT_MAX
from midstream.state.users.recent_items import NO_ITEMS, last_acts

HISTORY_ITEMS_MAX = 50
"""Acts of a history: the number kept of each user, and of each session."""
ASKED_AGAIN_MIN = 1_000
"""Items of the second query of a model, where too few of the first can be served; then ``ASKED_TIMES`` as many."""
NEW_ITEMS_MAX = 500
"""Newest items of the catalogue that a content model proposes although they came after its training: about a day's
new items of a shop of 200,000 that keeps each for a year. Where more come, trainings have to be more frequent."""
ASKED_TIMES = 4
ASKED_MAX = 64_000
"""Maximum of a query: 1,000, 4,000, 16,000, 64,000 after the limit, so five queries at most. A shop that cannot
serve the 64,000 best items needs a newer model; other sources answer meanwhile."""

LIMIT_MAX = 10_000
"""Items that one source proposes: five times what any scorer ranks in time."""
ActionWeights = dict[str, Annotated[float, msgspec.Meta(gt=0, le=WEIGHT_MAX)]]
"""By action; acts of weight 0 are left out."""
Best = Callable[[int], tuple[Index, NDArray[np.float32]]]
"""The k best rows of a model for one history, and their scores."""


class ItemModelSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Items with the highest scores of a model for the user's history.

    A model without a published version proposes nothing, which is no failure: the shop is new, and the answer of the
    other sources is full.
    """

    model: str
    """Name of one of the configured models."""
    name: Name = "model"
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] = 100
    history_items_max: Annotated[int, msgspec.Meta(ge=1)] = HISTORY_ITEMS_MAX
    """Number of last acts in the model's input."""
    allow_history_items: bool = False
    """Whether items of the history may be proposed; ``repeats`` decides what may be served."""
    actions: ActionWeights = {}
    """Weights of the user's acts; empty = those of the training."""

    @property
    def model_names(self) -> tuple[str, ...]:
        """The model that it reads."""
        return (self.model,)

    def retrieve(self, moment: Moment) -> Proposal:
        """Return the items, best first; none without a history. Cost: that of the model's ``best``, and about 50 µs.

        Where too few of the best can be served the model is queried for more, up to ``ASKED_MAX``, five times at most.

        Raises:
            SourceUnavailable: The model of that name is of a kind that does not score items.
        """
        model = moment.models.by_name.get(self.model)
        if model is None:
            return _NOTHING
        if not is_item_model(model):
            message = f"the model {self.model} does not score items"
            raise SourceUnavailable(message)
        vocabulary = moment.table(Vocabulary)
        item_index, weight = last_acts(moment, self.actions, self.history_items_max)
        row = model.vocabulary.under(vocabulary.id_key).rows_of(vocabulary.item_hash[item_index])
        known = row >= 0
        if not known.any():
            return _NOTHING
        one = Histories(row[known], weight[known], np.array([0, np.count_nonzero(known)], dtype=np.int64))
        return self._best(model.vocabulary, one.row, lambda k: model.best(one, k), moment)

    def why(self, moment: Moment, item_index: Index) -> tuple[Evidence, ...]:
        """Return the share of each act of the history in each item's score, where the model is a sum over acts."""
        model = moment.models.by_name.get(self.model)
        nothing = (NOTHING,) * len(item_index)
        if model is None or not is_item_model(model):
            return nothing
        vocabulary = moment.table(Vocabulary)
        acted, weight = last_acts(moment, self.actions, self.history_items_max)
        row = model.vocabulary.under(vocabulary.id_key).rows_of(vocabulary.item_hash[acted])
        wanted = model.vocabulary.under(vocabulary.id_key).rows_of(vocabulary.item_hash[item_index])
        known = row >= 0
        if not known.any():
            return nothing
        one = Histories(row[known], weight[known], np.array([0, np.count_nonzero(known)], dtype=np.int64))
        parts = act_parts(model, one, np.maximum(wanted, 0))
        if parts is None:
            return nothing
        items = vocabulary.item_indices_of_hashes(model.vocabulary.under(vocabulary.id_key).hashes[parts.row])
        found = strongest(items, parts.values)
        is_known = (wanted >= 0).tolist()
        return tuple(each if known else NOTHING for each, known in zip(found, is_known, strict=True))

    def _best(self, vocabulary: ItemVocabulary, row: Index, best: Best, moment: Moment) -> Proposal:
        """Return the best items that can be served, and unless they are wanted none of the history, of these rows."""
        seen = np.unique(row)
        k = self.limit + len(seen)
        while True:
            rows, score = best(k)
            is_all = len(rows) < k or k >= ASKED_MAX
            if not self.allow_history_items:
                rows, score = _where(~np.isin(rows, seen), rows, score)
            found = _servable(vocabulary, rows, score, moment)
            if is_all or len(found.item_index) >= self.limit:
                return Proposal(found.item_index[: self.limit], found.score[: self.limit])
            k = min(max(ASKED_AGAIN_MIN, ASKED_TIMES * k), ASKED_MAX)


class Als(ItemModelSource, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="als", kw_only=True):
    """Matrix factorization: the user's vector is solved for at request time."""

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "als"


class Ease(ItemModelSource, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="ease", kw_only=True):
    """A linear autoencoder: each item of the history adds its row of item-to-item weights."""

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "ease"


class Graph(ItemModelSource, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="graph", kw_only=True):
    """A filter on the graph of users and items."""

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "graph"


class Sequence(
    ItemModelSource, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sequence", kw_only=True
):
    """A model of the order in which items follow each other."""

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "sequence"


class Content(ItemModelSource, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="content", kw_only=True):
    """Items whose attributes and texts are similar to those of the history.

    Among them are the newest of the catalogue that came after the training: their attributes are read at that moment,
    so an item is proposed as soon as its item event is folded.
    """

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "content"

    def retrieve(self, moment: Moment) -> Proposal:
        """Return the items, best first; none without a history.

        Cost: as of any item model, and 0.3 ms for 500 new items with cached vectors.

        Raises:
            SourceUnavailable: As of any.
        """
        model = moment.models.by_name.get(self.model)
        if not isinstance(model, ContentModel):
            return ItemModelSource.retrieve(self, moment)
        vocabulary, items = moment.table(Vocabulary), moment.table(Items)
        acted, weight = last_acts(moment, self.actions, self.history_items_max)
        row = model.vocabulary.under(vocabulary.id_key).rows_of(vocabulary.item_hash[acted])
        newest, _ = items.newest()
        new = newest[model.vocabulary.under(vocabulary.id_key).rows_of(vocabulary.item_hash[newest]) < 0][
            :NEW_ITEMS_MAX
        ]
        new = new[items.available[new]]
        is_known = row >= 0
        if is_known.all() and not len(new):
            return ItemModelSource.retrieve(self, moment)
        known = row[is_known]
        one = Histories(known, weight[is_known], np.array([0, len(known)], dtype=np.int64))
        further = UnknownActs(_vectors(model, items, acted[~is_known]), weight[~is_known])
        own, score = model.scores_beside(one, further, _vectors(model, items, new))
        proposed = self._best(model.vocabulary, known, lambda k: best_said(own, k), moment)
        is_said = (score != 0.0) & (self.allow_history_items | ~np.isin(new, acted))
        both = np.concatenate([proposed.item_index, new[is_said]])
        scores = np.concatenate([proposed.score, score[is_said]])
        order = np.argsort(-scores, kind="stable")[: self.limit]
        return Proposal(both[order], scores[order])


class TwoTower(
    ItemModelSource, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="two_tower", kw_only=True
):
    """Vectors of users and of items from two networks."""

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "two_tower"


class Hybrid(ItemModelSource, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="hybrid", kw_only=True):
    """A blend of models: the weighted sum of several models' scores of the same history."""

    traits: ClassVar[Traits] = PROPOSES
    name: Name = "hybrid"


AnyItemModelSource = Als | Ease | Graph | Sequence | Content | TwoTower | Hybrid
SERVES: Mapping[str, tuple[str, ...]] = {
    "als": ("als", "bpr", "svd"),
    "ease": ("ease", "item_knn", "rp3beta", "item_to_item"),
    "graph": ("graph_filter",),
    "sequence": ("sasrec",),
    "content": ("content",),
    "two_tower": ("two_tower",),
    "hybrid": ("blend",),
}
"""Kinds of models for each kind of source; a kind of model that is in no list works with any."""
_NOTHING = Proposal(NO_ITEMS, np.empty(0, dtype=np.float32))


def _servable(vocabulary: ItemVocabulary, rows: Index, score: NDArray[np.float32], moment: Moment) -> Proposal:
    """Return the items of some rows that can be served, in their order."""
    known = moment.table(Vocabulary)
    item_index = known.item_indices_of_hashes(vocabulary.under(known.id_key).hashes[rows])
    servable = item_index >= 0
    servable[servable] = moment.table(Items).available[item_index[servable]]
    return Proposal(item_index[servable], score[servable])


def _where(keep: NDArray[np.bool_], item: Index, score: NDArray[np.float32]) -> tuple[Index, NDArray[np.float32]]:
    return item[keep], score[keep]


def _vectors(model: ContentModel, items: Items, item_index: Index) -> list[Vector]:
    """Return the vectors of items that are not in the model, from their current attributes."""
    declared, indices = items.declared, item_index.tolist()
    return model.vectors_of(
        [items.document_text(index) for index in indices],
        declared,
        lambda place: description_of(items.document(indices[place]), dict(declared)),
    )
