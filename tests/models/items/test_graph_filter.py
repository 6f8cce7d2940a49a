"""Graph filter: what is kept is the published formula where all is kept, with and without sharpening."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from midstream.core.errors import FitStopped
from midstream.models.histories import Histories, Interactions
from midstream.models.items.graph_filter import GraphFilterOptions, fit_graph_filter, products_of, sharpened
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.model import Watch
from midstream.testing.model_conformance import check_item_model
from tests.models.linear import SEEDS, dense, interactions_of, some_interactions, some_questions, weights_of

ALL = 10_000


def powered(sums: np.ndarray, exponent: float) -> np.ndarray:
    """Return a diagonal of powers, 0 where there is nothing."""
    return np.diag([each**exponent if each > 0 else 0.0 for each in sums])


def plain(matrix: np.ndarray, options: GraphFilterOptions, asked: np.ndarray) -> np.ndarray:
    """Return the scores of the formula by its own steps: two filters, then one step of Runge-Kutta."""
    people, items = matrix.sum(axis=1), matrix.sum(axis=0)
    graph = powered(people, -options.user_power) @ matrix @ powered(items, -options.item_power)
    _, values, turned = np.linalg.svd(graph, full_matrices=False)
    graph = graph / values[0]
    walk = graph.T @ graph
    vectors = turned[: options.factors].T
    low = powered(items, -options.low_pass_power) @ vectors @ vectors.T @ powered(items, options.low_pass_power)
    state = asked @ walk + options.low_pass * asked @ low
    length = options.sharpening
    first = -state @ walk
    second = -(state + length / 2 * first) @ walk
    third = -(state + length / 2 * second) @ walk
    fourth = -(state + length * third) @ walk
    found: np.ndarray = state + length / 6 * (first + 2 * second + 2 * third + fourth)
    return found


@settings(max_examples=20)
@given(
    SEEDS,
    st.sampled_from([0.0, 1.0, 2.5]),
    st.sampled_from([0.0, 0.3, 2.0]),
    st.tuples(st.sampled_from([0.3, 0.5]), st.sampled_from([0.4, 0.5]), st.sampled_from([0.0, 0.5])),
)
@example(3, 0.0, 2.0, (0.3, 0.4, 0.5))  # squares in float32 lost a singular vector of a sixth of the largest size
def test_scores_are_those_of_the_formula(
    seed: int, sharpening: float, low_pass: float, powers: tuple[float, float, float]
) -> None:
    """With all singular vectors and all entries, scores equal both published models on the whole graph."""
    data, questions = some_interactions(seed), some_questions(seed, 24)
    user_power, item_power, low_pass_power = powers
    options = GraphFilterOptions(
        factors=24,
        low_pass=low_pass,
        sharpening=sharpening,
        user_power=user_power,
        item_power=item_power,
        low_pass_power=low_pass_power,
        kept_max=ALL,
    )
    wanted = plain(dense(data.histories, 24), options, dense(questions, 24))
    found = fit_graph_filter(data, options).scores(questions)
    assert np.allclose(found, wanted, atol=2e-4 * np.abs(wanted).max())


@settings(max_examples=15)
@given(SEEDS, st.integers(2, 8), st.sampled_from([0.0, 1.5]))
def test_fewer_vectors_are_the_largest(seed: int, factors: int, low_pass: float) -> None:
    """Without sharpening nothing is approximated but by the vectors that are asked for, and these are the largest."""
    data, questions = some_interactions(seed), some_questions(seed, 24)
    options = GraphFilterOptions(factors=factors, low_pass=low_pass, kept_max=ALL, iterations=40)
    matrix = dense(data.histories, 24)
    graph = powered(matrix.sum(axis=1), -0.5) @ matrix @ powered(matrix.sum(axis=0), -0.5)
    values = np.linalg.svd(graph, compute_uv=False)
    if values[factors - 1] - values[factors] < 1e-3:
        return  # Two of a size: which comes first is not said.
    wanted = plain(matrix, options, dense(questions, 24))
    found = fit_graph_filter(data, options).scores(questions)
    assert np.allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())


@settings(max_examples=10)
@given(SEEDS, st.sampled_from([0.0, 2.0]), st.integers(1, 8))
def test_it_keeps_the_promises_of_an_item_model(seed: int, sharpening: float, kept_max: int) -> None:
    """Conformance, with repeats, weights and an empty history; the same seed gives the same weights."""
    data = some_interactions(seed)
    options = GraphFilterOptions(factors=6, sharpening=sharpening, kept_max=kept_max)
    model = fit_graph_filter(data, options)
    check_item_model(model, some_questions(seed, 24), lambda arrays: ItemToItem.read(data.vocabulary, arrays))
    assert np.diff(model.start).max() <= kept_max
    again = fit_graph_filter(data, options)
    assert all(np.array_equal(array, again.arrays()[name]) for name, array in model.arrays().items())


def test_what_was_not_asked_for_is_left_out() -> None:
    """The entries kept of a row are its largest, whatever their sign."""
    data = some_interactions(3)
    options = GraphFilterOptions(factors=8, sharpening=2.5, low_pass=0.5, kept_max=ALL)
    whole = weights_of(fit_graph_filter(data, options))
    kept = weights_of(fit_graph_filter(data, replace(options, kept_max=15)))
    assert (kept < 0).any()
    for row, found in zip(whole, kept, strict=True):
        there = np.flatnonzero(found)
        assert len(there) == min(15, np.count_nonzero(row))
        assert (found[there] == row[there]).all()
        assert np.abs(np.delete(row, there)).max(initial=0.0) <= np.abs(found[there]).min()


def test_items_of_no_user_and_users_of_no_item_change_nothing() -> None:
    """What has no edge is not in the graph, and a graph without edges says nothing."""
    rows = [[0, 1], [1, 2], [0, 2, 3]]
    few = fit_graph_filter(interactions_of(rows, 4), GraphFilterOptions(kept_max=ALL))
    more = fit_graph_filter(interactions_of([rows[0], [], *rows[1:]], 6), GraphFilterOptions(kept_max=ALL))
    found = weights_of(more)
    assert not found[4:].any()
    assert not found[:, 4:].any()
    assert np.allclose(found[:4, :4], weights_of(few), atol=1e-5)
    none = fit_graph_filter(interactions_of([[], []], 3), GraphFilterOptions())
    assert not none.scores(Histories.of([[0, 1], []])).any()
    assert len(none.best(Histories.of([[0]]), 3)[0]) == 0


def test_an_act_of_more_weight_counts_as_several() -> None:
    """An act that weighs 2 is learned from as two that weigh 1."""
    once = some_interactions(11)
    twice = Histories.of([[*rows, rows[0]] for rows in ([1, 2], [2, 3, 4], [0, 4])])
    weighed = Histories.of([[1, 2], [2, 3, 4], [0, 4]])
    weights = np.array([2, 1, 2, 1, 1, 2, 1], dtype=np.float32)
    options = GraphFilterOptions(kept_max=ALL)
    first = fit_graph_filter(Interactions(once.vocabulary, twice), options)
    second = fit_graph_filter(Interactions(once.vocabulary, Histories(weighed.row, weights, weighed.start)), options)
    assert np.array_equal(first.weight, second.weight)


@given(st.floats(0.0, 1.0), st.floats(0.0, 2.5))
def test_sharpening_is_of_order_four(eigenvalue: float, length: float) -> None:
    """The step leaves the exponential by its fifth term at most, and a length of 0 leaves all as it is."""
    step = eigenvalue * length
    found = float(sharpened(np.array([eigenvalue]), length)[0])
    assert abs(found - np.exp(-step)) <= step**5 / 120 + 1e-12
    assert float(sharpened(np.array([eigenvalue]), 0.0)[0]) == 1.0


def _note(seen: list[float], _: str, share: float) -> None:
    seen.append(share)


def _heard(seen: list[float], after: int) -> bool:
    return len(seen) >= after


def test_a_fit_tells_and_stops() -> None:
    """Shares go up, and the wish to stop is heard at each step."""
    data = some_interactions(1)
    told: list[float] = []
    fit_graph_filter(data, GraphFilterOptions(), Watch(lambda _, share: told.append(share)))
    assert told == sorted(told)
    assert len(told) > 5
    for after in range(len(told)):
        seen: list[float] = []
        watch = Watch(partial(_note, seen), partial(_heard, seen, after))
        with pytest.raises(FitStopped):
            fit_graph_filter(data, GraphFilterOptions(), watch)


def test_products_of_many_users_take_no_copy_of_them() -> None:
    """A tenth of what they are in float64, whatever their number; the sums are those of all rows at once."""
    columns = np.random.default_rng(1).standard_normal((400_000, 16)).astype(np.float32)
    tracemalloc.start()
    found = products_of(columns)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < columns.size * 8 / 10
    exact = columns.astype(np.float64)
    assert np.allclose(found, exact.T @ exact, rtol=1e-12, atol=1e-12 * len(columns))
    assert products_of(columns[:0]).tolist() == np.zeros((16, 16)).tolist()
