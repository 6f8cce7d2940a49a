"""Columns of the candidates: proposals merged, and what is known of each candidate side by side."""

from collections.abc import Mapping

import numpy as np

from midstream.core.errors import ShapeMismatch
from midstream.core.protocols import Feature
from midstream.core.types import Candidates, Failure, FeatureFrame, Index, Moment, Proposal, Score
from midstream.ranking.boundary import boundary


def checked(proposal: Proposal, item_count: int) -> Proposal:
    """Return a proposal whose columns go together and whose items exist, whoever wrote the source.

    Raises:
        ShapeMismatch: They do not; the source then counts as failed.
    """
    item_index, score = proposal.item_index, proposal.score
    if item_index.ndim != 1 or item_index.shape != score.shape:
        message = f"items of shape {item_index.shape} came with scores of shape {score.shape}"
        raise ShapeMismatch(message)
    if item_index.dtype != np.int32 or score.dtype != np.float32:
        message = f"items came as {item_index.dtype}, scores as {score.dtype}: int32 and float32 are right"
        raise ShapeMismatch(message)
    # As unsigned a negative index is larger than every item: one pass instead of two.
    if len(item_index) and item_index.view(np.uint32).max() >= item_count:
        message = f"an item index outside 0 to {item_count - 1}"
        raise ShapeMismatch(message)
    return proposal


def merge(proposals: Mapping[str, Proposal]) -> Candidates:
    """Return distinct items in order of first proposal, with one score and one rank column a source.

    Cost: about 30 µs for 450 proposals of three sources. Item and place are sorted as one 64-bit number, which is
    faster than ``np.unique`` with its indices, and needs no scratch that would outlive the request.
    """
    names = tuple(proposals)
    each = list(proposals.values())
    counts = [len(proposal.item_index) for proposal in each]
    total = sum(counts)
    if total == 0:
        return Candidates(
            np.empty(0, np.int32), names, np.empty((0, len(names)), np.float32), np.empty((0, len(names)), np.int32)
        )
    stacked = np.concatenate([proposal.item_index for proposal in each])
    place = np.arange(total)
    key = (stacked.astype(np.int64) << 32) | place
    key.sort()
    by_item = key & 0xFFFFFFFF
    item = key >> 32
    is_first = np.empty(total, dtype=np.bool_)
    is_first[0] = True
    np.not_equal(item[1:], item[:-1], out=is_first[1:])
    first_place = by_item[is_first]
    is_new = np.zeros(total, dtype=np.bool_)
    is_new[first_place] = True
    # Rows are numbered by first proposal; every place of an item gets the row of its first one.
    row = np.empty(total, dtype=np.int64)
    row[by_item] = (np.cumsum(is_new) - 1)[first_place][np.cumsum(is_first) - 1]
    distinct = stacked[is_new]
    score = np.full((len(distinct), len(names)), np.nan, dtype=np.float32)
    rank = np.full((len(distinct), len(names)), -1, dtype=np.int32)
    start = 0
    for column, (proposal, count) in enumerate(zip(each, counts, strict=True)):
        rows = row[start : start + count]
        score[rows, column] = proposal.score
        rank[rows, column] = place[:count]
        start += count
    return Candidates(distinct, names, score, rank)


def extend(candidates: Candidates, name: str, item_index: Index, first_rank: int) -> Candidates:
    """Return the candidates with further items behind them that only ``name`` proposes, in order, from a rank on."""
    column = len(candidates.source_names)
    old, new = len(candidates), len(item_index)
    score = np.full((old + new, column + 1), np.nan, dtype=np.float32)
    score[:old, :column] = candidates.source_score
    score[old:, column] = 0.0
    rank = np.full((old + new, column + 1), -1, dtype=np.int32)
    rank[:old, :column] = candidates.source_rank
    rank[old:, column] = np.arange(first_rank, first_rank + new)
    return Candidates(
        np.concatenate([candidates.item_index, item_index]), (*candidates.source_names, name), score, rank
    )


def read(blocks: tuple[Feature, ...], moment: Moment, candidates: Candidates, failures: list[Failure]) -> FeatureFrame:
    """Return what scorers read: ``score.<source>``, ``rank.<source>``, then the columns of each block.

    A rank is 0 for the source's best and NaN where it did not propose the item. A block that fails is all NaN.
    """
    sources = candidates.source_names
    names = (*(f"score.{name}" for name in sources), *(f"rank.{name}" for name in sources))
    rank = candidates.source_rank.astype(np.float32)
    rank[rank < 0] = np.nan
    values: list[Score] = [candidates.source_score, rank]
    for block in blocks:
        names += block.names
        values.append(np.full((len(candidates), len(block.names)), np.nan, dtype=np.float32))
        with boundary(block.names[0], failures):
            values[-1][:] = block.read(moment, candidates)
    return FeatureFrame(names, np.concatenate(values, axis=1))
