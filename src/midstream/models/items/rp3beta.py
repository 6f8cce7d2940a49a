"""RP3β: a random walk of three steps from the user, with a penalty for popular items.

From a user the walk goes to one of their items, to one of its users, to one of theirs: with X of users × items, degrees
d_u and d_i the sums of its rows and columns, and each probability to the power of α,

    W_ij = Σ_u (X_ui / d_i)^α (X_uj / d_u)^α / d_j^β,      scores = xW

with a diagonal of 0. β = 0 is P3α. The published score divides x by its sum and takes it to the power of α too; for
acts that all weigh the same that is one positive factor, which orders nothing.

Reference: C. Cooper, S. H. Lee, T. Radzik, Y. Siantos, "Random Walks in Recommender Systems: Exact Computation and
Simulations", WWW 2014 (P3α); B. Paudel, F. Christoffel, C. Newell, A. Bernstein, "Updatable, Accurate, Diverse, and
Scalable Recommendations for Interactive Applications", ACM TiiS 7(1), 2017, section 4 (RP3β).
"""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from msgspec import Meta, Struct

from midstream.core.types import Index
from midstream.models.histories import Interactions
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.items.item_weights import Real, strongest_products
from midstream.models.model import QUIET, Watch

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class Rp3betaOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The walk."""

    alpha: Annotated[float, Meta(ge=0, le=4)] = 1.0
    """Power of the probability of a step: more = strong ties count more."""
    beta: Annotated[float, Meta(ge=0, le=4)] = 0.6
    """Power of the degree of the item that a walk ends at: more = popular items come later."""
    kept_max: Annotated[int, Meta(ge=1)] = 200
    """Largest entries kept of each item's row: what an act may cost at request time, and 8 bytes each of memory."""


def fit_rp3beta(data: Interactions, options: Rp3betaOptions, watch: Watch = QUIET) -> ItemToItem:
    """Return the walk over what users did; the same data and options give the same weights.

    Cost: time of the sum of the squares of what each user acted on; memory of a block of 512 items, and what is kept.

    Raises:
        FitStopped: ``watch`` said so.
    """
    from scipy.sparse import csr_matrix

    acts = data.histories.matrix(len(data.vocabulary)).astype(np.float64)
    held_back = _degrees(acts, 0) ** options.beta

    def scale(value: Real, _row: Index, column: Index) -> Real:
        found: Real = value / held_back[column]
        return found

    to_users, to_items = (_steps(each, options.alpha) for each in (csr_matrix(acts.T.tocsr()), acts))
    weights = strongest_products(to_users, to_items, scale, options.kept_max, watch)
    return ItemToItem.of(data.vocabulary, weights)


def _degrees(acts: "csr_matrix", axis: int) -> Real:
    """Return sums of acts; 1 where there are none, so that nothing is divided by 0."""
    found = np.asarray(acts.sum(axis=axis), dtype=np.float64).ravel()
    return np.where(found > 0, found, 1.0)


def _steps(acts: "csr_matrix", alpha: float) -> "csr_matrix":
    """Return the probability of each step from a row to a column, to a power."""
    found = acts.copy()
    found.data = (found.data / np.repeat(_degrees(acts, 1), np.diff(found.indptr))) ** alpha
    return found
