"""Blends of item models: sums of standardised scores, and weights that never do worse than the best part."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from tests.models.linear import SEEDS, some_questions, vocabulary_of

from midstream.core.errors import ArtifactInvalid, FitStopped, Invalid
from midstream.models.histories import Histories
from midstream.models.item_blend import ItemBlend, ItemBlendOptions, Trial, blend_of, fit_item_blend, standardised
from midstream.models.item_to_item import ItemToItem
from midstream.models.model import Arrays, Watch
from midstream.testing.conformance_models import check_item_model

ITEMS = 12


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
    trial: Trial


def case_of(seed: int) -> Case:
    """Return a case in which each item is wanted with one other."""
    dice = np.random.default_rng(seed)
    wanted = np.array([(item + dice.integers(1, ITEMS)) % ITEMS for item in range(ITEMS)])
    asked = [[item] for item in range(ITEMS)]
    return Case(wanted, Trial(Histories.of(asked), Histories.of([[int(each)] for each in wanted])))


def ndcg(model: ItemBlend, trial: Trial, k: int) -> float:
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
def test_scores_are_the_weighted_sum_of_standard_scores(seed: int, weights: list[float], scale: float) -> None:
    """Each part counts as its weight says, whatever the size of its scores."""
    parts = [part_of(seed + number, scale if number else 1.0) for number in range(len(weights))]
    asked = some_questions(seed, ITEMS)
    found = blend_of(parts, weights).scores(asked)
    for number in range(len(asked)):
        wanted = np.zeros(ITEMS)
        for part, weight in zip(parts, weights, strict=True):
            row = part.scores(asked.part(number, number + 1))[0].astype(np.float64)
            wanted += weight * ((row - row.mean()) / row.std() if row.std() > 0 else 0.0)
        assert np.allclose(found[number], wanted, atol=1e-5)


@settings(max_examples=15)
@given(SEEDS, st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=3))
def test_it_keeps_the_promises_of_an_item_model(seed: int, weights: list[float]) -> None:
    """Conformance; each part is read again by its own reader."""
    parts = [part_of(seed + number) for number in range(len(weights))]
    readers = [partial(ItemToItem.read, vocabulary_of(ITEMS))] * len(weights)

    def silent(one: Histories) -> NDArray[np.bool_]:
        scores = [part.scores(one)[0] for part, weight in zip(parts, weights, strict=True) if weight]
        is_silent = np.ones(ITEMS, dtype=np.bool_)
        for each in scores:
            is_silent &= each == 0.0
        return is_silent

    def read(arrays: Arrays) -> ItemBlend:
        return ItemBlend.restore(arrays, readers)

    check_item_model(blend_of(parts, weights), some_questions(seed, ITEMS), read, silent)


@given(st.lists(st.floats(-(2.0**90), 2.0**90, width=32), max_size=20))
def test_standard_scores_keep_the_order(values: list[float]) -> None:
    """Mean 0 and spread 1, or all 0 where nothing differs; never another order."""
    scores = np.array(values, dtype=np.float32)
    found = standardised(scores)
    assert np.isfinite(found).all()
    order = np.argsort(scores, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    if found.any():
        assert np.allclose([found.mean(), found.std()], [0.0, 1.0], atol=1e-4)
    else:
        assert len(values) == 0 or np.ptp(scores.astype(np.float64)) <= 1e-6 * np.abs(scores).max()


@settings(max_examples=25)
@given(SEEDS, st.floats(0.0, 2.0), st.floats(0.0, 2.0))
def test_fitted_weights_do_no_worse_than_the_best_part(seed: int, first: float, second: float) -> None:
    """On the histories that they are chosen by, counted by plain sorting over all items."""
    case = case_of(seed)
    parts = [teller_of(case.wanted, first, seed + 1), teller_of(case.wanted, second, seed + 2), part_of(seed + 3)]
    options = ItemBlendOptions(k=3, candidates_max=ITEMS)
    found = fit_item_blend(parts, case.trial, options)
    alone = [ndcg(blend_of(parts, weights), case.trial, 3) for weights in np.eye(3)]
    assert ndcg(found, case.trial, 3) >= max(alone) - 1e-9
    again = fit_item_blend(parts, case.trial, options)
    assert found.weights.tolist() == again.weights.tolist()


def test_two_views_are_better_than_one() -> None:
    """Two parts with noise of their own are mixed, and one that knows nothing is left out or changes nothing."""
    case = case_of(4)
    parts = [teller_of(case.wanted, 0.9, 5), teller_of(case.wanted, 0.9, 6)]
    found = fit_item_blend(parts, case.trial, ItemBlendOptions(k=3, candidates_max=ITEMS))
    alone = [ndcg(blend_of(parts, weights), case.trial, 3) for weights in np.eye(2)]
    assert (found.weights > 0).all()
    assert ndcg(found, case.trial, 3) > max(alone) + 0.05
    perfect = [teller_of(case.wanted, 0.0, 5), part_of(7)]
    assert fit_item_blend(perfect, case.trial, ItemBlendOptions(k=3)).weights.tolist() == [1.0, 0.0]


def test_small_gains_are_not_taken_when_told_so() -> None:
    """A gain below the least one leaves the best part alone."""
    case = case_of(4)
    parts = [teller_of(case.wanted, 0.9, 5), teller_of(case.wanted, 0.9, 6)]
    found = fit_item_blend(parts, case.trial, ItemBlendOptions(k=3, candidates_max=ITEMS, gain_min=1.0))
    assert sorted(found.weights.tolist()) == [0.0, 1.0]


def test_what_does_not_fit_together_is_refused() -> None:
    """Another vocabulary, another number of weights, nothing wanted, damaged weights."""
    part, other = part_of(1), ItemToItem.of(vocabulary_of(3), csr_matrix(np.eye(3, dtype=np.float32)))
    for parts, weights in (([part, other], [1.0, 1.0]), ([part], [1.0, 1.0]), ([part], [np.nan]), ([], [])):
        with pytest.raises(Invalid, match=r"vocabular|weight"):
            blend_of(parts, weights)
    nothing = Trial(Histories.of([[1], [2]]), Histories.of([[], []]))
    with pytest.raises(Invalid, match="trial"):
        fit_item_blend([part], nothing, ItemBlendOptions())
    with pytest.raises(FitStopped):
        fit_item_blend([part], case_of(1).trial, ItemBlendOptions(), Watch(stopped=lambda: True))
    arrays = blend_of([part], [1.0]).arrays()
    readers = [partial(ItemToItem.read, vocabulary_of(ITEMS))]
    for damaged in (np.array([np.inf]), np.array([1.0, 1.0]), np.array([1], dtype=np.int64)):
        with pytest.raises(ArtifactInvalid, match="weight"):
            ItemBlend.restore({**arrays, "item_blend.weights": damaged}, readers)
