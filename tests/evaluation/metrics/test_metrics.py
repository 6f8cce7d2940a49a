"""Metrics of lists, against their definitions written out in plain Python."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.evaluation.metrics.metrics import (
    coverage,
    discounted_gain,
    hit,
    rank_of,
    reciprocal_rank,
)

K = 5


@st.composite
def answered(draw):
    """Lists of distinct items filled up with -1, and one wanted item each."""
    count = draw(st.integers(0, 6))
    lists = np.full((count, K), -1, dtype=np.int32)
    for row in range(count):
        items = draw(st.lists(st.integers(0, 8), unique=True, max_size=K))
        lists[row, : len(items)] = items
    wanted = np.array(draw(st.lists(st.integers(-1, 8), min_size=count, max_size=count)), dtype=np.int32)
    return lists, wanted


@given(answered())
def test_a_rank_is_the_place_in_the_list(case):
    """Each rank is where plain Python finds the item, and -1 where it is not, or is not known."""
    lists, wanted = case
    expected = [
        line.tolist().index(item) if item >= 0 and item in line else -1
        for line, item in zip(lists, wanted, strict=True)
    ]
    assert rank_of(lists, wanted).tolist() == expected


def test_an_unknown_item_is_not_found_in_the_filling():
    """The -1 of an unknown item does not match the -1 behind a short list."""
    assert rank_of(np.array([[3, -1, -1]], np.int32), np.array([-1], np.int32)).tolist() == [-1]


@given(st.lists(st.integers(-1, 30), min_size=1, max_size=50), st.integers(1, 25))
def test_metrics_equal_their_definitions(ranks, k):
    """HR, MRR and NDCG are what their formulas say, place by place."""
    rank = np.array(ranks, dtype=np.int32)
    within = [0 <= place < k for place in ranks]
    assert hit(rank, k).tolist() == [float(each) for each in within]
    assert reciprocal_rank(rank, k).tolist() == [
        1 / (place + 1) if each else 0.0 for place, each in zip(ranks, within, strict=True)
    ]
    np.testing.assert_allclose(
        discounted_gain(rank, k),
        [1 / math.log2(place + 2) if each else 0.0 for place, each in zip(ranks, within, strict=True)],
    )


@given(st.lists(st.integers(-1, 30), min_size=1, max_size=50), st.integers(1, 25))
def test_metrics_are_bounded_and_ordered(ranks, k):
    """MRR ≤ NDCG ≤ HR in each question, all within 0 and 1, and a longer list is never worse."""
    rank = np.array(ranks, dtype=np.int32)
    assert (reciprocal_rank(rank, k) <= discounted_gain(rank, k) + 1e-12).all()
    assert (discounted_gain(rank, k) <= hit(rank, k)).all()
    assert (hit(rank, k) <= hit(rank, k + 1)).all()


@given(answered())
def test_coverage_counts_each_item_once(case):
    """Coverage is the share of items that any list holds; the filling is no item."""
    lists, _ = case
    distinct = {item for line in lists.tolist() for item in line if item >= 0}
    assert coverage(lists, 9) == len(distinct) / 9
    assert math.isnan(coverage(lists, 0))
