"""Implicit ALS: matrix factorization of users and items; a user's factors are solved for at request time.

A user u and an item i have factors x and y, such that x·y is near 1 where u acted on i, the nearer the larger the
weight of the acts, and near 0 elsewhere. The loss

    Σ over acts c (x·y − 1)² + w Σ over all pairs (x·y)² + λ Σ_u (n_u + w items)^ν |x|² + λ Σ_i (n_i + w users)^ν |y|²

is minimized by solving for the users with fixed items, then for the items, and so on. Only the items are kept. The user
of a request is solved for at that moment, so an older model uses the last click, and holds no user.

A library fits the same loss with matrices of d × d for each row. Here the factors of both sides are rotated together
before each half, so that the Gram matrix of one is diagonal: no score changes, and a row costs its own entries alone
(``als_kernels``). Two threads take turns at blocks of rows; rows do not read each other, so the result is the same.

Reference: Y. Hu, Y. Koren, C. Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008 (eq. 4: the
user of a history); S. Rendle, W. Krichene, L. Zhang, Y. Koren, "Revisiting the Performance of iALS on Item
Recommendation Benchmarks", RecSys 2022 (the loss and its regularization by frequency); G. Takács, I. Pilászy, D. Tikk,
"Applications of the Conjugate Gradient Method for Implicit Feedback Collaborative Filtering", RecSys 2011; acts on what
is popular counted less: Y. Saito, S. Yaginuma, Y. Nishino, H. Sakata, K. Nakata, "Unbiased Recommender Learning from
Missing-Not-At-Random Implicit Feedback", WSDM 2020 (section 5: a propensity that is a power of the popularity).
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, ShapeMismatch
from midstream.core.types import Index, Score
from midstream.models.histories import Histories, Interactions
from midstream.models.items.als_kernels import LOG, ONE, SUM, confidences, fold_in, improve
from midstream.models.kernels.bf16_index import Halves
from midstream.models.kernels.simd_dot import LANES
from midstream.models.kernels.top_k import inner_products
from midstream.models.kernels.top_k_kernels import frozen
from midstream.models.model import QUIET, Arrays, Watch, checked
from midstream.models.vocabulary import ItemVocabulary

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FACTORS_MAX = 1_024
"""A history of as many items or more is solved in so many equations: a fifth of a second."""
ITERATIONS_MAX = 1_000
THREADS_MAX = 64
_STEPS = 3
"""Of conjugate gradients in a half: they go on where the epoch before ended. More change no figure, one does."""
_SPREAD = 0.1
"""Standard deviation of the length of the factors at the start, as in Rendle et al."""
_BLOCKS = 16
"""Blocks of rows a thread, so that none waits long for the other, and a wish to stop is heard."""
_ROW_COST = 6
"""What a row costs beside its entries, in entries."""
_CODES = {"sum": SUM, "log": LOG, "one": ONE}

Factors = Annotated[int, msgspec.Meta(ge=1, le=FACTORS_MAX)]
Iterations = Annotated[int, msgspec.Meta(ge=1, le=ITERATIONS_MAX)]
Threads = Annotated[int, msgspec.Meta(ge=1, le=THREADS_MAX)]
Ridge = Annotated[float, msgspec.Meta(ge=1e-9, le=1e6)]
"""Below it the equations have no solution in float32, above it all factors are 0; so NaN and infinity are refused."""
Unobserved = Annotated[float, msgspec.Meta(ge=1e-9, le=1e3)]
"""Times what an act weighs; above it acts say nothing."""
Confidence: TypeAlias = Literal["sum", "log", "one"]


class AlsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How factors are fitted."""

    factors: Factors = 64
    """Numbers an item and a user are made of, d. Time grows with it, memory by 4 bytes an item and user each."""
    regularization: Ridge = 0.003
    """λ: how much large factors cost, for each act and each pair that might have been one."""
    regularization_exponent: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    """ν: 1 = in proportion to the acts of a row, 0 = the same for each row, as the first paper had it."""
    unobserved_weight: Unobserved = 0.01
    """w: weight of a pair without an act, where an act has weight 1."""
    confidence: Confidence = "log"
    """Of the weights of a user's acts on an item: their ``sum``, log2(1 + sum) (1 for one act that weighs 1), or 1."""
    item_power: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Acts on an item are divided by this power of how many users acted on it, and are 1 on average as before: 0 = not
    at all, 0.5 as in the paper on what is popular because it was shown."""
    iterations: Iterations = 8
    """Times that all users and all items are solved for: more fit the data closer, and not what comes after."""
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Of the factors at the start."""
    threads: Threads = 2
    """At work while fitting; the result does not depend on it."""


