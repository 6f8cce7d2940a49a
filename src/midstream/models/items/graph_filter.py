"""Graph filter: smooths a history over the graph of users and items, in closed form and without training.

With X of users × items, R = D_u⁻ᵃ X D_i⁻ᵇ scaled to a largest singular value of 1, and P = RᵀR, a history x scores

    (xP + beta · x D_i⁻ᶜ V Vᵀ D_iᶜ) · q(P),      q(P) = the step of length T of dy/dt = −yP

where V are the right singular vectors of the ``factors`` largest singular values: the first term is a linear filter of
the graph, the second an ideal low-pass filter, q sharpens what they blurred. T = 0 is GF-CF (Shen et al. 2021, with a =
b = c = 0.5 its equation 16), T > 0 is BSPM with one step of each (Choi et al. 2023, equations 7 to 9), whose step of a
Runge-Kutta method of order 4 is q(P) = 1 − TP + (TP)²/2 − (TP)³/6 + (TP)⁴/24.

q(P) costs four more products with P for each question, or a dense matrix. Here q is exact on the span of V, where it
differs from 1, and the number q(least kept eigenvalue / 2) on the rest, where the eigenvalues of P are small: so all of
it is one item-item matrix, a sparse part and a product of factors. The largest entries of each row are kept, and a
question is a sum of rows (``ItemToItem``): microseconds where the formula takes tens of milliseconds. The matrix holds
no user, so what it says of one is gone with the next fit, as everything else that is learned.

Singular vectors come from a randomized subspace iteration, the same for the same seed on the same machine.

Reference: Shen et al., "How Powerful is Graph Convolution for Recommendation?", CIKM 2021; Choi et al., "Blurring-
    Sharpening Process Models for Collaborative Filtering", SIGIR 2023; Halko, Martinsson and Tropp, "Finding Structure
    with Randomness", SIAM Review 2011, algorithm 4.4 (subspace iteration).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from midstream.core.types import Score
from midstream.models.histories import Interactions
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.items.item_weights import limited, strongest
from midstream.models.model import QUIET, Watch

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Real = NDArray[np.float64]
_ROWS = 512
"""Rows of the dense matrix that are made at a time: 512 · 4 bytes an item, 84 MB of 41,000 items."""
_PIECE = 8_192
"""Rows whose products are summed at a time: 288 columns of float64 are 19 MB."""
_DEPENDENT = 1e-10
"""Of the largest square of a length: what is below it is rounding, since float32 has 1.2e-7 of a length. Squares are
summed in float64. In float32 they are unsure by 1e-7 of the largest, and a vector that is there would be lost."""


class GraphFilterOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The filter."""

    factors: Annotated[int, Meta(ge=1, le=4096)] = 256
    """Singular vectors of the low-pass filter; fewer where there are not as many users or items."""
    low_pass: Annotated[float, Meta(ge=0, le=1e6)] = 0.3
    """Weight beta of the low-pass filter: 0 = the linear filter alone."""
    sharpening: Annotated[float, Meta(ge=0, le=2.7)] = 0.0
    """Length T of the sharpening step: 0 = none (GF-CF), up to 2.7, from where the step overshoots."""
    user_power: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """Exponent a of a user's sum of weights: more = those who act much count less."""
    item_power: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """Exponent b of an item's sum of weights: more = popular items are less alike to all."""
    low_pass_power: Annotated[float, Meta(ge=-1, le=1)] = 0.5
    """Exponent c of an item's sum of weights in the low-pass filter: more = popular items come first."""
    kept_max: Annotated[int, Meta(ge=1)] = 500
    """Largest entries kept of each item's row: what an act may cost at request time, and 8 bytes each of memory."""
    iterations: Annotated[int, Meta(ge=1, le=100)] = 6
    """Products with P that the singular vectors are found by."""
    seed: Annotated[int, Meta(ge=0)] = 0
    """Of the random vectors they are begun with."""


def fit_graph_filter(data: Interactions, options: GraphFilterOptions, watch: Watch = QUIET) -> ItemToItem:
    """Return the filter of what users did. The same data, options and seed give the same weights.

    Cost: ``iterations`` · (acts · factors + items · factors²) for the vectors and 4 · items² · factors for the matrix,
    a block at a time; memory 8 bytes · items · (4 · factors + kept).

    Raises:
        FitStopped: The watch said so.
    """
    from scipy.sparse import csr_matrix, vstack

    item_count = len(data.vocabulary)
    acts = data.histories.matrix(item_count)
    popularity = np.asarray(acts.sum(axis=0), dtype=np.float64).ravel()
    graph = _normalised(acts, popularity, options)
    vectors, values = _singular(graph, options, watch)
    if not len(values):
        return ItemToItem.of(data.vocabulary, limited(csr_matrix(graph.T @ graph), 0))
    graph = graph / np.float32(values[0])
    factored = _factored(vectors, (values / values[0]) ** 2, popularity, options)
    blocks: list[csr_matrix] = []
    across = graph.T.tocsr()
    for begin in range(0, item_count, _ROWS):
        watch.step("the filter", 0.4 + 0.6 * begin / item_count)
        part = slice(begin, min(begin + _ROWS, item_count))
        rows = (across[part] @ graph).toarray()
        rows *= factored.rest
        rows += factored.left[part] @ factored.right
        blocks.append(strongest(rows, options.kept_max))
    return ItemToItem.of(data.vocabulary, csr_matrix(vstack(blocks)))


