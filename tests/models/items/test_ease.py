"""EASE: the closed form, the sparse form that equals it where it may, and what both keep."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.core.errors import FitStopped, Invalid
from midstream.models.histories import Histories
from midstream.models.items.ease import EaseOptions, fit_ease
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.model import Watch
from midstream.testing.model_conformance import check_item_model
from tests.models.linear import SEEDS, dense, interactions_of, some_interactions, some_questions, weights_of

ALL = 10_000


def parts_of(histories: Histories) -> list[Histories]:
    """Return each history by itself."""
    return [histories.part(number, number + 1) for number in range(len(histories))]


def plain(matrix: np.ndarray, ridge: float, dropout: float = 0.0, user_power: float = 0.0) -> np.ndarray:
    """Return the weights of equation 8, one line a step."""
    total = matrix.sum(axis=1)
    scaled = matrix / np.where(total > 0, total, 1.0)[:, None] ** user_power
    shared = scaled.T @ scaled
    diagonal = np.diag(shared)
    inverse = np.linalg.inv(shared + np.diag(ridge + dropout / (1 - dropout) * diagonal))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


@settings(max_examples=20)
@given(SEEDS, st.sampled_from([0.5, 5.0, 50.0]), st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 0.5]))
def test_weights_are_those_of_the_closed_form(seed: int, ridge: float, dropout: float, user_power: float) -> None:
    """Exact is the published solution, and so is sparse where all items share a user and are each other's support."""
    rows = [[int(each) for each in history.row] for history in parts_of(some_interactions(seed).histories)]
    data, questions = interactions_of([*rows, list(range(24))], 24), some_questions(seed, 24)
    wanted = plain(dense(data.histories, 24), ridge, dropout, user_power)
    for exact_items_max in (ALL, 1):
        options = EaseOptions(
            regularization=ridge,
            dropout=dropout,
            user_power=user_power,
            support=ALL,
            kept_max=ALL,
            exact_items_max=exact_items_max,
        )
        model = fit_ease(data, options)
        assert np.allclose(weights_of(model), wanted, atol=2e-6)
        assert np.allclose(model.scores(questions), dense(questions, 24) @ wanted, atol=1e-4)


@settings(max_examples=15)
@given(SEEDS, st.integers(1, 8))
def test_a_sparse_column_is_the_regression_on_its_support(seed: int, support: int) -> None:
    """Each item is regressed on the items most like it by cosine, and on nothing else."""
    data = some_interactions(seed)
    options = EaseOptions(regularization=3.0, support=support, kept_max=ALL, exact_items_max=1)
    found = weights_of(fit_ease(data, options))
    matrix = dense(data.histories, 24)
    shared = matrix.T @ matrix
    for item in range(24):
        rows = np.flatnonzero(found[:, item])
        assert len(rows) <= support
        assert item not in rows
        together = shared[item] / np.sqrt(np.maximum(np.diag(shared), 1e-12))
        left_out = [other for other in np.flatnonzero(shared[item]) if other != item and other not in rows]
        if len(rows) and left_out:
            assert together[rows].min() >= together[left_out].max() - 1e-6
        solution = np.linalg.solve(shared[np.ix_(rows, rows)] + 3.0 * np.eye(len(rows)), shared[rows, item])
        assert np.allclose(found[rows, item], solution, atol=1e-6)


@settings(max_examples=10)
@given(SEEDS, st.sampled_from([ALL, 1]))
def test_it_keeps_the_promises_of_an_item_model(seed: int, exact_items_max: int) -> None:
    """Conformance, with repeats, weights and an empty history; the same data gives the same weights."""
    data = some_interactions(seed)
    options = EaseOptions(regularization=2.0, support=6, kept_max=5, exact_items_max=exact_items_max)
    model = fit_ease(data, options)
    check_item_model(model, some_questions(seed, 24), lambda arrays: ItemToItem.read(data.vocabulary, arrays))
    again = fit_ease(data, options)
    assert all(np.array_equal(array, again.arrays()[name]) for name, array in model.arrays().items())


@pytest.mark.parametrize("exact_items_max", [ALL, 1])
def test_the_largest_entries_of_each_row_are_kept(exact_items_max: int) -> None:
    """What a row keeps is what is largest of it, whatever its sign, and as it was."""
    data = some_interactions(5)
    everything = EaseOptions(regularization=1.0, support=ALL, kept_max=ALL, exact_items_max=exact_items_max)
    few = EaseOptions(regularization=1.0, support=ALL, kept_max=4, exact_items_max=exact_items_max)
    whole = weights_of(fit_ease(data, everything))
    kept = weights_of(fit_ease(data, few))
    assert (kept < 0).any()
    for row, found in zip(whole, kept, strict=True):
        there = np.flatnonzero(found)
        assert len(there) == min(4, np.count_nonzero(row))
        assert (found[there] == row[there]).all()
        assert np.abs(found[there]).min() >= np.delete(np.abs(row), there).max()


@pytest.mark.parametrize("exact_items_max", [ALL, 1])
def test_items_that_nobody_acted_on_say_nothing(exact_items_max: int) -> None:
    """An item without acts has no entries and gets none, and is answered with nothing."""
    data = interactions_of([[0, 1], [1, 2], [0, 1, 2]], 5)
    model = fit_ease(data, EaseOptions(regularization=1.0, exact_items_max=exact_items_max))
    found = weights_of(model)
    assert not found[3:].any()
    assert not found[:, 3:].any()
    rows, scores = model.best(data.histories.part(1, 2), 5)
    assert set(rows.tolist()) <= {0, 1, 2}
    assert len(scores) == len(rows)


@pytest.mark.parametrize("exact_items_max", [ALL, 1])
def test_a_fit_without_a_solution_or_time_stops(exact_items_max: int) -> None:
    """No ridge and two items that always come together: no solution; and the wish to stop is heard."""
    data = interactions_of([[0, 1, 2]] * 4, 3)
    with pytest.raises(Invalid, match="regularization"):
        fit_ease(data, EaseOptions(regularization=0.0, exact_items_max=exact_items_max))
    for after in range(3):
        told: list[float] = []

        def tell(_: str, share: float, told: list[float] = told) -> None:
            told.append(share)

        watch = Watch(tell, lambda told=told, after=after: len(told) >= after)  # type: ignore[misc]
        with pytest.raises(FitStopped):
            fit_ease(data, EaseOptions(exact_items_max=exact_items_max), watch)
        assert told == sorted(told)