@dataclass(frozen=True, slots=True, eq=False)
class AlsModel:
    """Factors of items. See ``ItemModel``; evaluation multiplies its vectors by itself (``top_n.FactorModel``)."""

    vocabulary: ItemVocabulary
    options: AlsOptions
    """Options of the fit: a user is solved for with the same weights."""
    item_factors: NDArray[np.float32]
    """(n, d), turned so that the columns are at right angles."""
    gram: NDArray[np.float64]
    """Diagonal of the Gram matrix of the factors, descending, (d,): all else in it is 0 but for rounding."""
    item_weights: NDArray[np.float32]
    """Weight of an act on each item by the item's popularity, above 0, 1 for an average act, (n,)."""
    _halves: Halves = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Round the factors, for the scan."""
        object.__setattr__(self, "_halves", Halves.of(self.item_factors))

    def item_vectors(self) -> Score:
        """Return the factors of each item, (items, d)."""
        return self.item_factors

    def history_vectors(self, histories: Histories) -> Score:
        """Return the factors of the user of each history, (histories, d); zeros for an empty one.

        Cost: of a history of m items m² d / 2 + m³ / 6, 20 µs for 10 items; of more than d items m d² / 2 + d³ / 6.
        """
        matrix = histories.matrix(len(self.vocabulary))
        options = self.options
        found = np.empty((len(histories), self.item_factors.shape[1]), dtype=np.float32)
        fold_in(
            matrix.indptr.astype(np.int64),
            matrix.indices.astype(np.int32),
            confidences(matrix.data, _CODES[options.confidence]) * self.item_weights[matrix.indices],
            frozen(self.item_factors),
            options.unobserved_weight * self.gram,
            self._ridge,
            found,
        )
        return found

    def equations(self, history: Histories) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what the user of one history is solved for with: confidences of its items, and the diagonal.

        Returns:
            C of each distinct item, rising by row, (m,), and D, (d,): the user is x of (D + Vᵀ C V) x = Vᵀ C 1.
        """
        matrix = history.matrix(len(self.vocabulary))
        code = _CODES[self.options.confidence]
        confidence = confidences(matrix.data, code) * self.item_weights[matrix.indices]
        rate, often, exponent = self._ridge
        added = rate * (matrix.nnz + often) ** exponent
        return confidence.astype(np.float64), self.options.unobserved_weight * self.gram + added

    @property
    def _ridge(self) -> tuple[float, float, float]:
        options = self.options
        often = options.unobserved_weight * len(self.vocabulary)
        return options.regularization, often, options.regularization_exponent

    def scores(self, histories: Histories) -> Score:
        """Return a score for each history and item; see ``ItemModel``. 0 for all of an empty history."""
        return inner_products(self.history_vectors(histories), self.item_factors)

    def best(self, history: Histories, k: int) -> tuple[Index, Score]:
        """Return the k items of the highest scores of one history; see ``ItemModel``. None of an empty history."""
        if not len(history.row):
            return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
        return self._halves.top_k(self.history_vectors(history)[0], k)

    def arrays(self) -> Arrays:
        """Return all that was fitted but the vocabulary, and the options, as JSON."""
        written = np.frombuffer(msgspec.json.encode(self.options), dtype=np.uint8)
        fitted = {name: getattr(self, name) for name in ("item_factors", "gram", "item_weights")}
        return {**{f"als.{name}": each for name, each in fitted.items()}, "als.options": written}

    @classmethod
    def restore(cls, vocabulary: ItemVocabulary, arrays: Arrays) -> "AlsModel":
        """Return the model whose ``arrays`` are among these.

        Raises:
            ArtifactInvalid: They are no factors of these items.
        """
        try:
            names = ("item_factors", "gram", "item_weights", "options")
            factors, gram, often, written = (arrays[f"als.{name}"] for name in names)
            options = msgspec.json.decode(written.tobytes(), type=AlsOptions)
        except (KeyError, msgspec.MsgspecError) as error:
            message = f"these are no factors of ALS: {error}"
            raise ArtifactInvalid(message) from error
        n, d = len(vocabulary), options.factors
        right = {"item_factors": ("<f4", (n, d)), "gram": ("<f8", (d,)), "item_weights": ("<f4", (n,))}
        checked(arrays, "ALS", {f"als.{name}": each for name, each in right.items()})
        values = (factors.astype(np.float32, copy=False), gram.astype(np.float64, copy=False))
        weights = often.astype(np.float32, copy=False)
        if (values[1] < 0).any() or (weights <= 0).any():
            raise ArtifactInvalid("the Gram matrix of ALS or the weight of an item is none")
        return cls(vocabulary, options, *values, weights)


