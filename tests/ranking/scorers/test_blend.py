"""The scorer that cannot fail and the selector of the highest scores."""

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.types import FeatureFrame, Models, Query, TimestampMs
from midstream.ranking.scorers.blend import DEFAULT_WEIGHTS, RANK_OFFSET, Blend
from midstream.ranking.selectors.top_k import TopK
from midstream.state.settings import StateLimits

ranks = st.lists(st.tuples(*[st.one_of(st.none(), st.integers(0, 300))] * 3), max_size=30)


def query(slate_size: int) -> Query:
    """A query of some size."""
    return Query("r", "default", None, None, slate_size, TimestampMs(0), 7)


@given(ranks, st.dictionaries(st.sampled_from(("session_knn", "trending", "shelf")), st.floats(0, 10)))
def test_blend_is_the_sum_of_weight_by_place(rows, weights):
    """Sum of weight / (1 + rank) over the sources that proposed the item; without a weight given, the default."""
    names = ("session_knn", "trending", "shelf")
    values = np.array([[np.nan if rank is None else rank for rank in row] for row in rows], dtype=np.float32)
    values = values.reshape(len(rows), 3)
    frame = FeatureFrame(
        (*(f"score.{n}" for n in names), *(f"rank.{n}" for n in names)), np.hstack([values + 1_000, values])
    )
    score = asyncio.run(Blend(weights=weights).score(query(5), frame, Models({})))
    default = {**DEFAULT_WEIGHTS, "shelf": 1.0}
    expected = [
        sum(
            weights.get(name, default[name]) / (1 + rank)
            for name, rank in zip(names, row, strict=True)
            if rank is not None
        )
        for row in rows
    ]
    np.testing.assert_allclose(score, np.array(expected, dtype=np.float32), rtol=1e-6)
    assert np.isfinite(score).all()


def test_the_default_weights_put_the_session_first():
    """The first 19 neighbours' items, and the first 11 pairs, come before the first of trending, that before popular's.

    What only fills up comes after the last of popular, be its list as long as ``limits.hot_items_max``.
    """
    assert RANK_OFFSET == 1
    assert DEFAULT_WEIGHTS["session_knn"] / 19 > DEFAULT_WEIGHTS["trending"]
    assert DEFAULT_WEIGHTS["covisitation"] / 11 > DEFAULT_WEIGHTS["trending"]
    assert DEFAULT_WEIGHTS["trending"] > DEFAULT_WEIGHTS["popular"]
    assert DEFAULT_WEIGHTS["popular"] / StateLimits().hot_items_max > DEFAULT_WEIGHTS["catalogue"]


@given(
    st.lists(st.one_of(st.just(float("nan")), st.sampled_from((0.0, 0.5, 1.0, -1.0))), max_size=40),
    st.integers(1, 50),
)
def test_top_k_takes_the_highest_in_order(scores, slate_size):
    """Best first, equal ones in their order, NaN never, each with certainty."""
    score = np.array(scores, dtype=np.float32)
    frame = FeatureFrame((), np.empty((len(scores), 0), dtype=np.float32))
    selection = TopK().select(query(slate_size), frame, score)
    usable = [row for row, each in enumerate(scores) if each == each]  # noqa: PLR0124  NaN alone differs from itself
    expected = sorted(usable, key=lambda row: (-scores[row], row))[:slate_size]
    assert selection.chosen.tolist() == expected
    assert selection.propensity.tolist() == [1.0] * len(expected)


def test_equal_scores_keep_their_order_in_long_lists_too():
    """500 rows of three scores: the first of the highest, whatever sort a machine has for long lists."""
    score = (np.arange(500) * 7 % 3).astype(np.float32)
    frame = FeatureFrame((), np.empty((500, 0), dtype=np.float32))
    chosen = TopK().select(query(300), frame, score).chosen.tolist()
    assert chosen == sorted(range(500), key=lambda row: (-score[row], row))[:300]
