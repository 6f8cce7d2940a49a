"""Weights from item to item, whoever made them: a score is the sum of what each act of the history says of an item.

Any linear model of that form is served by it: what the fit finds are weights, and they are all that is left of it.

Reference: G. Linden, B. Smith, J. York. Amazon.com Recommendations: Item-to-Item Collaborative Filtering. IEEE
Internet Computing 7(1), 2003.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid
from midstream.core.types import Index, Score
from midstream.events.kernel import kernel
from midstream.models.histories import Histories
from midstream.models.model import Arrays, best_said
from midstream.models.vocabulary import ItemVocabulary

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_TYPES = {"start": "<i8", "row": "<i4", "weight": "<f4"}


@dataclass(frozen=True, slots=True, eq=False)
class ItemToItem:
    """Sparse weights: what an act on one item says of others."""

    vocabulary: ItemVocabulary
    start: NDArray[np.int64]
    """Where the weights of each item begin, and their number, (items + 1,)."""
    row: Index
    """The item that each weight is about, (weights,)."""
    weight: Score
    """Added to the score of that item for an act that weighs 1, (weights,)."""

    def scores(self, histories: Histories) -> Score:
        """Return a score for each history and item; see ``ItemModel``.

        Cost: the weights of the items acted on, 1 ns each: 30 acts of 500 weights are 15 µs.
        """
        found = np.zeros((len(histories), len(self.vocabulary)), dtype=np.float32)
        add_rows((histories.start, histories.row, histories.weight), (self.start, self.row, self.weight), found)
        return found

    def best(self, history: Histories, k: int) -> tuple[Index, Score]:
        """Return the k items of the highest scores of one history, best first; see ``ItemModel``.

        Left out are those of score 0: no act of the history has a weight that is about them.
        """
        return best_said(self.scores(history)[0], k)

    def arrays(self) -> Arrays:
        """Return all that was fitted but the vocabulary."""
        return {"start": self.start, "row": self.row, "weight": self.weight}

    @classmethod
    def of(cls, vocabulary: ItemVocabulary, weights: "csr_matrix") -> "ItemToItem":
        """Return a model of weights from item to item, (items, items), row by row."""
        return cls(
            vocabulary,
            weights.indptr.astype(np.int64),
            weights.indices.astype(np.int32),
            weights.data.astype(np.float32),
        )

    @classmethod
    def read(cls, vocabulary: ItemVocabulary, arrays: Mapping[str, NDArray[np.generic]]) -> "ItemToItem":
        """Return the model whose ``arrays`` these are.

        Raises:
            ArtifactInvalid: They are of other types or lengths, or name items that are not there.
        """
        for name, kind in _TYPES.items():
            if name not in arrays or arrays[name].dtype.str != kind or arrays[name].ndim != 1:
                message = f"{name} is missing, or no row of {kind}"
                raise ArtifactInvalid(message)
        start, row = arrays["start"].astype(np.int64, copy=False), arrays["row"].astype(np.int32, copy=False)
        weight = arrays["weight"].astype(np.float32, copy=False)
        fits = len(start) == len(vocabulary) + 1 and bool((np.diff(start) >= 0).all())
        if not fits or int(start[0]) != 0 or int(start[-1]) != len(row) or len(row) != len(weight):
            raise ArtifactInvalid("the weights are not those of the vocabulary's items")
        if len(row) and not (int(row.min()) >= 0 and int(row.max()) < len(vocabulary)):
            raise ArtifactInvalid("a weight is about an item that the vocabulary has not")
        return cls(vocabulary, start, row, weight)


@kernel
def add_rows(
    histories: tuple[NDArray[np.int64], Index, Score], matrix: tuple[NDArray[np.int64], Index, Score], found: Score
) -> None:
    """Add, for each history (start, row, weight), what its items say of others, act by act, to ``found``.

    One order of sums, so a history gets the same bits whoever is asked with it: a product of matrices may group them by
    the shape of what it is given. Items of histories are rows of the matrix, entries are about columns of ``found``.
    """
    at, row, act = histories
    start, other, weight = matrix
    for number in range(len(at) - 1):
        for place in range(at[number], at[number + 1]):
            item, factor = row[place], act[place]
            for entry in range(start[item], start[item + 1]):
                found[number, other[entry]] += factor * weight[entry]
