"""Diversity against accuracy: weight 0 is the order of the scores, and more weight brings other values in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.quality.diversity_curve import Lists, _lists, diversity_curve
from midstream.evaluation.metrics.statistics import Resampling

QUICK = Resampling(resamples=50)


def lists_of(scores: list[list[float]], wanted: list[int]) -> Lists:
    """Questions whose candidates are the items 0, 1, 2 …, with these scores."""
    sizes = [len(each) for each in scores]
    return Lists(
        np.array([score for each in scores for score in each], dtype=np.float32),
        np.concatenate([np.arange(size, dtype=np.int32) for size in sizes]),
        np.cumsum([0, *sizes], dtype=np.int64),
        np.array(wanted, dtype=np.int32),
        np.arange(len(scores), dtype=np.intp),
    )


CODES = np.array([[0], [0], [0], [1], [2]], dtype=np.int32)


def test_a_curve_by_hand():
    """Three red items with the best scores: without weight they stand first, with all of it one of each colour does."""
    lists = lists_of([[5.0, 4.0, 3.0, 2.0, 1.0]], [1])
    assert _lists(lists, CODES, 0.0, 3).tolist() == [[0, 1, 2]]
    assert _lists(lists, CODES, 1.0, 3).tolist() == [[0, 3, 4]]
    plain, mixed = diversity_curve(lists, CODES, 3, QUICK, (0.0, 1.0))
    assert (plain.distance.mean, mixed.distance.mean) == (0.0, 1.0)
    assert plain.ndcg.mean == pytest.approx(1 / np.log2(3))
    assert mixed.ndcg.mean == 0.0
    assert (plain.coverage, mixed.coverage) == (0.6, 0.6)
    assert mixed.ndcg_difference.mean == pytest.approx(-plain.ndcg.mean)
    assert mixed.distance_difference.mean == 1.0
    curve = diversity_curve(lists, CODES, 3, QUICK, (0.0, 0.5, 1.0))
    assert [each.ndcg_difference.tests_count for each in curve] == [1, 2, 2]


@settings(max_examples=30)
@given(
    scores=st.lists(st.lists(st.integers(0, 9).map(float), max_size=5), min_size=1, max_size=6),
    weight=st.sampled_from((0.0, 0.3, 1.0)),
    k=st.integers(1, 4),
)
def test_lists_hold_each_candidate_once(scores, weight, k):
    """As many as there are, at most k; without weight the best by score, of equal ones the earlier."""
    made = _lists(lists_of(scores, [-1] * len(scores)), CODES, weight, k)
    for told, row in zip(scores, made.tolist(), strict=True):
        items = [item for item in row if item >= 0]
        assert len(items) == min(k, len(told)) == len(set(items))
        assert set(items) <= set(range(len(told)))
        if weight == 0.0:
            assert items == sorted(range(len(told)), key=lambda item: (-told[item], item))[:k]