@dataclass(frozen=True, slots=True, eq=False)
class _Factored:
    """The filter as ``rest`` · P + left · right."""

    rest: np.float32
    left: Score
    """(items, 2 · factors)"""
    right: Score
    """(2 · factors, items)"""


def sharpened(eigenvalues: Real, length: float) -> Real:
    """Return q of eigenvalues (n,) of P: one step of a Runge-Kutta method of order 4."""
    step = length * eigenvalues
    return 1.0 - step + step**2 / 2.0 - step**3 / 6.0 + step**4 / 24.0


def _normalised(acts: "csr_matrix", popularity: Real, options: GraphFilterOptions) -> "csr_matrix":
    """Return R of users × items but for its scale, float32."""
    from scipy.sparse import csr_matrix, diags

    activity = np.asarray(acts.sum(axis=1), dtype=np.float64).ravel()
    left, right = _power(activity, -options.user_power), _power(popularity, -options.item_power)
    return csr_matrix(diags(left) @ acts @ diags(right), dtype=np.float32)


def _power(sums: Real, exponent: float) -> Real:
    """Return a power of sums (n,), 0 where there is nothing."""
    return np.power(sums, exponent, out=np.zeros_like(sums), where=sums > 0)


def _singular(graph: "csr_matrix", options: GraphFilterOptions, watch: Watch) -> tuple[Score, Real]:
    """Return right singular vectors (items, d) and the singular values (d,), largest first and all above 0.

    Each round multiplies by P and makes the result orthonormal by its Gram matrix, which is half the work of a QR
    factorisation; columns that depend on the others are left out.
    """
    from scipy.linalg import eigh

    users, items = graph.shape
    count = min(options.factors, users, items)
    # A few more than asked, for those that are asked to be right (Halko et al., section 4.2).
    width = min(count + 32, users, items)
    found = np.random.default_rng(options.seed).standard_normal((items, width)).astype(np.float32)
    across = graph.T.tocsr()
    for number in range(options.iterations):
        watch.step("singular vectors", 0.4 * number / options.iterations)
        found = _orthonormal(across @ (graph @ found))
    squares, turned = eigh(products_of(graph @ found))
    order = np.argsort(-squares, kind="stable")[:count]
    kept = order[squares[order] > _DEPENDENT * squares.max(initial=0.0)]
    return found @ turned[:, kept].astype(np.float32), np.sqrt(squares[kept])


def _orthonormal(columns: Score) -> Score:
    """Return an orthonormal basis of what columns (n, d) span, (n, at most d)."""
    # Twice: what rounding leaves of the dependence is gone after the second.
    return _whitened(_whitened(columns))


def _whitened(columns: Score) -> Score:
    """Return combinations of columns (n, d) whose products with each other are those of unit vectors, about."""
    from scipy.linalg import eigh

    squares, turned = eigh(products_of(columns))
    kept = squares > _DEPENDENT * squares.max(initial=0.0)
    found: Score = columns @ (turned[:, kept] / np.sqrt(squares[kept])).astype(np.float32)
    return found


def products_of(columns: Score) -> Real:
    """Return the products of columns (n, d) with each other, (d, d), in float64.

    They are added up by pieces of rows, so that users × d numbers are not copied to float64 at once.
    """
    found = np.zeros((columns.shape[1], columns.shape[1]))
    for begin in range(0, len(columns), _PIECE):
        exact = columns[begin : begin + _PIECE].astype(np.float64)
        found += exact.T @ exact
    return found


def _factored(vectors: Score, eigenvalues: Real, popularity: Real, options: GraphFilterOptions) -> _Factored:
    """Return the filter for vectors (items, d) and the eigenvalues (d,) of P, largest first."""
    gain = sharpened(eigenvalues, options.sharpening)
    rest = float(sharpened(eigenvalues[-1:] / 2.0, options.sharpening)[0])
    linear = (eigenvalues * (gain - rest)).astype(np.float32)[:, None] * vectors.T
    # V'D times q(P) = V'D + (V'D V)(q - 1)V', exact: what is outside the span of V keeps its size.
    turned = vectors.T * _power(popularity, options.low_pass_power).astype(np.float32)
    lost = (gain - 1.0).astype(np.float32)
    passed = turned + ((turned @ vectors) * lost) @ vectors.T
    weighted = vectors * _power(popularity, -options.low_pass_power).astype(np.float32)[:, None]
    right = np.concatenate([linear, np.float32(options.low_pass) * passed])
    return _Factored(np.float32(rest), np.concatenate([vectors, weighted], axis=1), right)
