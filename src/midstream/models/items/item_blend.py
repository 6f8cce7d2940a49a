"""A hybrid of item models of one vocabulary: the weighted sum of their scores, each in standard deviations of its own.

Scores of different models have different units and, for one model, different sizes for different histories, so those of
a part for a history are divided by their standard deviation among its best items, those of the history left out: the
best alone get into a list, and what is far below them, or was acted on already, has a spread of its own. Ranks need no
dividing and lose how much better the first is than the second, which is what a part has to say; extremes hang on one
item. The mean is not taken off: it orders nothing, and an item of which every part says nothing keeps its score of
exactly 0. A part that says nothing of a history (all its scores are equal) adds 0 to each.

The weights come from the configuration or are fitted: the parts learn all but some acts of the data (``held_out``), a
search by coordinates takes the weights that have the highest NDCG@k on those, and then the parts that weigh anything
learn all of the data. The search starts at the best part alone and only takes what is better by more than
``gain_min``, so where no mixture helps, the hybrid is its best part.

Reference: Burke, "Hybrid Recommender Systems: Survey and Experiments", User Modeling and User-Adapted Interaction 2002
    (weighted hybrid); Fox and Shaw, "Combination of Multiple Searches", TREC-2 1994 (CombSUM); Metzler and Croft,
    "Linear Feature-Based Models for Information Retrieval", Information Retrieval 2007 (coordinate ascent).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, Fault, Invalid
from midstream.core.types import Index, Score
from midstream.models.histories import Histories, Interactions
from midstream.models.items.held_out import HeldOut, HeldOutActs, Manner, hold_out
from midstream.models.model import QUIET, Arrays, ItemModel, Watch, best_of, best_said
from midstream.models.vocabulary import ItemVocabulary

Real = NDArray[np.float64]
_PAGE = "/docs/models.md"


Reader = Callable[[ItemVocabulary, Arrays], ItemModel]
"""Makes a model of its vocabulary and ``arrays``."""
PARTS_MAX = 8
"""Each is asked for all its scores at every request."""
SPREAD_ITEMS = 500
"""Best items whose spread is 1: on validation parts of Gowalla and Yelp2018 100 to 1,000 were as good as each other,
and all items together 1 % behind on one of the two (``docs/models.md``)."""
SIZE_MAX = 1e30
"""Of a score: what stands far outside a spread of next to nothing is a number all the same, and so is a sum of them."""
_WEIGHTS, _KINDS = "item_blend.weights", "item_blend.kinds"


class BlendPart(Struct, frozen=True, forbid_unknown_fields=True):
    """One model of a blend."""

    kind: str
    """Of ``models.kinds``, and no blend."""
    options: dict[str, Any] = {}
    """Of that kind."""
    weight: Annotated[float, Meta(ge=-100, le=100)] | None = None
    """None = fitted; given for all parts or for none."""


class ItemBlendOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parts of the blend, and the choice of their weights."""

    parts: Annotated[tuple[str | BlendPart, ...], Meta(min_length=2, max_length=PARTS_MAX)] = ("graph_filter", "als")
    """Each the name of a kind, with the options that it has by default, or a kind with options."""
    held_out: Manner = "last"
    """Which acts of each history the weights are chosen by: its newest or, where their order says nothing, any."""
    held_out_share: Annotated[float, Meta(gt=0, le=0.5)] = 0.1
    """Of each history of two acts and more; rounded, at least one act."""
    histories_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 5_000
    """Histories that they are chosen by: the NDCG of so many is known to 1 % of its spread."""
    k: Annotated[int, Meta(ge=1, le=10_000)] = 20
    """NDCG is taken over lists of so many."""
    weights_tried: tuple[Annotated[float, Meta(ge=-100, le=100)], ...] = (
        *(0.0, 0.05, 0.1, 0.2, 0.3, 0.5),
        *(0.75, 1.0, 1.5, 2.0),
    )
    """Each weight is set to each of these in turn, the others staying."""
    rounds_max: Annotated[int, Meta(ge=1, le=100)] = 4
    """Times that every weight is gone through; fewer where a round changes nothing."""
    candidates_max: Annotated[int, Meta(ge=1, le=100_000)] = 200
    """Best items of each part that are kept of each validation history, ten lists of k: an item that no part has among
    them is hardly in the list of a mixture either, and is taken not to be."""
    gain_min: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """NDCG that a change of weights has to bring to be made, 0 or more."""
    seed: Annotated[int, Meta(ge=0)] = 0
    """Of what is held out at random, and of each part that has a seed and names none."""


