"""BPR: factors of items such that a user's product is higher with the user's items than with those of others.

A library fits them (implicit, extra ``train``): for a user x, an item i of the user and another one j drawn by its
number of acts, it maximizes Σ ln σ(x·(y_i − y_j) + b_i − b_j) − λ/2 |x|². Only the items are kept. For the user of a
request the same sum is maximized with fixed items: ln σ(z) is never below ln ½ + z/2 − z²/8, which equals it at 0, and
the average of that bound over all j needs their mean and covariance alone. So the x with the highest bound is the
solution of d equations, and at least as good as x = 0: exact arithmetic, no steps, no randomness, the last click
included.

Weights of acts are not read, neither by the library nor here.

Reference: S. Rendle, C. Freudenthaler, Z. Gantner, L. Schmidt-Thieme, "BPR: Bayesian Personalized Ranking from Implicit
Feedback", UAI 2009; D. Böhning, B. G. Lindsay, "Monotonicity of quadratic-approximation algorithms", Annals of the
Institute of Statistical Mathematics 40(4), 1988 (the bound).
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, ExtraMissing
from midstream.core.types import Index, Score
from midstream.models.histories import Histories, Interactions
from midstream.models.kernels.bf16_index import Halves
from midstream.models.kernels.top_k import inner_products
from midstream.models.model import QUIET, Arrays, Watch, checked
from midstream.models.vocabulary import ItemVocabulary


class BprOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How factors are fitted."""

    factors: Annotated[int, msgspec.Meta(ge=1, le=512)] = 64
    """d: numbers an item and a user are made of, beside the bias of an item."""
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.05
    """Of the steps of the fit."""
    regularization: Annotated[float, msgspec.Meta(ge=1e-6, le=1e3)] = 0.05
    """λ: how much large factors cost, of users while fitting and of whoever asks."""
    iterations: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    """Times as many pairs are drawn as there are acts."""
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    """Of the factors at the start and of the pairs."""


@dataclass(frozen=True, slots=True, eq=False)
class Bpr:
    """Factors of items. See ``ItemModel`` and ``top_n.FactorModel``."""

    vocabulary: ItemVocabulary
    item_factors: NDArray[np.float32]
    """(items, d + 1), the bias last."""
    mean: NDArray[np.float64]
    """Of the factors of an item drawn as often as it was acted on, (d + 1,)."""
    spread: NDArray[np.float64]
    """Their covariance, (d + 1, d + 1)."""
    regularization: float
    _halves: Halves = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Round the factors, for the scan."""
        object.__setattr__(self, "_halves", Halves.of(self.item_factors))

    def item_vectors(self) -> Score:
        """Return the factors of each item, (items, d + 1)."""
        return self.item_factors

    def history_vectors(self, histories: Histories) -> Score:
        """Return the factors of the user of each history and 1, (histories, d + 1); zeros for an empty one.

        Cost: of each history d³ / 3, 0.1 ms at 64 factors.
        """
        size = len(self.mean) - 1
        found = np.zeros((len(histories), size + 1), dtype=np.float32)
        for number in range(len(histories)):
            row = np.unique(histories.part(number, number + 1).row)
            if not len(row):
                continue
            apart = self.item_factors[row].astype(np.float64) - self.mean
            curved = (apart.T @ apart + len(row) * self.spread) / 4.0
            system = curved[:size, :size] + len(row) * self.regularization * np.eye(size)
            found[number, :size] = np.linalg.solve(system, apart[:, :size].sum(axis=0) / 2.0 - curved[:size, size])
            found[number, size] = 1.0
        return found

    def scores(self, histories: Histories) -> Score:
        """Return a score for each history and item; see ``ItemModel``. 0 for all of an empty history."""
        return inner_products(self.history_vectors(histories), self.item_factors)

    def best(self, history: Histories, k: int) -> tuple[Index, Score]:
        """Return the k items of the highest scores of one history; see ``ItemModel``. None of an empty history."""
        return self._halves.top_k(self.history_vectors(history)[0], k if len(history.row) else 0)

    def arrays(self) -> Arrays:
        """Return all that was fitted but the vocabulary."""
        kept: Arrays = {name: getattr(self, name) for name in ("item_factors", "mean", "spread")}
        return {**kept, "regularization": np.array([self.regularization])}

    @classmethod
    def restore(cls, vocabulary: ItemVocabulary, arrays: Arrays) -> "Bpr":
        """Return the model whose ``arrays`` are among these.

        Raises:
            ArtifactInvalid: They are no factors of these items.
        """
        width = arrays["mean"].shape[0] if "mean" in arrays and arrays["mean"].ndim == 1 else 0
        wanted = {"item_factors": ("<f4", (len(vocabulary), width)), "mean": ("<f8", (width,))}
        checked(arrays, "BPR", {**wanted, "spread": ("<f8", (width, width)), "regularization": ("<f8", (1,))})
        mean, spread, ridge = (arrays[name].astype(np.float64) for name in ("mean", "spread", "regularization"))
        if not width or ridge[0] <= 0.0:
            raise ArtifactInvalid("BPR has no factors, or nothing holds them")
        return cls(vocabulary, arrays["item_factors"].astype(np.float32, copy=False), mean, spread, float(ridge[0]))


def fit_bpr(data: Interactions, options: BprOptions, watch: Watch = QUIET) -> Bpr:
    """Return the factors of the items of some data; the same for the same data, options and seed, in one thread.

    Cost: iterations × acts × d, 1 s for 100,000 acts and 100 iterations at 64 factors.

    Raises:
        ExtraMissing: implicit is not installed.
        FitStopped: ``watch`` said so.
    """
    try:
        import implicit.cpu.bpr  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        message = "BPR is fitted by implicit: install midstream[train]"
        raise ExtraMissing(message) from error

    def step(iteration: int, *_told: object) -> None:
        watch.step("pairs", (iteration + 1) / options.iterations)

    package: Any = implicit
    library = package.cpu.bpr.BayesianPersonalizedRanking(
        **{name: getattr(options, name) for name in ("factors", "learning_rate", "regularization", "iterations")},
        num_threads=1,
        random_state=options.seed,
    )
    acts = data.histories.matrix(len(data.vocabulary))
    library.fit(acts, show_progress=False, callback=step)
    factors = np.ascontiguousarray(library.item_factors, dtype=np.float32)
    share = np.bincount(acts.indices, minlength=len(data.vocabulary)) / max(1, acts.nnz)
    mean = share @ factors.astype(np.float64)
    apart = factors - mean
    return Bpr(data.vocabulary, factors, mean, (apart * share[:, None]).T @ apart, options.regularization)
