"""Metrics of lists with several right items: hand-computed values, and definitions written out in plain Python."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from midstream.evaluation.metrics.list_metrics import (
    ACCURACY,
    RelevantItems,
    attribute_diversity,
    average_popularity,
    hits_of,
    novelty,
)

LISTS = np.array([[4, 7, 1, 9], [3, 2, -1, -1], [5, 6, 8, 0]], dtype=np.int32)
WANTED = RelevantItems.of([[7, 9, 30], [3, -1], []])
GOLDEN = {
    # Right at places 2 and 4 of 3 right items; at place 1 of 2; nothing is right.
    ("HR", 4): (1.0, 1.0),
    ("HR", 1): (0.0, 1.0),
    ("recall", 4): (2 / 3, 1 / 2),
    ("recall", 2): (1 / 3, 1 / 2),
    ("precision", 4): (2 / 4, 1 / 4),
    ("MRR", 4): (1 / 2, 1.0),
    ("MRR", 1): (0.0, 1.0),
    # (1/2 + 2/4) / 3; 1 / 2.
    ("MAP", 4): (1 / 3, 1 / 2),
    ("MAP", 2): (1 / 6, 1 / 2),
    # 1/log2(3) + 1/log2(5) over 1 + 1/log2(3) + 1/log2(4); 1 over 1 + 1/log2(3).
    ("NDCG", 4): (0.498189257, 0.613147193),
    # 1/log2(3) over 1 + 1/log2(3).
    ("NDCG", 2): (0.386852807, 0.613147193),
}


@pytest.mark.parametrize("name,k", GOLDEN)
def test_accuracy_is_what_was_computed_by_hand(name, k):
    """Both lists, and NaN where nothing is right."""
    found = ACCURACY[name](hits_of(LISTS, WANTED), WANTED.counts, k)
    assert found[:2] == pytest.approx(GOLDEN[name, k], abs=1e-9)
    assert math.isnan(found[2])


@st.composite
def answered(draw):
    """Lists of distinct items filled up with -1, right items, some of them unknown, and k."""
    k, count = draw(st.integers(1, 6)), draw(st.integers(0, 5))
    lists = np.full((count, k), -1, dtype=np.int32)
    for row in range(count):
        items = draw(st.lists(st.integers(0, 9), unique=True, max_size=k))
        lists[row, : len(items)] = items
    wanted = [draw(st.lists(st.integers(-1, 9), max_size=7)) for _ in range(count)]
    return lists, wanted, draw(st.integers(1, k))


def plain(name, line, right, k):
    """One metric of one list, from its definition."""
    items = [item for item in line[:k].tolist() if item >= 0]
    found = {place for place, item in enumerate(items) if item in right}
    total = len({item for item in right if item >= 0}) + sum(item < 0 for item in right)
    if total == 0:
        return math.nan
    return {
        "HR": float(bool(found)),
        "recall": len(found) / total,
        "precision": len(found) / k,
        "MRR": 1 / (min(found) + 1) if found else 0.0,
        "MAP": sum(sum(at <= place for at in found) / (place + 1) for place in found) / total,
        "NDCG": sum(1 / math.log2(place + 2) for place in found)
        / sum(1 / math.log2(place + 2) for place in range(min(total, k))),
    }[name]


@given(answered())
def test_accuracy_is_its_definition(case):
    """Every metric of every list, to 1e-12."""
    lists, wanted, k = case
    right = RelevantItems.of(wanted)
    for name, metric in ACCURACY.items():
        found = metric(hits_of(lists, right), right.counts, k)
        expected = [plain(name, line, each, k) for line, each in zip(lists, wanted, strict=True)]
        assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(answered(), st.randoms(use_true_random=False))
def test_only_some_of_the_right_items(case, random):
    """What is left is what was marked, list by list."""
    right = RelevantItems.of(case[1])
    kept = np.array([random.random() < 0.5 for _ in right.item], dtype=np.bool_)
    left = right.only(kept)
    assert len(left) == len(right)
    for number in range(len(right)):
        part = slice(right.start[number], right.start[number + 1])
        mine = slice(left.start[number], left.start[number + 1])
        assert left.item[mine].tolist() == right.item[part][kept[part]].tolist()


def test_variety_is_what_was_computed_by_hand():
    """Two lists and an empty one: bits of self-information, popularity, distances by attributes."""
    lists = np.array([[0, 1, 2], [2, 3, -1], [-1, -1, -1]], dtype=np.int32)
    acted = np.array([8, 4, 2, 0])
    # -log2 of 8/16, 4/16, 2/16; nobody counts as one of 16.
    assert novelty(lists, acted, 16) == pytest.approx([2.0, 3.5, math.nan], nan_ok=True)
    assert average_popularity(lists, acted) == pytest.approx([14 / 3, 1.0, math.nan], nan_ok=True)
    attributes = csr_matrix(np.array([[1, 1, 0], [0, 1, 1], [0, 0, 5], [0, 0, 0]]))
    # Jaccard 1/3, 0, 1/2; and one of an empty set, which is 0.
    assert attribute_diversity(lists, attributes) == pytest.approx([1 - (5 / 6) / 3, 1.0, math.nan], nan_ok=True)
    assert np.isnan(attribute_diversity(lists[:, :1], attributes)).all()


def test_each_unknown_item_is_one_that_should_have_been_found():
    """Of four right ones of which the model knows one, which was found: a quarter."""
    right = RelevantItems.of([[-1, -1, -1, 7, 7]])
    hits = hits_of(np.array([[7, 3, -1, -1]], dtype=np.int32), right)
    assert ACCURACY["precision"](hits, right.counts, 4).tolist() == [0.25]
    assert ACCURACY["recall"](hits, right.counts, 4).tolist() == [0.25]
