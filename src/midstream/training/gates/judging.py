"""Judging of two models on the same newest questions, in one process: for a child that trains, and for simulations.

Neither of the two may have learned the questions. The interval is that of a paired bootstrap by owner.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.metrics.click_metrics import auc
from midstream.evaluation.metrics.list_metrics import ACCURACY, RelevantItems, hits_of
from midstream.evaluation.metrics.statistics import Resampling, difference
from midstream.models.histories import Histories
from midstream.models.kernels.top_n import top_n
from midstream.models.model import ItemModel, RowModel
from midstream.models.rows.examples import Examples
from midstream.training.gates.evidence import JudgedActs, PairedGap
from midstream.training.validation import ROW_K, K, ndcg_values

OWNERS_MIN = 6
"""Users, else sessions, of whom an interval can be told."""
Values = NDArray[np.float64]


def judged_rows(
    candidate: RowModel, champion: RowModel | None, later: Examples, insider: RowModel | None = None
) -> JudgedActs:
    """Return how rankers order requests that none of them has learned.

    Args:
        candidate: Evaluated fit.
        champion: In service; None = none.
        later: Requests, with the columns of all.
        insider: A fit of the candidate's kind that knows the later requests of all others; None = there is none.
    """
    if not len(later):
        return JudgedActs(metric=f"NDCG@{ROW_K}", why_not="there are no later requests")
    owner = np.arange(len(later.time_ms), dtype=np.uint64) if later.owner is None else later.owner
    score = candidate.score(columns_for(candidate, later))
    own = ndcg_values(later, score)
    theirs = None if champion is None else ndcg_values(later, champion.score(columns_for(champion, later)))
    inside = None if insider is None else ndcg_values(later, insider.score(columns_for(insider, later)))
    name, column = told_apart(later)
    told = float(auc(later.label > 0, score, later.weight)) if np.isfinite(score).all() else None
    known = ~np.isnan(own)
    return JudgedActs(
        metric=f"NDCG@{ROW_K}",
        figure=_mean(own),
        questions=int(np.count_nonzero(known)),
        champion=None if theirs is None else _mean(theirs),
        difference=None if theirs is None else paired(own, theirs, owner),
        why_not="" if champion is not None else "no version is in service",
        auc=None if told is None or np.isnan(told) else told,
        column=name,
        column_auc=column,
        foresight=None if inside is None else paired(own, inside, owner),
    )


def judged_items(
    candidate: ItemModel,
    champion: ItemModel | None,
    asked: Histories,
    wanted: RelevantItems,
    owner: NDArray[np.uint64],
    others: Sequence[ItemModel | None] = (None, None),
) -> JudgedActs:
    """Return how item models find what histories went on with; all have one vocabulary.

    Args:
        candidate: Evaluated fit.
        champion: In service; None = none.
        asked: Histories.
        wanted: What each went on with.
        owner: Whose each is.
        others: The most popular items, and a fit that knows the later acts of all others; None = there is none.
    """
    if not len(asked):
        return JudgedActs(metric=f"NDCG@{K}", why_not="no history goes on among the newest acts")

    def values(model: ItemModel) -> Values:
        found: Values = ACCURACY["NDCG"](hits_of(top_n(model, asked, K, asked), wanted), wanted.counts, K)
        return found

    own = values(candidate)
    theirs, popular, inside = (None if each is None else values(each) for each in (champion, *others))
    return JudgedActs(
        metric=f"NDCG@{K}",
        figure=_mean(own),
        questions=len(own),
        baseline=None if popular is None else _mean(popular),
        champion=None if theirs is None else _mean(theirs),
        difference=None if theirs is None else paired(own, theirs, owner),
        why_not="" if champion is not None else "no version is in service",
        foresight=None if inside is None else paired(own, inside, owner),
    )


def columns_for(model: RowModel, rows: Examples) -> NDArray[np.float32]:
    """Return the columns that a model reads, in its order.

    Raises:
        ValueError: One is not there.
    """
    places = [rows.names.index(name) for name in model.inputs]
    return np.ascontiguousarray(rows.values[:, places])


def told_apart(rows: Examples) -> tuple[str, float | None]:
    """Return the column that alone tells best what was acted on, and its AUC in whichever direction.

    An unknown value stands for the lowest. Cost: a sort of each column.
    """
    good, best = rows.label > 0, ("", None)
    if good.all() or not good.any():
        return "", None
    found: list[tuple[float, str]] = []
    for place, name in enumerate(rows.names):
        column = np.nan_to_num(rows.values[:, place], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        told = float(auc(good, column, rows.weight))
        if not np.isnan(told):
            found.append((max(told, 1.0 - told), name))
    if not found:
        return best
    figure, name = max(found)
    return name, figure


def paired(own: Values, theirs: Values, owner: NDArray[np.uint64]) -> PairedGap | None:
    """Return the mean difference by question, NaN = nothing to answer; None = fewer than six owners asked."""
    known = ~(np.isnan(own) | np.isnan(theirs))
    groups = np.unique(owner[known], return_inverse=True)[1]
    if not len(groups) or groups.max() + 1 < OWNERS_MIN:
        return None
    found = difference(own[known], theirs[known], groups, Resampling())
    return PairedGap(int(np.count_nonzero(known)), found.mean, found.low, found.high)


def _mean(values: Values) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if len(known) else None
