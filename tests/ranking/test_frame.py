"""Merging proposals, beside a plain twin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.types import Candidates, Proposal
from midstream.ranking.boundary import Account
from midstream.ranking.filters.among import among
from midstream.ranking.frame import FeatureReader, extend, merge, ranks_of, take

proposals = st.dictionaries(
    st.sampled_from(("a", "b", "c", "d")),
    st.lists(st.integers(0, 60), max_size=40).map(
        lambda items: Proposal(
            np.array(items, dtype=np.int32), np.arange(len(items), 0, -1, dtype=np.int64).astype(np.float32)
        )
    ),
    max_size=4,
)


def twin(given: dict[str, Proposal]):
    """Row by row, with dictionaries."""
    rows: dict[int, dict[str, tuple[float, int]]] = {}
    for name, proposal in given.items():
        first: dict[int, float] = {}  # an item that comes again counts at its first place
        for item, score in zip(proposal.item_index.tolist(), proposal.score.tolist(), strict=True):
            first.setdefault(item, score)
        for rank, (item, score) in enumerate(first.items()):
            rows.setdefault(item, {})[name] = (score, rank)
    return rows


@given(proposals, st.lists(st.booleans(), min_size=160, max_size=160), st.lists(st.integers(61, 80), unique=True))
def test_merge_take_extend_and_read_are_what_the_twin_says(given, keeps, more):
    """Distinct items in order of first proposal, with each source's score and rank, through every step."""
    candidates = merge(given, 61)
    rows = twin(given)
    assert candidates.item_index.tolist() == list(rows)
    assert candidates.item_index.dtype == np.int32
    keep = np.array(keeps[: len(rows)], dtype=np.bool_)
    kept = take(candidates, keep)
    longer = extend(kept, "more", np.array(more, dtype=np.int32), 5)
    expected = [(item, said) for (item, said), stays in zip(rows.items(), keep, strict=True) if stays]
    expected += [(item, {"more": (0.0, 5 + rank)}) for rank, item in enumerate(more)]
    assert longer.item_index.tolist() == [item for item, _ in expected]
    frame = FeatureReader(None, Account()).frame((), longer)  # type: ignore[arg-type]
    names = (*given, "more")
    assert longer.source_names == names
    assert frame.names == (*(f"score.{name}" for name in names), *(f"rank.{name}" for name in names))
    for row, (_, said) in enumerate(expected):
        for column, name in enumerate(names):
            score, rank = said.get(name, (None, None))
            assert longer.source_rank[row, column] == (-1 if rank is None else rank)
            for value, found in ((score, column), (rank, column + len(names))):
                np.testing.assert_equal(frame.values[row, found], np.nan if value is None else value)


def test_merging_leaves_nothing_for_the_next_request():
    """The scratch is no state: a smaller or larger request after another gives its own."""
    one = {"a": Proposal(np.array([5, 3], np.int32), np.ones(2, np.float32))}
    two = {"a": Proposal(np.array([3, 9_000, 5], np.int32), np.ones(3, np.float32))}
    for asked, expected in ((one, [5, 3]), (two, [3, 9_000, 5]), (one, [5, 3]), ({}, [])):
        assert merge(asked, 10_000).item_index.tolist() == expected


@pytest.mark.parametrize("given_max", [0, 1, 2, 50, 3_000])
def test_among_is_membership(given_max):
    """However many are asked for; -1 is no item."""
    rng = np.random.default_rng(given_max)
    for _ in range(20):
        items = rng.integers(0, 100, 40).astype(np.int32)
        asked = rng.integers(-1, 100, rng.integers(0, given_max + 1)).astype(np.int32)
        assert among(items, asked).tolist() == [item in set(asked.tolist()) for item in items.tolist()]


@given(st.integers(0, 4), st.integers(0, 40), st.integers(0, 9_999))
def test_ranks_are_nan_where_a_source_did_not_propose(sources, rows, seed):
    """The usual NaN, to the bit, however the ranks lie in memory; they stay as they are."""
    rank = np.random.default_rng(seed).choice([-1, -1, 0, 1, 499, 16_777_216], (rows, sources)).astype(np.int32)
    expected = np.where(rank < 0, np.float32(np.nan), rank.astype(np.float32)).T
    for lain in (rank, np.asfortranarray(rank)):
        kept = lain.copy()
        found = ranks_of(Candidates(np.arange(rows, dtype=np.int32), ("a",) * sources, lain.astype(np.float32), lain))
        assert (np.ascontiguousarray(found).view(np.int32) == np.ascontiguousarray(expected).view(np.int32)).all()
        assert found.dtype == np.float32
        assert (lain == kept).all()
