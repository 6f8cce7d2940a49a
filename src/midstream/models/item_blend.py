"""A hybrid of item models of one vocabulary: the weighted sum of their standardised scores.

Scores of different models have different units and, for one model, different sizes for different histories, so each
part is standardised for each history over all items: less its mean, divided by its standard deviation. Ranks need no
standardising and lose how much better the first is than the second, which is what a part has to say; extremes
(0 to 1) hang on one item. A part that says nothing of a history (all its scores are equal) adds 0 to each.

The weights come from the configuration or from ``fit_item_blend``: a search by coordinates on validation histories for
the highest NDCG@k. It starts at the best part alone and only takes what is better by more than ``gain_min``, so where
no mixture helps, the hybrid is its best part.

Reference: Burke, "Hybrid Recommender Systems: Survey and Experiments", User Modeling and User-Adapted Interaction 2002
    (weighted hybrid); Fox and Shaw, "Combination of Multiple Searches", TREC-2 1994 (CombSUM); Metzler and Croft,
    "Linear Feature-Based Models for Information Retrieval", Information Retrieval 2007 (coordinate ascent).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, Fault, Invalid
from midstream.core.types import Index, Score
from midstream.models.histories import Histories
from midstream.models.model import QUIET, Arrays, ItemModel, Watch, best_of
from midstream.models.vocabulary import ItemVocabulary

Real = NDArray[np.float64]
_PAGE = "docs/models.md"


class ItemBlendOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the weights of the parts are found."""

    k: Annotated[int, Meta(ge=1)] = 20
    """NDCG is taken over lists of so many."""
    weights_tried: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
    """Each weight is set to each of these in turn, the others staying."""
    rounds_max: Annotated[int, Meta(ge=1, le=100)] = 4
    """Times that every weight is gone through; fewer where a round changes nothing."""
    candidates_max: Annotated[int, Meta(ge=1)] = 200
    """Best items of each part that are kept of each validation history, ten lists of k: an item that no part has among
    them is hardly in the list of a mixture either, and is taken not to be."""
    gain_min: Annotated[float, Meta(ge=0)] = 0.0
    """NDCG that a change of weights has to bring to be made, 0 or more."""


@dataclass(frozen=True, slots=True, eq=False)
class ItemBlend:
    """Item models of one vocabulary and what each weighs."""

    parts: tuple[ItemModel, ...]
    weights: Real
    """One a part, (parts,)."""

    @property
    def vocabulary(self) -> ItemVocabulary:
        """The items, by row, the same to all parts."""
        return self.parts[0].vocabulary

    def scores(self, histories: Histories) -> Score:
        """Return the weighted sum of the parts' standardised scores, (histories, items)."""
        total = np.zeros((len(histories), len(self.vocabulary)), dtype=np.float32)
        for part, weight in zip(self.parts, self.weights, strict=True):
            if weight:
                found = part.scores(histories)
                # A row at a time: the library groups the sums of a table by its shape.
                for row in range(len(histories)):
                    total[row] += np.float32(weight) * standardised(found[row])
        return total

    def best(self, history: Histories, k: int) -> tuple[Index, Score]:
        """Return the k items of the highest scores of one history, less those that all parts that count leave out.

        Cost: that of all items sorted by each part.
        """
        scores = self.scores(history)[0]
        said = np.full(len(scores), -np.inf, dtype=np.float32)
        for part, weight in zip(self.parts, self.weights, strict=True):
            if weight:
                rows, _ = part.best(history, len(scores))
                said[rows] = scores[rows]
        rows = best_of(said, k)
        return rows, scores[rows]

    def arrays(self) -> Arrays:
        """Return the weights, and the arrays of part number n as ``n.name``."""
        found: dict[str, NDArray[np.generic]] = {"item_blend.weights": self.weights}
        for number, part in enumerate(self.parts):
            found.update({f"{number}.{name}": array for name, array in part.arrays().items()})
        return found

    @classmethod
    def restore(cls, arrays: Arrays, readers: Sequence[Callable[[Arrays], ItemModel]]) -> "ItemBlend":
        """Return the model whose ``arrays`` these are, each part read by the reader of its place.

        Raises:
            ArtifactInvalid: They are not those of such a model.
        """
        weights = arrays.get("item_blend.weights")
        fits = weights is not None and weights.dtype.str == "<f8" and weights.shape == (len(readers),)
        if weights is None or not fits or not np.isfinite(weights).all():
            message = f"the blend has no weight for each of its {len(readers)} parts"
            raise ArtifactInvalid(message)
        parts = [
            read(
                {
                    name.removeprefix(f"{number}."): each
                    for name, each in arrays.items()
                    if name.startswith(f"{number}.")
                }
            )
            for number, read in enumerate(readers)
        ]
        return blend_of(parts, weights.astype(np.float64))