@dataclass(frozen=True, slots=True, eq=False)
class ItemBlend:
    """Item models of one vocabulary and their weights."""

    kinds: tuple[str, ...]
    """Kind of each part, which restores its arrays."""
    parts: tuple[ItemModel, ...]
    weights: Real
    """One a part, (parts,)."""

    @property
    def vocabulary(self) -> ItemVocabulary:
        """The items, by row, the same to all parts."""
        return self.parts[0].vocabulary

    def scores(self, histories: Histories) -> Score:
        """Return the weighted sum of the parts' scores in standard deviations, (histories, items).

        0 where all parts say 0: the history says nothing of the item. Cost: the scores of all parts, and 0.5 ms a part
        and history of 40,000 items.
        """
        total = np.zeros((len(histories), len(self.vocabulary)), dtype=np.float32)
        for part, weight in zip(self.parts, self.weights, strict=True):
            if weight:
                found = part.scores(histories)
                # A row at a time: the library groups the sums of a table by its shape.
                for row in range(len(histories)):
                    own = histories.part(row, row + 1).row
                    total[row] += np.float32(weight) * in_deviations(found[row], own)
        return total

    def best(self, history: Histories, k: int) -> tuple[Index, Score]:
        """Return the k items of the highest scores of one history, without those that all parts score 0."""
        return best_said(self.scores(history)[0], k)

    def arrays(self) -> Arrays:
        """Return weights and kinds, and the arrays of part number n as ``n.name``."""
        found: dict[str, NDArray[np.generic]] = {_WEIGHTS: self.weights, _KINDS: np.array(self.kinds, dtype=np.str_)}
        for number, part in enumerate(self.parts):
            found.update({f"{number}.{name}": array for name, array in part.arrays().items()})
        return found

    @classmethod
    def restore(cls, vocabulary: ItemVocabulary, arrays: Arrays, readers: Mapping[str, Reader]) -> "ItemBlend":
        """Return the model whose ``arrays`` these are, each part read by the reader of its kind.

        Raises:
            ArtifactInvalid: They are not those of such a model over this vocabulary.
        """
        weights, named = arrays.get(_WEIGHTS), arrays.get(_KINDS)
        if weights is None or named is None or named.dtype.kind != "U" or named.ndim != 1:
            raise ArtifactInvalid("the blend does not name its parts and their weights")
        kinds: list[str] = named.tolist()
        if unknown := [each for each in kinds if each not in readers]:
            message = f"the blend has a part of kind {unknown[0]!r}, which is none of {', '.join(sorted(readers))}"
            raise ArtifactInvalid(message)
        if weights.dtype.str != "<f8" or weights.shape != (len(kinds),) or not np.isfinite(weights).all():
            message = f"the blend has no weight for each of its {len(kinds)} parts"
            raise ArtifactInvalid(message)
        parts: list[ItemModel] = []
        for number, kind in enumerate(kinds):
            own = {name: each for name, each in arrays.items() if name.startswith(f"{number}.")}
            parts.append(readers[kind](vocabulary, {name.partition(".")[2]: each for name, each in own.items()}))
        return blend_of(kinds, parts, weights.astype(np.float64))


def blend_of(kinds: Sequence[str], parts: Sequence[ItemModel], weights: Sequence[float] | Real) -> ItemBlend:
    """Return the blend of some models, named by their kinds, with these weights.

    Raises:
        Invalid: There is no part, not one weight a part, a weight is not finite, or the vocabularies differ.
    """
    given = np.asarray(weights, dtype=np.float64)
    if not parts or given.shape != (len(parts),) or not np.isfinite(given).all() or len(kinds) != len(parts):
        came = f"{given.shape} weights and {len(kinds)} kinds for {len(parts)} parts"
        fault = Fault("$.weights", came, "one finite weight and a kind a part", _PAGE)
        raise Invalid((fault,))
    for number, part in enumerate(parts):
        if part.vocabulary != parts[0].vocabulary:
            fault = Fault(
                f"$.parts[{number}]", "another vocabulary", "models of the same items in the same rows", _PAGE
            )
            raise Invalid((fault,))
    return ItemBlend(tuple(kinds), tuple(parts), given)


@dataclass(frozen=True, slots=True)
class PartFit:
    """How one part is fitted."""

    kind: str
    fit: Callable[[Interactions, Watch], ItemModel]
    weight: float | None = None
    """None = fitted."""


