"""RP3β: weights are those of three random steps, and of no others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.core.errors import FitStopped
from midstream.models.histories import Histories, Interactions
from midstream.models.items import item_weights
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.items.rp3beta import Rp3betaOptions, fit_rp3beta
from midstream.models.model import Watch
from midstream.testing.model_conformance import check_item_model
from tests.models.linear import SEEDS, dense, some_interactions, some_questions, weights_of


def weighted(seed: int) -> Interactions:
    """Acts of users with weights, repeats among them."""
    data, dice = some_interactions(seed), np.random.default_rng(seed)
    told = data.histories
    weight = dice.uniform(0.2, 3.0, len(told.row)).astype(np.float32)
    return Interactions(data.vocabulary, Histories(told.row, weight, told.start))


def walked(matrix: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """Step by step, one pair of items at a time."""
    users, items = matrix.shape
    of_user, of_item = matrix.sum(axis=1), matrix.sum(axis=0)
    found = np.zeros((items, items))
    for one in range(items):
        for user in range(users):
            if not matrix[user, one]:
                continue
            there = (matrix[user, one] / of_item[one]) ** alpha
            for other in range(items):
                if other != one and matrix[user, other]:
                    found[one, other] += there * (matrix[user, other] / of_user[user]) ** alpha
    return found / np.where(of_item > 0, of_item, 1.0) ** beta


@settings(max_examples=10)
@given(SEEDS, st.sampled_from([0.5, 1.0, 1.7]), st.sampled_from([0.0, 0.6, 1.0]))
def test_weights_are_those_of_the_walk(seed: int, alpha: float, beta: float) -> None:
    """With all of them kept, for acts of any weight."""
    data = weighted(seed)
    wanted = walked(dense(data.histories, 24), alpha, beta)
    found = weights_of(fit_rp3beta(data, Rp3betaOptions(alpha=alpha, beta=beta, kept_max=24)))
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-8)


@settings(max_examples=10)
@given(SEEDS, st.integers(1, 6))
def test_the_largest_of_each_row_are_kept(seed: int, kept: int) -> None:
    """At most so many, and none that is larger is left out."""
    data = weighted(seed)
    whole = weights_of(fit_rp3beta(data, Rp3betaOptions(kept_max=24)))
    found = weights_of(fit_rp3beta(data, Rp3betaOptions(kept_max=kept)))
    for part, every in zip(found, whole, strict=True):
        assert np.count_nonzero(part) == min(kept, np.count_nonzero(every))
        assert np.array_equal(part[part > 0], every[part > 0])
        assert not (part > 0).any() or every[part == 0].max() <= part[part > 0].min()


@settings(max_examples=10)
@given(SEEDS, st.integers(1, 30))
def test_it_keeps_the_promises_of_an_item_model(seed: int, kept: int) -> None:
    """Conformance, with weights and an empty history; the same data give the same weights."""
    data = weighted(seed)
    model = fit_rp3beta(data, Rp3betaOptions(kept_max=kept))
    check_item_model(model, some_questions(seed, 24), lambda arrays: ItemToItem.read(data.vocabulary, arrays))
    again = fit_rp3beta(data, Rp3betaOptions(kept_max=kept))
    assert all(np.array_equal(array, again.arrays()[name]) for name, array in model.arrays().items())


def test_rows_are_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """24 items at once, or five at a time."""
    data = weighted(4)
    whole = fit_rp3beta(data, Rp3betaOptions())
    monkeypatch.setattr(item_weights, "_ROWS", 5)
    parts = fit_rp3beta(data, Rp3betaOptions())
    assert np.array_equal(weights_of(parts), weights_of(whole))


def test_what_is_in_no_walk_is_not_proposed() -> None:
    """An item that nobody shares; and no users at all."""
    data = some_interactions(1, users=40, items=24)
    apart = Interactions(data.vocabulary, Histories.of([[0, 1], [0, 2], [7]]))
    model = fit_rp3beta(apart, Rp3betaOptions())
    rows, _ = model.best(Histories.of([[0]]), 24)
    assert sorted(rows.tolist()) == [1, 2]
    assert not len(model.best(Histories.of([[7]]), 24)[0])
    nobody: list[list[int]] = []
    assert not len(fit_rp3beta(Interactions(data.vocabulary, Histories.of(nobody)), Rp3betaOptions()).weight)


def test_it_stops_when_it_is_told_to() -> None:
    """Before the first block."""
    with pytest.raises(FitStopped):
        fit_rp3beta(some_interactions(1), Rp3betaOptions(), Watch(stopped=lambda: True))
