"""EASE: each item is a linear regression on the other items, in closed form.

With X of users × items, G = XᵀX and a ridge of lambda, the weights B with a diagonal of 0 that minimise
‖X − XB‖² + lambda‖B‖² are B_ij = −P_ij / P_jj for P = (G + lambda I)⁻¹. A history x is answered with xB.

P is as dense as n² and costs n³, so it is made up to ``exact_items_max`` items. In a larger catalogue the column of an
item is regressed on the ``support`` items that are most like it alone (cosine of the columns of X, of the items that
share a user with it), and is 0 elsewhere: the solution of the same problem with the same ridge where B may only be
other than 0 there, so where all items share users and the support is all, it is EASE to the last digits. It differs
from the blocks of Steck (2019) in that each item has a support of its own: nothing has to be put together afterwards.

``dropout`` adds p / (1 − p) · G_ii to the diagonal: what training a denoising autoencoder with a share p of dropped
inputs comes to (Steck 2020, equation 9), a ridge that grows with the popularity of the item. ``user_power`` a divides
what a user says by (sum of their weights)ᵃ, so that those who act most do not decide all: 0 is EASE as published.

The regression of an item has a solution of its own, so to weigh the acts on it otherwise changes nothing: what is
popular is counted less in the answer, as scores over (users who acted on the item)ᵇ, b being ``item_power``.

Reference: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, equation 8; Steck, "Markov Random
    Fields for Collaborative Filtering", NeurIPS 2019, section 3 (sparse approximation); Steck, "Autoencoders that don't
    overfit towards the Identity", NeurIPS 2020; Ning and Karypis, "SLIM: Sparse Linear Methods for Top-N Recommender
    Systems", ICDM 2011, section 4 (regression on the most similar items, fsSLIM); Paudel, Christoffel, Newell,
    Bernstein, "Updatable, Accurate, Diverse, and Scalable Recommendations for Interactive Applications", ACM TiiS 2017,
    equation 5 (scores over a power of the popularity).
"""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from midstream.core.errors import Fault, Invalid
from midstream.core.types import Index
from midstream.events.kernel import kernel
from midstream.models.histories import Interactions
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.items.item_weights import limited, strongest
from midstream.models.model import QUIET, Watch, best_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Real = NDArray[np.float64]
_ROWS = 512
"""Items between two looks at whether to stop: about a second's work."""
_NO_SOLUTION = Fault(
    "$.regularization", "a ridge too small for a solution", "more than 0, about 50 to 500", "/docs/models.md"
)


class EaseOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How each item is regressed on the others."""

    regularization: Annotated[float, Meta(gt=0, le=1e12)] = 100.0
    """Ridge lambda, more than 0, in units of what an item has in common with itself: about its number of users."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Share of a history that a prediction shall do without, 0 to less than 1: more = what popular items say weighs
    less. What is listed is then rather more popular; ``item_power`` makes it less so."""
    user_power: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Users are divided by this power of the sum of their weights: 0 = all acts weigh the same, 0.5 = all users do."""
    item_power: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Scores are divided by this power of how many users acted on the item: more = what is listed is less popular."""
    support: Annotated[int, Meta(ge=1, le=2000)] = 200
    """Items that an item is regressed on, where the catalogue is too large for all; an item costs its cube: 2,000 are a
    second each."""
    kept_max: Annotated[int, Meta(ge=1)] = 500
    """Largest entries kept of each item's row: what an act may cost at request time."""
    exact_items_max: Annotated[int, Meta(ge=0, le=40_000)] = 12_500
    """Up to so many items all are regressed on all: 8 bytes · n², once for the inverse and once while it is made: at
    12,500 items 2.5 GB, and n³ = 2·10¹² steps, a minute of two cores."""


def fit_ease(data: Interactions, options: EaseOptions, watch: Watch = QUIET) -> ItemToItem:
    """Return the regression of each item on the others. The same data and options give the same weights.

    Cost: up to ``exact_items_max`` items n³; above, items · support³ / 3 for the solutions and as much again for what
    they are made of: 43 s of processor time for 40,981 items (Gowalla), 53 s for 38,048 (Yelp2018), 200 each. Memory
    8 bytes for each pair of items that a user has in common (Gowalla 0.5 GB).

    Raises:
        FitStopped: The watch said so.
        Invalid: The ridge is too small for a solution.
    """
    item_count = len(data.vocabulary)
    watch.step("what items have in common", 0.0)
    acts = data.histories.matrix(item_count)
    shared = _shared(acts, options)
    rarity = _rarity(acts, options.item_power)
    ridge = options.regularization + options.dropout / (1 - options.dropout) * shared.diagonal()
    if item_count <= options.exact_items_max:
        weights = _exact(shared.toarray(), (ridge, rarity), options, watch)
    else:
        weights = _sparse(shared, (ridge, rarity), options, watch)
    return ItemToItem.of(data.vocabulary, weights)


def _rarity(acts: "csr_matrix", power: float) -> Real:
    """Return what the score of each item is multiplied with, (items,): 1 on average."""
    often = np.maximum(np.bincount(acts.indices, minlength=acts.shape[1]), 1).astype(np.float64)
    found: Real = often**-power
    return found / found.mean() if len(found) else found


