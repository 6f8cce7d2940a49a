"""Contributions of each act of a history to the scores of an item model.

Item-to-item weights are a sum over the acts, and so is ALS: with A the matrix of the user's equations, the score of an
item i is Σ over the acts j of c_j · y_i · A⁻¹ y_j (Hu et al., section 5). Both add up to the score. For other models
with vectors the products of the items' own vectors are returned, which order acts by similarity and do not add up.

Reference: Y. Hu, Y. Koren, C. Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008, section 5.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.models.histories import Histories
from midstream.models.items.als import AlsModel
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.kernels.top_n import FactorModel
from midstream.models.model import ItemModel


@dataclass(frozen=True, slots=True, eq=False)
class ActParts:
    """Contributions of the acts of one history to some items."""

    row: Index
    """Row of the item of each act in the vocabulary, each once, (m,)."""
    values: NDArray[np.float64]
    """(m, n)."""
    is_exact: bool
    """Whether the column of an item adds up to its score."""


def act_parts(model: ItemModel, history: Histories, rows: Index) -> ActParts | None:
    """Return the contribution of each act of one history to some items; None = not available for such a model.

    Args:
        model: Any item model.
        history: One.
        rows: Items of the model's vocabulary, (n,). Cost: that of an answer at most.
    """
    acts, place = np.unique(history.row, return_inverse=True)
    weight = np.zeros(len(acts))
    np.add.at(weight, place, history.weight.astype(np.float64))
    acts = acts.astype(np.int32)
    if isinstance(model, ItemToItem):
        return ActParts(acts, weight[:, None] * _weights(model, acts, rows), is_exact=True)
    if isinstance(model, AlsModel):
        return ActParts(acts, _als(model, history, acts, rows), is_exact=True)
    if isinstance(model, FactorModel):
        vectors = model.item_vectors().astype(np.float64, copy=False)
        return ActParts(acts, weight[:, None] * (vectors[acts] @ vectors[rows].T), is_exact=False)
    return None


def _weights(model: ItemToItem, acts: Index, rows: Index) -> NDArray[np.float64]:
    """Return what each act says of each item, (acts, rows)."""
    found = np.zeros((len(acts), len(rows)))
    for number, act in enumerate(acts.tolist()):
        about = model.row[model.start[act] : model.start[act + 1]]
        own = np.zeros(len(model.vocabulary))
        np.add.at(own, about, model.weight[model.start[act] : model.start[act + 1]].astype(np.float64))
        found[number] = own[rows]
    return found


def _als(model: AlsModel, history: Histories, acts: Index, rows: Index) -> NDArray[np.float64]:
    """Return what each act adds to the product of the user that is solved for and each item, (acts, rows)."""
    confidence, diagonal = model.equations(history)
    own = model.item_factors[acts].astype(np.float64)
    matrix = np.diag(diagonal) + (own.T * confidence) @ own
    return confidence[:, None] * (own @ np.linalg.solve(matrix, model.item_factors[rows].T.astype(np.float64)))