def fit_item_blend(
    data: Interactions, parts: Sequence[PartFit], options: ItemBlendOptions, watch: Watch = QUIET
) -> ItemBlend:
    """Return the blend of some parts, each fitted on all of the data, with weights that a part of it has chosen.

    Parts of weight 0 are left out: they would be asked for nothing.

    Cost: each part is fitted twice, where the weights are not given; then that of ``choose_weights``.

    Raises:
        FitStopped: The watch said so.
        Invalid: No history has two items to choose weights by, or all weights are 0.
    """
    weights = np.array([0.0 if each.weight is None else each.weight for each in parts])
    if any(each.weight is None for each in parts):
        how = HeldOut(options.held_out_share, options.held_out, options.seed, options.histories_max)
        learned, trial = hold_out(data, how)
        if not len(trial.asked):
            right = "Acts of users or sessions with two items, or a weight of each part."
            raise Invalid((Fault("parts", "no history has two items to choose weights by.", right, _PAGE),))
        judged = [
            each.fit(learned, watch.part(0.4 * number / len(parts), 0.4 * (number + 1) / len(parts)))
            for number, each in enumerate(parts)
        ]
        weights = choose_weights(judged, trial, options, watch.part(0.4, 0.6))
    kept = [(each, weight) for each, weight in zip(parts, weights.tolist(), strict=True) if weight]
    if not kept:
        raise Invalid((Fault("parts", "all weights are 0.", "One other than 0.", _PAGE),))
    fitted = [
        each.fit(data, watch.part(0.6 + 0.4 * number / len(kept), 0.6 + 0.4 * (number + 1) / len(kept)))
        for number, (each, _) in enumerate(kept)
    ]
    return blend_of([each.kind for each, _ in kept], fitted, [weight for _, weight in kept])


def choose_weights(
    parts: Sequence[ItemModel], trial: HeldOutActs, options: ItemBlendOptions, watch: Watch = QUIET
) -> Real:
    """Return the weights of some models, (parts,), that have the highest NDCG@k on histories.

    Cost: the scores of every part for every history once, then a sum over the candidates a trial.

    Raises:
        FitStopped: The watch said so.
        Invalid: The vocabularies differ, or nothing is wanted.
    """
    blend_of([""] * len(parts), parts, [1.0] * len(parts))
    lists = [each for each in _candidates(parts, trial, options, watch.part(0.0, 0.8)) if each.ideal > 0]
    if not lists:
        raise Invalid((Fault("$.trial", "no history that wants anything", "validation histories", _PAGE),))
    alone: Real = np.eye(len(parts))
    figures = [_ndcg(lists, weights, options.k) for weights in alone]
    weights: Real = alone[int(np.argmax(figures))]
    best = max(figures)
    for number in range(options.rounds_max):
        watch.step("weights", 0.8 + 0.2 * number / options.rounds_max)
        before = best
        for part in range(len(parts)):
            for value in options.weights_tried:
                tried = np.where(np.arange(len(parts)) == part, value, weights)
                figure = _ndcg(lists, tried, options.k) if tried.any() else 0.0
                if figure > best + options.gain_min:
                    weights, best = tried, figure
        if best == before:
            break
    return weights


def in_deviations(scores: Score, own: Index) -> Score:
    """Return the scores of one history divided by their spread, (n,); 0 where all are equal.

    The spread is the standard deviation of the best ``SPREAD_ITEMS`` that are not its own, or of all where these are
    equal.
    """
    if scores.size == 0 or scores.min() == scores.max():
        return np.zeros(len(scores), dtype=np.float32)
    others = scores.copy()
    others[own] = -np.inf
    exact = scores.astype(np.float64)
    # In their order, so that no machine adds them up in another.
    best = exact[best_of(others, SPREAD_ITEMS)]
    is_spread = len(best) > 1 and best[0] > best[-1]
    # Of numbers that differ by less than rounding shows, the spread may be 0 all the same.
    found = exact / ((best if is_spread else exact).std() or 1.0)
    return np.clip(found, -SIZE_MAX, SIZE_MAX).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """The best items of all parts for one history."""

    scores: Score
    """Score of each part in deviations, (candidates, parts), by ascending row of the item."""
    wanted: NDArray[np.bool_]
    """Whether the history wanted it, (candidates,)."""
    ideal: float
    """Discounted gain of a perfect list; 0 where nothing is wanted."""


def _candidates(
    parts: Sequence[ItemModel], trial: HeldOutActs, options: ItemBlendOptions, watch: Watch
) -> list[_Candidates]:
    """Return the candidates of each history, its own items left out."""
    found: list[_Candidates] = []
    for number in range(len(trial.asked)):
        if number % 256 == 0:
            watch.step("scores of the parts", number / max(1, len(trial.asked)))
        history, wanted = trial.asked.part(number, number + 1), trial.wanted.part(number, number + 1)
        table = np.stack([in_deviations(part.scores(history)[0], history.row) for part in parts], axis=1)
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
