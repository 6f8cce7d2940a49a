"""Item-kNN: items are scored by their cosine similarity to the items of the history.

With x_i the column of an item, over users, the weight of an act on i for j is

    W_ij = x_i·x_j / (|x_i| |x_j| + h)

for the ``neighbours_max`` items of each i for which it is largest, and 0 for all others and for i itself. The shrinkage
h lowers similarities with few acts. With ``tfidf`` the acts of users are weighted before: the root of each, times
ln(items / (1 + items of the user)), so very active users count less.

Reference: B. Sarwar, G. Karypis, J. Konstan, J. Riedl, "Item-Based Collaborative Filtering Recommendation Algorithms",
WWW 2001 (cosine); M. Deshpande, G. Karypis, "Item-Based Top-N Recommendation Algorithms", ACM TOIS 22(1), 2004; R.
Bell, Y. Koren, "Improved Neighborhood-based Collaborative Filtering", KDD Cup 2007, section 3 (shrinkage).
"""

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from msgspec import Meta, Struct

from midstream.core.types import Index
from midstream.models.histories import Interactions
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.items.item_weights import Real, strongest_products
from midstream.models.model import QUIET, Watch

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class ItemKnnOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of the similarity."""

    neighbours_max: Annotated[int, Meta(ge=1)] = 100
    """Items most like it that are kept of each: what an act may cost at request time, and 8 bytes each of memory."""
    shrinkage: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    """h, in what the acts weigh: more = what rests on few acts is less alike."""
    weighting: Literal["none", "tfidf"] = "none"
    """How acts are weighted before."""


def fit_item_knn(data: Interactions, options: ItemKnnOptions, watch: Watch = QUIET) -> ItemToItem:
    """Return the items most like each; the same data and options give the same weights.

    Cost: time of the sum of the squares of what each user acted on; memory of a block of 512 items, and what is kept.

    Raises:
        FitStopped: ``watch`` said so.
    """
    from scipy.sparse import csr_matrix

    acts = data.histories.matrix(len(data.vocabulary)).astype(np.float64)
    if options.weighting == "tfidf":
        acts = _weighted(acts)
    length = np.sqrt(np.asarray(acts.multiply(acts).sum(axis=0), dtype=np.float64).ravel())

    def scale(value: Real, row: Index, column: Index) -> Real:
        # Columns without acts have no entries, so no length here is 0, but where a weighting made it so.
        below = length[row] * length[column] + options.shrinkage
        found: Real = value / np.where(below > 0, below, 1.0)
        return found

    weights = strongest_products(csr_matrix(acts.T.tocsr()), acts, scale, options.neighbours_max, watch)
    return ItemToItem.of(data.vocabulary, weights)


def _weighted(acts: "csr_matrix") -> "csr_matrix":
    """Return acts of users (users, items) by how rare an act of theirs is."""
    count = np.diff(acts.indptr)
    # One who acted on everything says nothing, and never the opposite.
    rarity = np.maximum(np.log(acts.shape[1]) - np.log1p(count), 0.0)
    found = acts.copy()
    found.data = np.sqrt(found.data) * np.repeat(rarity, count)
    return found
