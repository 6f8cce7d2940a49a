"""SVD of ratings: predicts a user's rating of an item from the user's other ratings.

    r(u, i) = μ + b_u + b_i + q_i·p_u

minimizes the squared error of the known ratings, and λ times the squares of biases and factors. A library takes the
steps (Surprise, extra ``surprise``); its numbers are copied, so a prediction equals its own to the last digits. A
rating is the weight of an act, and a user's last one on an item counts.

Only the items are kept: b and p of the user of a request are solved for by the same sum with fixed items, a ridge
regression. Those of the fitted users are returned beside the model, for evaluation.

Reference: Y. Koren, R. Bell, C. Volinsky, "Matrix Factorization Techniques for Recommender Systems", IEEE Computer
42(8), 2009, equation 5; N. Hug, "Surprise: A Python library for recommender systems", JOSS 5(52), 2020.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, ExtraMissing, Fault, Invalid
from midstream.core.types import Index, Score
from midstream.models.histories import Histories, Interactions
from midstream.models.kernels.bf16_index import Halves
from midstream.models.kernels.top_k import inner_products
from midstream.models.model import QUIET, Arrays, Watch
from midstream.models.vocabulary import ItemVocabulary

Real = NDArray[np.float64]


class SvdOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How factors are fitted; defaults are the library's."""

    factors: Annotated[int, msgspec.Meta(ge=1, le=512)] = 100
    """d: numbers an item and a user are made of, beside a bias each."""
    learning_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.005
    regularization: Annotated[float, msgspec.Meta(ge=1e-6, le=1e3)] = 0.02
    """λ of the fit, for each rating."""
    user_regularization: Annotated[float, msgspec.Meta(ge=1e-6, le=1e3)] = 0.15
    """λ of whoever asks: more than that of the fit, whose steps end before they are at the least of the sum."""
    epochs: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 20
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0


@dataclass(frozen=True, slots=True, eq=False)
class Svd:
    """Factors and biases of items. See ``ItemModel`` and ``top_n.FactorModel``."""

    vocabulary: ItemVocabulary
    items: Real
    """q and b of each item, 0 of one that nobody rated, (items, d + 1)."""
    told: Real
    """Mean rating μ, the least, the highest, and λ of whoever asks, (4,)."""
    _vectors: Score = field(init=False, repr=False)
    _halves: Halves = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Round the items once: a request multiplies with all of them."""
        object.__setattr__(self, "_vectors", self.items.astype(np.float32))
        object.__setattr__(self, "_halves", Halves.of(self._vectors))

    def predicted(self, users: Real, rows: Index) -> Real:
        """Return the rating of each user (p and b, zeros = unknown, (n, d + 1)) for an item (-1 = unknown), (n,)."""
        item = np.where(rows[:, None] >= 0, self.items[rows], 0.0)
        product = np.einsum("nf,nf->n", item[:, :-1], users[:, :-1])
        found: Real = np.clip(self.told[0] + users[:, -1] + item[:, -1] + product, self.told[1], self.told[2])
        return found

    def users_of(self, histories: Histories) -> Real:
        """Return p and b of each history's user, (histories, d + 1), zeros of an empty one. Cost: 0.1 ms of 10 acts."""
        found = np.zeros((len(histories), self.items.shape[1]))
        for number in range(len(histories)):
            _, row, rating = ratings_of(histories.part(number, number + 1))
            if len(row):
                read = np.append(self.items[row, :-1], np.ones((len(row), 1)), axis=1)
                rest, ridge = rating - self.told[0] - self.items[row, -1], self.told[3] * len(row)
                # As many equations as ratings or as numbers, whatever is fewer: the solution is the same.
                if len(row) < read.shape[1]:
                    found[number] = read.T @ np.linalg.solve(read @ read.T + ridge * np.eye(len(row)), rest)
                else:
                    found[number] = np.linalg.solve(read.T @ read + ridge * np.eye(read.shape[1]), read.T @ rest)
        return found

    def item_vectors(self) -> Score:
        """Return q and b of each item, (items, d + 1)."""
        return self._vectors

    def history_vectors(self, histories: Histories) -> Score:
        """Return p and 1 of the user of each history, (histories, d + 1); zeros for an empty one."""
        is_any = np.diff(histories.start)[:, None] > 0
        return np.append(self.users_of(histories)[:, :-1], is_any, axis=1).astype(np.float32)

    def scores(self, histories: Histories) -> Score:
        """Return how far each rating would be above what the user gives, μ + b_u, not clipped; see ``ItemModel``."""
        return inner_products(self.history_vectors(histories), self._vectors)

    def best(self, history: Histories, k: int) -> tuple[Index, Score]:
        """Return the k items of the highest scores of one history; see ``ItemModel``. None of an empty history."""
        return self._halves.top_k(self.history_vectors(history)[0], k if len(history.row) else 0)

    def arrays(self) -> Arrays:
        """Return all that was fitted but the vocabulary."""
        return {"svd.items": self.items, "svd.told": self.told}

    @classmethod
    def restore(cls, vocabulary: ItemVocabulary, arrays: Arrays) -> "Svd":
        """Return the model whose ``arrays`` are among these; raises ``ArtifactInvalid``."""
        items, told = (arrays.get(name, np.empty(0)) for name in ("svd.items", "svd.told"))
        fits = items.shape == (len(vocabulary), items.shape[-1]) and items.shape[-1] > 1 and told.shape == (4,)
        is_real = all(each.dtype.str == "<f8" and np.isfinite(each).all() for each in (items, told))
        if not fits or not is_real or told[3] <= 0:
            raise ArtifactInvalid("the factors of an SVD are missing, no numbers, or not those of these items")
        return cls(vocabulary, items.astype(np.float64, copy=False), told.astype(np.float64, copy=False))


