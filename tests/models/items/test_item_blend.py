"""Blends of item models: sums of scores in deviations, and weights that never do worse than the best part."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from midstream.core.errors import ArtifactInvalid, FitStopped, Invalid
from midstream.models.histories import Histories, Interactions
from midstream.models.items.held_out import HeldOutActs
from midstream.models.items.item_blend import (
    SIZE_MAX,
    SPREAD_ITEMS,
    ItemBlend,
    ItemBlendOptions,
    PartFit,
    choose_weights,
    fit_item_blend,
    in_deviations,
)
from midstream.models.items.item_blend import blend_of as named_blend_of
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.model import Arrays, ItemModel, Watch
from midstream.testing.model_conformance import check_item_model
from tests.models.linear import SEEDS, some_questions, vocabulary_of

ITEMS = 12


def blend_of(parts: Sequence[ItemModel], weights: Sequence[float] | NDArray[np.float64]) -> ItemBlend:
    """Return a blend of item-to-item models."""
    return named_blend_of(["item_to_item"] * len(parts), parts, weights)


def fit_weights(parts: Sequence[ItemModel], trial: HeldOutActs, options: ItemBlendOptions) -> ItemBlend:
    """Return the blend with the weights that a trial chooses."""
    return blend_of(parts, choose_weights(parts, trial, options))


def part_of(seed: int, scale: float = 1.0) -> ItemToItem:
    """Return a model of arbitrary weights."""
    weights = scale * np.random.default_rng(seed).standard_normal((ITEMS, ITEMS))
    return ItemToItem.of(vocabulary_of(ITEMS), csr_matrix(weights.astype(np.float32)))


def teller_of(wanted: NDArray[np.int64], noise: float, seed: int) -> ItemToItem:
    """Return a model that says, with some noise, what each item is wanted with."""
    weights = noise * np.random.default_rng(seed).standard_normal((ITEMS, ITEMS))
    weights[np.arange(ITEMS), wanted] += 1.0
    return ItemToItem.of(vocabulary_of(ITEMS), csr_matrix(weights.astype(np.float32)))


@dataclass(frozen=True)
class Case:
    """Histories of one item each, and what each wants."""

    wanted: NDArray[np.int64]
    trial: HeldOutActs


def case_of(seed: int) -> Case:
    """Return a case in which each item is wanted with one other."""
    dice = np.random.default_rng(seed)
    wanted = np.array([(item + dice.integers(1, ITEMS)) % ITEMS for item in range(ITEMS)])
    asked = [[item] for item in range(ITEMS)]
    return Case(wanted, HeldOutActs(Histories.of(asked), Histories.of([[int(each)] for each in wanted])))


def ndcg(model: ItemBlend, trial: HeldOutActs, k: int) -> float:
    """Return mean NDCG@k over all items but those of the history, by plain sorting."""
    total = 0.0
    for number in range(len(trial.asked)):
        asked, wanted = trial.asked.part(number, number + 1), trial.wanted.part(number, number + 1)
        scores = model.scores(asked)[0]
        scores[asked.row] = -np.inf
        order = np.lexsort((np.arange(ITEMS), -scores))[:k].tolist()
        right = set(wanted.row.tolist())
        gained = sum(1 / np.log2(place + 2) for place, row in enumerate(order) if row in right)
        total += gained / sum(1 / np.log2(place + 2) for place in range(min(k, len(right))))
    return total / len(trial.asked)


@given(SEEDS, st.lists(st.sampled_from([0.0, 0.5, 1.0, -2.0]), min_size=1, max_size=3), st.sampled_from([1.0, 1e6]))
def test_scores_are_the_weighted_sum_of_scores_in_deviations(seed: int, weights: list[float], scale: float) -> None:
    """Each part counts as its weight says, whatever the size of its scores."""
    parts = [part_of(seed + number, scale if number else 1.0) for number in range(len(weights))]
    asked = some_questions(seed, ITEMS)
    found = blend_of(parts, weights).scores(asked)
    for number in range(len(asked)):
        wanted = np.zeros(ITEMS)
        for part, weight in zip(parts, weights, strict=True):
            row = part.scores(asked.part(number, number + 1))[0].astype(np.float64)
            others = np.delete(row, asked.part(number, number + 1).row)
            wanted += weight * row / (others.std() or row.std() or 1.0)
        assert np.allclose(found[number], wanted, rtol=1e-5, atol=1e-5)


@settings(max_examples=15)
@given(SEEDS, st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=3))
def test_it_keeps_the_promises_of_an_item_model(seed: int, weights: list[float]) -> None:
    """Conformance; each part is read again by its own reader. What all parts that count say nothing of is left out."""
    parts = [part_of(seed + number) for number in range(len(weights))]

    def silent(one: Histories) -> NDArray[np.bool_]:
        is_silent = np.ones(ITEMS, dtype=np.bool_)
        for part, weight in zip(parts, weights, strict=True):
            is_silent &= (part.scores(one)[0] == 0.0) | (weight == 0.0)
        return is_silent

    def read(arrays: Arrays) -> ItemBlend:
        return ItemBlend.restore(vocabulary_of(ITEMS), arrays, {"item_to_item": ItemToItem.read})

    check_item_model(blend_of(parts, weights), some_questions(seed, ITEMS), read, silent)


@given(st.lists(st.floats(-(2.0**40), 2.0**40, width=32), max_size=20), st.sets(st.integers(0, 19), max_size=20))
def test_scores_in_deviations_keep_their_order(values: list[float], acted: set[int]) -> None:
    """Spread 1 among items that were not acted on, and the sign of each; all 0 where nothing differs."""
    scores = np.array(values, dtype=np.float32)
    own = np.array([each for each in sorted(acted) if each < len(values)], dtype=np.int32)
    found = in_deviations(scores, own)
    order = np.argsort(scores, kind="stable")
    assert np.isfinite(found).all()
    assert (np.diff(found[order]) >= 0).all()
    assert (found[scores == 0] == 0).all()
    if not found.any():
        assert len(values) == 0 or np.ptp(scores.astype(np.float64)) <= 1e-6 * np.abs(scores).max()
        return
    assert (np.sign(found)[found != 0] == np.sign(scores)[found != 0]).all()
    others = np.delete(scores, own).astype(np.float64)
    spread = others.std() if len(others) > 1 and others.min() < others.max() else scores.astype(np.float64).std()
    wanted = np.clip(scores / (spread or 1.0), -SIZE_MAX, SIZE_MAX)
    assert np.allclose(found, wanted.astype(np.float32), rtol=1e-5)


def test_the_spread_is_that_of_the_best_items() -> None:
    """What is far below the best of a large catalogue changes nothing."""
    best = np.linspace(5.0, 9.0, SPREAD_ITEMS)
    found = [
        in_deviations(np.concatenate([best, low * np.ones(9)]).astype(np.float32), np.array([], dtype=np.int32))
        for low in (0.0, -70.0)
    ]
    assert np.array_equal(found[0][:SPREAD_ITEMS], found[1][:SPREAD_ITEMS])
    assert np.isclose(found[0][:SPREAD_ITEMS].std(), 1.0, atol=1e-3)
    absurd = in_deviations(np.array([2.0**90, 1e-38, 2e-38], dtype=np.float32), np.array([0], dtype=np.int32))
    assert np.isfinite(8 * 100 * absurd).all()


@settings(max_examples=25)
@given(SEEDS, st.floats(0.0, 2.0), st.floats(0.0, 2.0))
def test_fitted_weights_do_no_worse_than_the_best_part(seed: int, first: float, second: float) -> None:
    """On the histories that they are chosen by, counted by plain sorting over all items."""
    case = case_of(seed)
    parts = [teller_of(case.wanted, first, seed + 1), teller_of(case.wanted, second, seed + 2), part_of(seed + 3)]
    options = ItemBlendOptions(k=3, candidates_max=ITEMS)
    found = fit_weights(parts, case.trial, options)
    alone = [ndcg(blend_of(parts, weights), case.trial, 3) for weights in np.eye(3)]
    assert ndcg(found, case.trial, 3) >= max(alone) - 1e-9
    again = fit_weights(parts, case.trial, options)
    assert found.weights.tolist() == again.weights.tolist()


def test_two_views_are_better_than_one() -> None:
    """Two parts with noise of their own are mixed, and one that knows nothing is left out or changes nothing."""
    case = case_of(4)
    parts = [teller_of(case.wanted, 0.9, 5), teller_of(case.wanted, 0.9, 6)]
    found = fit_weights(parts, case.trial, ItemBlendOptions(k=3, candidates_max=ITEMS))
    alone = [ndcg(blend_of(parts, weights), case.trial, 3) for weights in np.eye(2)]
    assert (found.weights > 0).all()
    assert ndcg(found, case.trial, 3) > max(alone) + 0.05
    perfect = [teller_of(case.wanted, 0.0, 5), part_of(7)]
    assert fit_weights(perfect, case.trial, ItemBlendOptions(k=3)).weights.tolist() == [1.0, 0.0]


def test_small_gains_are_not_taken_when_told_so() -> None:
    """A gain below the least one leaves the best part alone."""
    case = case_of(4)
    parts = [teller_of(case.wanted, 0.9, 5), teller_of(case.wanted, 0.9, 6)]
    found = fit_weights(parts, case.trial, ItemBlendOptions(k=3, candidates_max=ITEMS, gain_min=1.0))
    assert sorted(found.weights.tolist()) == [0.0, 1.0]


@dataclass(frozen=True)
class Fit:
    """A part that counts what it was fitted on, and tells as a teller does."""

    teller: ItemToItem
    seen: list[Interactions]

    def __call__(self, data: Interactions, watch: Watch) -> ItemModel:
        watch.step("telling", 0.5)
        self.seen.append(data)
        return self.teller


def histories_that_go_on(case: Case) -> Interactions:
    """Return one history an item, which goes on to the item that is wanted with it."""
    rows = [[item, int(case.wanted[item])] for item in range(ITEMS)]
    return Interactions(vocabulary_of(ITEMS), Histories.of(rows))


def test_weights_are_chosen_by_what_no_part_has_learned() -> None:
    """Each part learns all but the newest acts, then all; one that weighs nothing does not and is left out."""
    case = case_of(4)
    tellers = [teller_of(case.wanted, 0.9, 5), teller_of(case.wanted, 0.0, 1), part_of(7)]
    fits = [Fit(each, []) for each in tellers]
    data = histories_that_go_on(case)
    told: list[float] = []
    parts = [PartFit(f"kind-{number}", each) for number, each in enumerate(fits)]
    found = fit_item_blend(data, parts, ItemBlendOptions(k=3), Watch(lambda _text, share: told.append(share)))
    assert (found.kinds, found.weights.tolist()) == (("kind-1",), [1.0])
    assert found.parts == (tellers[1],)
    assert [len(each.seen) for each in fits] == [1, 2, 1]
    for each in fits:
        assert each.seen[0].histories.row.tolist() == list(range(ITEMS))
    assert fits[1].seen[1] is data
    assert told == sorted(told)
    assert 0.0 < told[0] < told[-1] < 1.0


def test_weights_that_are_named_are_not_looked_for() -> None:
    """Each part is fitted once, on all of the data; without two items in any history there is nothing to choose by."""
    case = case_of(4)
    fits = [Fit(teller_of(case.wanted, 0.9, 5), []), Fit(part_of(7), [])]
    given_weights = [PartFit("a", fits[0], 0.25), PartFit("b", fits[1], -1.0)]
    found = fit_item_blend(histories_that_go_on(case), given_weights, ItemBlendOptions())
    assert found.weights.tolist() == [0.25, -1.0]
    assert [len(each.seen) for each in fits] == [1, 1]
    with pytest.raises(Invalid, match="all weights are 0"):
        fit_item_blend(histories_that_go_on(case), [PartFit("a", fits[0], 0.0)], ItemBlendOptions())
    single = Interactions(vocabulary_of(ITEMS), Histories.of([[1], [2], []]))
    with pytest.raises(Invalid, match="no history has two items"):
        fit_item_blend(single, [PartFit("a", fits[0]), PartFit("b", fits[1])], ItemBlendOptions())


def test_what_does_not_fit_together_is_refused() -> None:
    """Another vocabulary, another number of weights, nothing wanted, damaged weights."""
    part, other = part_of(1), ItemToItem.of(vocabulary_of(3), csr_matrix(np.eye(3, dtype=np.float32)))
    for parts, weights in (([part, other], [1.0, 1.0]), ([part], [1.0, 1.0]), ([part], [np.nan]), ([], [])):
        with pytest.raises(Invalid, match=r"vocabular|weight"):
            blend_of(parts, weights)
    nothing = HeldOutActs(Histories.of([[1], [2]]), Histories.of([[], []]))
    with pytest.raises(Invalid, match="trial"):
        choose_weights([part], nothing, ItemBlendOptions())
    with pytest.raises(FitStopped):
        choose_weights([part], case_of(1).trial, ItemBlendOptions(), Watch(stopped=lambda: True))
    arrays = blend_of([part], [1.0]).arrays()
    readers = {"item_to_item": ItemToItem.read}
    assert ItemBlend.restore(vocabulary_of(ITEMS), arrays, readers).weights.tolist() == [1.0]
    whole = blend_of([part, part], [2, 1]).arrays()
    assert ItemBlend.restore(vocabulary_of(ITEMS), whole, readers).weights.tolist() == [2.0, 1.0]
    for damaged in (np.array([np.inf]), np.array([1.0, 1.0]), np.array([1], dtype=np.int64)):
        with pytest.raises(ArtifactInvalid, match="weight"):
            ItemBlend.restore(vocabulary_of(ITEMS), {**arrays, "item_blend.weights": damaged}, readers)
    for unnamed in (np.array([1.0]), np.array([["item_to_item"]])):
        with pytest.raises(ArtifactInvalid, match="name its parts"):
            ItemBlend.restore(vocabulary_of(ITEMS), {**arrays, "item_blend.kinds": unnamed}, readers)
    with pytest.raises(ArtifactInvalid, match="'ease', which is none of item_to_item"):
        ItemBlend.restore(vocabulary_of(ITEMS), {**arrays, "item_blend.kinds": np.array(["ease"])}, readers)
