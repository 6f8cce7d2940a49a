"""The cut: the best by the blend go on, in their order, and what does not is counted by name."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.types import Candidates, Models
from midstream.ranking.candidate_cutoff import CUT, cut
from midstream.ranking.plan import Plan
from midstream.ranking.scorers.blend import Blend
from midstream.ranking.selectors.top_k import TopK
from midstream.retrieval.catalogue import Catalogue

PLAN = Plan("default", "", (), (), (), Catalogue(), (), (), (Blend(weights={"b": 3.0}),), (TopK(),), Models({}))


def candidates_of(ranks: list[tuple[int, int]]) -> Candidates:
    """Candidates with the ranks that two sources, ``a`` and ``b``, gave them; -1 = not proposed."""
    rank = np.array(ranks, dtype=np.int32).reshape(len(ranks), 2)
    score = np.where(rank < 0, np.nan, 1.0).astype(np.float32)
    return Candidates(np.arange(100, 100 + len(ranks), dtype=np.int32), ("a", "b"), score, rank)


def sums(ranks: list[tuple[int, int]]) -> list[float]:
    """What the blend of the plan says of each, term by term."""
    weights = (1.0, 3.0)
    return [sum(w / (1.0 + r) for w, r in zip(weights, each, strict=True) if r >= 0) for each in ranks]


ranks = st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 9)), min_size=1, max_size=30)


@given(told=ranks, most=st.integers(1, 12))
def test_the_best_by_the_blend_go_on_in_their_order(told, most):
    """As many as may, none worth less than one that was cut, of equal ones those proposed first."""
    candidates = candidates_of(told)
    left, counts = cut(replace(PLAN, candidates_max=most), candidates)
    order = sorted(range(len(told)), key=lambda row: (-np.float32(sums(told)[row]), row))[:most]
    assert left.item_index.tolist() == [100 + row for row in sorted(order)]
    assert left.source_rank.tolist() == [list(told[row]) for row in sorted(order)]
    assert counts == ({CUT: len(told) - most} if len(told) > most else {})


@given(told=ranks, most=st.integers(1, 12), kept=st.sets(st.integers(0, 29), max_size=15))
def test_what_is_to_be_kept_is_never_cut(told, most, kept):
    """Kept rows go on whatever they are worth, and count; where they are more than may go on, they alone do."""
    keep = np.array([row in kept for row in range(len(told))], dtype=np.bool_)
    left, counts = cut(replace(PLAN, candidates_max=most), candidates_of(told), keep)
    rows = {index - 100 for index in left.item_index.tolist()}
    assert {row for row in range(len(told)) if keep[row]} <= rows
    assert len(rows) == min(len(told), max(most, int(keep.sum())))
    assert sum(counts.values()) == len(told) - len(rows)
    if rows - set(np.flatnonzero(keep).tolist()):
        others = [sums(told)[row] for row in rows if not keep[row]]
        assert min(others) >= max((sums(told)[row] for row in set(range(len(told))) - rows), default=0.0) - 1e-6