def blend_of(parts: Sequence[ItemModel], weights: Sequence[float] | Real) -> ItemBlend:
    """Return the blend of some models with these weights.

    Raises:
        Invalid: There is no part, not one weight a part, a weight is not finite, or the vocabularies differ.
    """
    given = np.asarray(weights, dtype=np.float64)
    if not parts or given.shape != (len(parts),) or not np.isfinite(given).all():
        fault = Fault("$.weights", f"{given.shape} weights for {len(parts)} parts", "one finite weight a part", _PAGE)
        raise Invalid((fault,))
    for number, part in enumerate(parts):
        if part.vocabulary != parts[0].vocabulary:
            fault = Fault(
                f"$.parts[{number}]", "another vocabulary", "models of the same items in the same rows", _PAGE
            )
            raise Invalid((fault,))
    return ItemBlend(tuple(parts), given)


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Histories to choose weights by, none of whose wanted acts a part has learned from."""

    asked: Histories
    """What is known of each; these items are not recommended."""
    wanted: Histories
    """What each acted on next, as many histories."""


def fit_item_blend(
    parts: Sequence[ItemModel], trial: Trial, options: ItemBlendOptions, watch: Watch = QUIET
) -> ItemBlend:
    """Return the blend of some models with the weights that have the highest NDCG@k on histories.

    Cost: the scores of every part for every history once, then a sum over the candidates a trial.

    Raises:
        FitStopped: The watch said so.
        Invalid: The vocabularies differ, or nothing is wanted.
    """
    blend_of(parts, [1.0] * len(parts))
    lists = [each for each in _candidates(parts, trial, options, watch) if each.ideal > 0]
    if not lists:
        raise Invalid((Fault("$.trial", "no history that wants anything", "validation histories", _PAGE),))
    alone = np.eye(len(parts))
    figures = [_ndcg(lists, weights, options.k) for weights in alone]
    weights, best = alone[int(np.argmax(figures))], max(figures)
    for number in range(options.rounds_max):
        watch.step("weights", 0.8 + 0.2 * number / options.rounds_max)
        before = best
        for part in range(len(parts)):
            for value in options.weights_tried:
                tried = np.where(np.arange(len(parts)) == part, value, weights)
                figure = _ndcg(lists, tried, options.k)
                if figure > best + options.gain_min:
                    weights, best = tried, figure
        if best == before:
            break
    return blend_of(parts, weights)


def standardised(scores: Score) -> Score:
    """Return the scores of one history less their mean, in standard deviations, (n,); 0 where all are equal."""
    if scores.size == 0 or scores.min() == scores.max():
        return np.zeros(len(scores), dtype=np.float32)
    exact = scores.astype(np.float64)
    # Of numbers that differ by less than rounding shows, the spread may be 0 all the same.
    spread = exact.std() or 1.0
    found: Score = ((exact - exact.mean()) / spread).astype(np.float32)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """The best items of all parts for one history."""

    scores: Score
    """Standardised score of each part, (candidates, parts), by ascending row of the item."""
    wanted: NDArray[np.bool_]
    """Whether the history wanted it, (candidates,)."""
    ideal: float
    """Discounted gain of a perfect list; 0 where nothing is wanted."""


def _candidates(parts: Sequence[ItemModel], trial: Trial, options: ItemBlendOptions, watch: Watch) -> list[_Candidates]:
    """Return the candidates of each history, its own items left out."""
    found: list[_Candidates] = []
    for number in range(len(trial.asked)):
        if number % 256 == 0:
            watch.step("scores of the parts", 0.8 * number / max(1, len(trial.asked)))
        history, wanted = trial.asked.part(number, number + 1), trial.wanted.part(number, number + 1)
        table = np.stack([standardised(part.scores(history)[0]) for part in parts], axis=1)
        open_to = np.ones(len(table), dtype=np.bool_)
        open_to[history.row] = False
        lists = [
            best_of(np.where(open_to, column, -np.inf).astype(np.float32), options.candidates_max) for column in table.T
        ]
        rows = np.unique(np.concatenate(lists))
        right = np.isin(rows, wanted.row)
        most = min(options.k, len(np.unique(wanted.row)))
        found.append(_Candidates(table[rows], right, float(_discount(most).sum())))
    return found


def _ndcg(lists: Sequence[_Candidates], weights: Real, k: int) -> float:
    """Return the mean NDCG@k of the lists that some weights make."""
    gained = 0.0
    for each in lists:
        order = np.argsort(-(each.scores @ weights), kind="stable")[:k]
        gained += float(_discount(len(order))[each.wanted[order]].sum()) / each.ideal
    return gained / len(lists)


def _discount(count: int) -> Real:
    """Return what a right item is worth in each place of a list."""
    worth: Real = 1.0 / np.log2(np.arange(count) + 2.0)
    return worth