def ratings_of(histories: Histories) -> tuple[NDArray[np.int64], Index, Real]:
    """Return user, item and rating of each pair, (pairs,), the last of each, in the order of these."""
    who = np.repeat(np.arange(len(histories)), np.diff(histories.start))
    _, behind = np.unique(np.stack([who, histories.row], axis=1)[::-1], axis=0, return_index=True)
    last = np.sort(len(who) - 1 - behind)
    return who[last], histories.row[last], histories.weight[last].astype(np.float64)


def fit_ratings(data: Interactions, options: SvdOptions, watch: Watch = QUIET) -> tuple[Svd, Real]:
    """Return the items, and beside them p and b of each user, zeros of one without ratings, (histories, d + 1).

    The same for the same data, options and seed. Cost: epochs × ratings × d, 1 s for 100,000 ratings by the defaults.
    Raises ``ExtraMissing``, ``Invalid``: all acts weigh the same, or ``FitStopped``, before the library began.
    """
    user, row, rating = ratings_of(data.histories)
    if not len(rating) or rating.min() == rating.max():
        came, right = f"{len(rating)} ratings came, all alike.", "Acts that weigh what they are worth, such as 1 to 5."
        raise Invalid((Fault("actions", came, right, "/docs/models.md"),))
    try:
        import surprise  # type: ignore[import-not-found,unused-ignore]  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ExtraMissing("SVD is fitted by Surprise: install midstream[surprise]") from error
    library: Any = surprise
    watch.step("ratings", 0.0)
    rows = list(zip(user.tolist(), row.tolist(), rating.tolist(), [None] * len(rating), strict=True))
    scale = (float(rating.min()), float(rating.max()))
    known = library.Dataset(library.Reader(rating_scale=scale)).construct_trainset(rows)
    steps = {"n_epochs": options.epochs, "lr_all": options.learning_rate, "reg_all": options.regularization}
    fitted = library.SVD(n_factors=options.factors, random_state=options.seed, **steps).fit(known)
    items, users = (np.zeros((count, options.factors + 1)) for count in (len(data.vocabulary), len(data.histories)))
    items[[known.to_raw_iid(each) for each in known.all_items()]] = np.append(fitted.qi, fitted.bi[:, None], axis=1)
    users[[known.to_raw_uid(each) for each in known.all_users()]] = np.append(fitted.pu, fitted.bu[:, None], axis=1)
    told = np.array([known.global_mean, *scale, options.user_regularization])
    return Svd(data.vocabulary, items, told), users