def fit_als(data: Interactions, options: AlsOptions, watch: Watch = QUIET, begin: AlsModel | None = None) -> AlsModel:
    """Return the factors of the items of some data.

    The same for the same data, options and seed, whatever the number of threads, on one machine. Cost: time of
    iterations × (acts × d × 4 + (users + items) × d²); memory of 4 d bytes for each user and item, three times.

    Args:
        data: Its items are those of the answer; a user's acts on one item are added up.
        options: Of the fit.
        watch: Called after each block of rows; may stop the fit.
        begin: A model of as many factors, whose items are the start; others begin at random, and nothing else of it is
            read. So an earlier model reduces the iterations.

    Raises:
        FitStopped: ``watch`` stopped it.
        ShapeMismatch: ``begin`` has another number of factors.
    """
    from scipy.sparse import csr_matrix

    by_user = data.histories.matrix(len(data.vocabulary))
    item_weights = _item_weights(by_user, options.item_power)
    by_user.data = confidences(by_user.data, _CODES[options.confidence]) * item_weights[by_user.indices]
    sides = (_Side.of(by_user, options, "users"), _Side.of(csr_matrix(by_user.T.tocsr()), options, "items"))
    random = np.random.default_rng(options.seed)
    users, items = (_at_first(len(side.ridge), options, random) for side in sides)
    if begin is not None:
        if begin.options.factors != options.factors:
            message = f"{begin.options.factors} factors came where {options.factors} are right"
            raise ShapeMismatch(message)
        rows = data.vocabulary.rows_in(begin.vocabulary)
        items[rows >= 0, : options.factors] = begin.item_factors[rows[rows >= 0]]
    with ThreadPoolExecutor(options.threads) as pool:
        for epoch in range(options.iterations):
            share = epoch / options.iterations
            sides[0].improve(users, items, _Work(pool, options, watch, share))
            sides[1].improve(items, users, _Work(pool, options, watch, share + 0.5 / options.iterations))
    gram = _turn(items, users, options.factors)
    watch.step("factors", 1.0)
    return AlsModel(data.vocabulary, options, np.ascontiguousarray(items[:, : options.factors]), gram, item_weights)


def _item_weights(acts: "csr_matrix", power: float) -> NDArray[np.float32]:
    """Return what an act on each item weighs by how many users (users, items) acted on it, 1 on average of the acts."""
    often = np.maximum(np.bincount(acts.indices, minlength=acts.shape[1]), 1).astype(np.float64)
    found = often**-power
    mean = float(found[acts.indices].mean()) if len(acts.indices) else 1.0
    return (found / mean).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Work:
    """What half an epoch is done with."""

    pool: ThreadPoolExecutor
    options: AlsOptions
    watch: Watch
    share: float
    """Of all that is done before."""


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """Users with their items, or items with their users."""

    name: str
    start: NDArray[np.int64]
    column: NDArray[np.int32]
    weight: NDArray[np.float32]
    ridge: NDArray[np.float32]
    """Regularization of each row, (rows,)."""
    cuts: list[int]
    """Where blocks of about the same work begin, and the number of rows."""

    @classmethod
    def of(cls, matrix: "csr_matrix", options: AlsOptions, name: str) -> "_Side":
        """Return the rows of a matrix of confidences."""
        start = matrix.indptr.astype(np.int64)
        counts = np.diff(start) + options.unobserved_weight * matrix.shape[1]
        ridge = (options.regularization * counts**options.regularization_exponent).astype(np.float32)
        work = start + _ROW_COST * np.arange(len(start))
        shares = np.linspace(0.0, float(work[-1]), _BLOCKS * options.threads + 1)
        cuts: NDArray[np.int64] = np.searchsorted(work, shares).astype(np.int64)
        return cls(name, start, matrix.indices.astype(np.int32), matrix.data, ridge, np.unique(cuts).tolist())

    def improve(self, own: NDArray[np.float32], other: NDArray[np.float32], work: _Work) -> None:
        """Solve for the rows of this side, given the other; both are turned before."""
        options = work.options
        common = np.zeros(own.shape[1], dtype=np.float32)
        common[: options.factors] = options.unobserved_weight * _turn(other, own, options.factors)
        text, told = f"{self.name} of epoch {int(work.share * options.iterations) + 1} of {options.iterations}", 0
        rows = (self.start, self.column, self.weight, common, self.ridge)
        blocks = [
            work.pool.submit(improve, own, other, *rows, begin, end, _STEPS) for begin, end in pairwise(self.cuts)
        ]
        try:
            for block in blocks:
                block.result()
                work.watch.step(text, work.share + 0.5 * told / len(blocks) / options.iterations)
                told += 1
        finally:
            # After a wish to stop, those not begun are left.
            for block in blocks:
                block.cancel()


def _at_first(count: int, options: AlsOptions, random: np.random.Generator) -> NDArray[np.float32]:
    """Return factors to begin with, (count, d and zeros up to a multiple of 16)."""
    found = np.zeros((count, -(-options.factors // LANES) * LANES), dtype=np.float32)
    drawn = random.standard_normal((count, options.factors), dtype=np.float32)
    found[:, : options.factors] = drawn * np.float32(_SPREAD / options.factors**0.5)
    return found


def _turn(turned: NDArray[np.float32], other: NDArray[np.float32], factors: int) -> NDArray[np.float64]:
    """Turn the factors of both sides so that the Gram matrix of the first is diagonal; return that diagonal, (d,).

    Products of the two stay as they are, but for rounding. Zeros behind the factors are left alone.
    """
    part = turned[:, :factors]
    _, axes = np.linalg.eigh((part.T @ part).astype(np.float64))
    around = np.ascontiguousarray(axes[:, ::-1], dtype=np.float32)
    turned[:, :factors] = part @ around
    other[:, :factors] = other[:, :factors] @ around
    return np.asarray(np.einsum("if,if->f", part, part, dtype=np.float64), dtype=np.float64)