def _shared(acts: "csr_matrix", options: EaseOptions) -> "csr_matrix":
    """Return G of users × items, each user divided as the options say, float64 in canonical form."""
    from scipy.sparse import diags

    total = np.asarray(acts.sum(axis=1), dtype=np.float64).ravel()
    divided = np.power(total, -options.user_power, out=np.zeros_like(total), where=total > 0)
    scaled = (diags(divided) @ acts.astype(np.float64)).tocsr()
    found: csr_matrix = (scaled.T @ scaled).tocsr()
    found.sort_indices()
    return found


def _exact(shared: Real, of_items: tuple[Real, Real], options: EaseOptions, watch: Watch) -> "csr_matrix":
    """Return B from the inverse of G. ``shared`` (n, n) is overwritten; of items are ridge and rarity."""
    from scipy.linalg import lapack
    from scipy.sparse import csr_matrix, vstack

    ridge, rarity = of_items
    item_count = len(shared)
    shared[np.diag_indices(item_count)] += ridge
    watch.step("inverse of all", 0.1)
    # In place, and the upper half alone: the inverse of what is positive definite is symmetric.
    factor, failed = lapack.dpotrf(shared.T, lower=1, overwrite_a=1)
    inverse, failed_too = lapack.dpotri(factor, lower=1, overwrite_c=1)
    if failed or failed_too:
        raise Invalid((_NO_SOLUTION,))
    scale = -rarity / np.diag(inverse)
    blocks: list[csr_matrix] = []
    for begin in range(0, item_count, _ROWS):
        watch.step("weights kept", 0.6 + 0.4 * begin / item_count)
        end = min(begin + _ROWS, item_count)
        # Row i of the whole is row i of the lower half up to the diagonal, and its column from there.
        rows = np.tril(inverse[begin:end], k=begin)[:, :item_count] + np.triu(inverse[:, begin:end].T, k=begin + 1)
        rows *= scale
        rows[np.arange(end - begin), np.arange(begin, end)] = 0.0
        blocks.append(strongest(rows.astype(np.float32), options.kept_max))
    return csr_matrix(vstack(blocks))


def _sparse(shared: "csr_matrix", of_items: tuple[Real, Real], options: EaseOptions, watch: Watch) -> "csr_matrix":
    """Return B with each column other than 0 on the items most like its own alone; of items are ridge and rarity."""
    from scipy.linalg import lapack
    from scipy.sparse import csr_matrix

    ridge, rarity = of_items
    item_count = shared.shape[0]
    supports = np.full((item_count, min(options.support, item_count - 1)), -1, dtype=np.int32)
    values = np.zeros(supports.shape, dtype=np.float32)
    start, other = shared.indptr.astype(np.int64), np.asarray(shared.indices, dtype=np.int32)
    own = np.asarray(shared.diagonal(), dtype=np.float64)
    for item in range(item_count):
        if item % _ROWS == 0:
            watch.step("each item on those like it", 0.1 + 0.8 * item / item_count)
        support, together = _support(shared, own, item, options.support)
        if not len(support):
            continue
        system = np.empty((len(support), len(support)), dtype=np.float64)
        _gather((start, other, shared.data), support, system)
        system[np.diag_indices(len(support))] += ridge[support]
        # A positive definite system: half the work of a general one.
        _, solution, failed = lapack.dposv(system, together, lower=1, overwrite_a=1)
        if failed:
            raise Invalid((_NO_SOLUTION,))
        supports[item, : len(support)] = support
        values[item, : len(support)] = solution * rarity[item]
    watch.step("weights kept", 0.95)
    target = np.broadcast_to(np.arange(item_count, dtype=np.int32)[:, None], supports.shape)
    there = supports >= 0
    entries = (values[there], (supports[there], target[there]))
    return limited(csr_matrix(entries, shape=shared.shape), options.kept_max)


def _support(shared: "csr_matrix", own: Real, item: int, count: int) -> tuple[Index, Real]:
    """Return the items most like one by cosine, ascending, and what each shares with it, both (count,) at most."""
    begin, end = shared.indptr[item], shared.indptr[item + 1]
    others = np.asarray(shared.indices[begin:end], dtype=np.int32)
    together = np.asarray(shared.data[begin:end], dtype=np.float64)
    likeness = np.where(others == item, -np.inf, together / np.sqrt(own[others])).astype(np.float32)
    chosen = np.sort(best_of(likeness, count))
    return others[chosen], together[chosen]


@kernel
def _gather(shared: tuple[NDArray[np.int64], Index, Real], chosen: Index, found: Real) -> None:
    """Write the entries of a sparse symmetric matrix, ascending in each row, for some items, ascending, to both halves.

    Each row is searched from where the last item was found: the items are ascending as the entries are.
    """
    start, other, value = shared
    for row in range(len(chosen)):
        begin, end = start[chosen[row]], start[chosen[row] + 1]
        for column in range(row, len(chosen)):
            wanted = chosen[column]
            low, high = begin, end
            while low < high:
                middle = (low + high) // 2
                if other[middle] < wanted:
                    low = middle + 1
                else:
                    high = middle
            begin = low
            entry = value[low] if low < end and other[low] == wanted else 0.0
            found[row, column] = entry
            found[column, row] = entry
