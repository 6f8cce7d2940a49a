"""Diversity against accuracy: what lists are worth, and how unlike their items are, weight by weight.

Each weight of maximal marginal relevance orders the same candidates with the same scores, by the arrangement that
serves, so what parts two points of the curve is the weight alone. Lists are of k places; an item is like another by
the share of common values of an attribute.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_matrix

from midstream.core.types import FeatureFrame, Index, Query, Score, TimestampMs
from midstream.evaluation.data.interactions import Rows
from midstream.evaluation.metrics.list_metrics import attribute_diversity
from midstream.evaluation.metrics.metrics import coverage, discounted_gain, hit, rank_of
from midstream.evaluation.metrics.statistics import Estimate, PairedDifference, Resampling, difference, estimate, holm
from midstream.evaluation.source_proposals import Offsets
from midstream.ranking.rules.arrangement import Arrangement
from midstream.ranking.rules.diversity import Diversity
from midstream.ranking.rules.rules import CandidateFacts
from midstream.ranking.selectors.top_k import TopK

WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Of likeness: 0 = the score alone, 1 = a double of an item above is worth less than the worst candidate."""


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """The candidates of n questions with their scores, end to end."""

    score: Score
    """(rows,)."""
    item_index: Index
    """(rows,)."""
    start: Offsets
    """First row of each question, and behind them the number of rows, (n + 1,)."""
    wanted: Index
    """The right item, -1 = it is no candidate, (n,)."""
    session: Rows
    """(n,)."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Lists by one weight."""

    weight: float
    ndcg: Estimate
    hit_rate: Estimate
    distance: Estimate
    """Inside a list: 1 less the mean share of common values over its pairs."""
    coverage: float
    """Share of the items that are in one list at least."""
    ndcg_difference: PairedDifference
    """Less that of the first weight."""
    distance_difference: PairedDifference


@dataclass(frozen=True, slots=True)
class DiversityReport:
    """The curve of one data set."""

    data: str
    ranker: str
    """Whose scores."""
    attribute: str
    k: int
    questions: int
    points: tuple[CurvePoint, ...]


def diversity_curve(
    lists: Lists, codes: Index, k: int, resampling: Resampling, weights: Sequence[float] = WEIGHTS
) -> tuple[CurvePoint, ...]:
    """Return a point a weight.

    Args:
        lists: Candidates and scores.
        codes: Values of the attribute of every item, (items, w), -1 = none.
        k: Places of a list.
        resampling: Of the intervals, over sessions.
        weights: Rising, the first what the others are compared with.

    Cost: 0.3 ms a question and weight, for lists of 20 from 100 candidates.
    """
    values = _values(codes)
    found: list[CurvePoint] = []
    first: tuple[np.ndarray[tuple[int], np.dtype[np.float64]], ...] = ()
    for weight in weights:
        made = _lists(lists, codes, weight, k)
        rank = rank_of(made, lists.wanted)
        worth = (discounted_gain(rank, k), attribute_diversity(made, values))
        first = first or worth
        is_known = ~np.isnan(worth[1]) & ~np.isnan(first[1])
        found.append(
            CurvePoint(
                weight,
                estimate(worth[0], lists.session, resampling),
                estimate(hit(rank, k), lists.session, resampling),
                estimate(worth[1], lists.session, resampling),
                coverage(made, len(codes)),
                difference(worth[0], first[0], lists.session, resampling),
                difference(worth[1][is_known], first[1][is_known], lists.session[is_known], resampling),
            )
        )
    less = holm([each.ndcg_difference for each in found[1:]])
    return *found[:1], *(replace(each, ndcg_difference=test) for each, test in zip(found[1:], less, strict=True))


def _values(codes: Index) -> csr_matrix:
    """Return which item has which value, (items, values)."""
    item, place = np.nonzero(codes >= 0)
    value = codes[item, place]
    shape = (len(codes), int(codes.max(initial=-1)) + 1)
    return csr_matrix((np.ones(len(item)), (item, value)), shape=shape)


def _lists(lists: Lists, codes: Index, weight: float, k: int) -> Index:
    """Return the list of each question, (n, k), filled up with -1."""
    made = np.full((len(lists.wanted), k), -1, dtype=np.int32)
    arrangement = Arrangement((), Diversity(attribute="", weight=weight)) if weight > 0 else None
    nobody = FeatureFrame((), np.empty((0, 0), dtype=np.float32))
    query = Query("", "", None, None, k, TimestampMs(0), 0)
    for number, row in enumerate(made):
        own = slice(int(lists.start[number]), int(lists.start[number + 1]))
        score, items = lists.score[own], lists.item_index[own]
        if arrangement is None:
            chosen = TopK().select(query, nobody, score).chosen
        else:
            chosen = arrangement.select(TopK(), query, nobody, score, CandidateFacts(items, values=codes[items])).chosen
        row[: len(chosen)] = items[chosen]
    return made
