"""Products are added in one order and the best of them are exact: equal to plain NumPy, to the bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from midstream.models.kernels.simd_dot import LANES, inner
from midstream.models.kernels.top_k import inner_products, top_k
from midstream.models.kernels.top_k_kernels import frozen, keep_greatest, key_of, score_of
from midstream.models.model import best_of

# Exact and inexact ones, of both signs and both zeros: sums of them have ties, and depend on their order.
NUMBERS = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5]), st.floats(-1e4, 1e4, width=32))


@st.composite
def questions(draw, *, most=1):
    """Queries and items of one width, with or without a remainder of 16."""
    width, many = draw(st.integers(1, 70)), draw(st.integers(0 if most > 1 else 1, most))
    rows = draw(st.integers(0, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    few = draw(hnp.arrays(np.float32, 12, elements=NUMBERS))
    dice = np.random.default_rng(seed)
    return dice.choice(few, (many, width)), dice.choice(few, (rows, width))


def product_of(query, items):
    """The twin: what ``lanes`` says, for all items at once."""
    blocks = len(query) // LANES
    sums = np.zeros((len(items), LANES), dtype=np.float32)
    for block in range(blocks):
        part = slice(block * LANES, (block + 1) * LANES)
        sums += items[:, part] * query[part]
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    total = sums[:, 0]
    for column in range(blocks * LANES, len(query)):
        total = total + items[:, column] * query[column]
    return total


def bits(array):
    """The bits of float32, so that 0 is not −0."""
    return array.view(np.int32).tolist()


@given(questions(most=3))
def test_products_are_added_in_one_order(asked):
    """Each product is that of the twin to the bit, whatever stands beside it; alone as among others."""
    queries, items = asked
    found = inner_products(queries, items)
    assert found.shape == (len(queries), len(items))
    for query, row in zip(queries, found, strict=True):
        assert bits(row) == bits(product_of(query, items))
    for number in range(len(items)):
        alone = inner_products(queries, items[number : number + 1])
        assert bits(alone[:, 0]) == bits(found[:, number])
        if len(queries):
            assert inner(frozen(items), number, frozen(queries[:1])) == found[0, number]


@given(questions(), st.integers(-1, 50))
def test_the_best_are_those_of_a_full_sort(asked, k):
    """Rows and scores are those of all products sorted, of equal ones the lower row first."""
    queries, items = asked
    rows, scores = top_k(queries[0], items, k)
    every = product_of(queries[0], items)
    expected = np.lexsort((np.arange(len(items)), -every))[: max(k, 0)]
    assert rows.tolist() == expected.tolist() == best_of(every, k).tolist()
    assert bits(scores) == bits(every[expected])
    assert rows.dtype == np.int32
    assert scores.dtype == np.float32


@pytest.mark.parametrize("k", [1, 7, 500, 4_000])
@pytest.mark.parametrize("order", ["random", "rising", "falling", "equal"])
def test_many_items_in_any_order(order, k):
    """The keys fill up and are cut many times, in the best and in the worst order."""
    dice = np.random.default_rng(5)
    items = dice.standard_normal((8_003, 24)).astype(np.float32)
    query = dice.standard_normal(24).astype(np.float32)
    every = product_of(query, items)
    if order == "equal":
        items[:] = items[0]
    elif order != "random":
        items = items[np.argsort(every)[:: 1 if order == "rising" else -1]]
    every = product_of(query, items)
    rows, scores = top_k(query, items, k)
    assert (rows == np.lexsort((np.arange(len(items)), -every))[:k]).all()
    assert bits(scores) == bits(every[rows])


def test_what_is_no_number_is_left_out():
    """NaN and −inf never come, inf comes first."""
    items = np.array([[1.0], [np.nan], [-np.inf], [np.inf], [2.0]], dtype=np.float32)
    rows, scores = top_k(np.ones(1, dtype=np.float32), items, 5)
    assert rows.tolist() == [3, 4, 0]
    assert scores.tolist() == [np.inf, 2.0, 1.0]


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=60), st.data())
def test_keys_sort_as_their_answer_does(values, data):
    """A greater key is of a better score or the lower row; the score comes back with its bits; the k greatest stay."""
    scores = np.array(values, dtype=np.float32) + np.float32(0)
    keys = np.array([key_of(int(each), row) for row, each in enumerate(scores.view(np.int32))], dtype=np.int64)
    assert np.argsort(-keys).tolist() == np.lexsort((np.arange(len(scores)), -scores)).tolist()
    assert bits(np.array([score_of(int(key)) for key in keys], dtype=np.float32)) == bits(scores)
    k = data.draw(st.integers(1, len(keys) - 1))
    kept = keys.copy()
    keep_greatest(kept, len(kept), k)
    assert sorted(kept) == sorted(keys)
    assert sorted(kept[:k]) == sorted(keys)[-k:]
    assert kept[k - 1] == min(kept[:k])
