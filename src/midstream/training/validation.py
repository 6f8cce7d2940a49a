"""Validation of a fit on acts newer than its training data: every item ranked, none sampled."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.metrics.click_metrics import auc, calibration_error, log_losses, reliability
from midstream.evaluation.metrics.list_metrics import ACCURACY, RelevantItems, hits_of
from midstream.models.histories import Histories
from midstream.models.items.popular import PopularOptions, fit
from midstream.models.kernels.top_n import top_n
from midstream.models.model import ItemModel, RowModel
from midstream.models.rows.examples import Examples
from midstream.training.datasets import Acts

K = 20
QUESTIONS_MAX = 10_000
"""Questions, evenly spread over all histories: the standard error is 1 % of the metric's spread."""
ROW_K = 10
METRICS = ("HR", "recall", "NDCG", "MRR")


def validation_of(
    model: ItemModel, acts: Acts, first: int, history_acts_max: int, *, by_session: bool = False
) -> Mapping[str, float | None]:
    """Return the metrics of a fit on the acts before a log position, for those from there on.

    A question is a history with acts on both sides. Relevant are the later items that are not in the history; items of
    the history may not be recommended. Few sessions have acts on both sides: with histories of sessions a question is
    each later act, with the acts before it. ``popular.…`` are the metrics of the most popular items, for the same
    questions.

    Args:
        model: Fitted on the acts before ``first``.
        acts: All.
        first: Log position at which the questions begin.
        history_acts_max: Newest acts of each history.
        by_session: Histories are those of sessions.

    Returns:
        Metric to value, ``questions`` among them; None = there is no question.
    """
    asked, wanted, _ = (next_items if by_session else questions)(acts, first, history_acts_max)
    found: dict[str, float | None] = {"questions": float(len(asked))}
    popular = fit(acts.interactions(history_acts_max, first), PopularOptions())
    for prefix, each in (("", model), ("popular.", popular)):
        hits = hits_of(top_n(each, asked, K, asked), wanted) if len(asked) else None
        for name in METRICS:
            value = None if hits is None else float(np.mean(ACCURACY[name](hits, wanted.counts, K)))
            found[f"{prefix}{name}@{K}"] = value
    return found


def questions(acts: Acts, first: int, history_acts_max: int) -> tuple[Histories, RelevantItems, NDArray[np.uint64]]:
    """Return the histories of the questions, the relevant new items of each, at least one, and its owner."""
    before, whose = acts.histories(history_acts_max, stop=first)
    after, later = acts.histories(history_acts_max, first=first)
    place = np.minimum(np.searchsorted(whose, later), max(len(whose) - 1, 0))
    asked: list[Histories] = []
    right: list[list[int]] = []
    owners: list[int] = []
    known = np.flatnonzero(whose[place] == later) if len(whose) else np.empty(0, dtype=np.intp)
    for number in known[:: max(1, -(-len(known) // QUESTIONS_MAX))].tolist():
        own = before.part(int(place[number]), int(place[number]) + 1)
        new = sorted(set(after.part(number, number + 1).row.tolist()).difference(own.row.tolist()))
        if new:
            asked.append(own)
            right.append(new)
            owners.append(int(later[number]))
    return Histories.joined(asked), RelevantItems.of(right), np.array(owners, dtype=np.uint64)


def next_items(acts: Acts, first: int, history_acts_max: int) -> tuple[Histories, RelevantItems, NDArray[np.uint64]]:
    """Return a session's history before each of its acts from a log position on, the item of the act, and the session.

    Items of the history may not be recommended, so acts on those are no question.

    Args:
        acts: Of sessions.
        first: Log position of the first question.
        history_acts_max: Newest acts of a question.
    """
    order = np.argsort(acts.owner, kind="stable")
    owner, item, weight = acts.owner[order], acts.item[order], acts.weight[order]
    _, begin, count = np.unique(owner, return_index=True, return_counts=True)
    begins = np.repeat(begin, count)
    at = np.flatnonzero((np.arange(len(order)) > begins) & (acts.position[order] >= first))
    asked: list[Histories] = []
    right: list[list[int]] = []
    owners: list[int] = []
    for number in at[:: max(1, -(-len(at) // QUESTIONS_MAX))].tolist():
        before = slice(max(int(begins[number]), number - history_acts_max), number)
        had = item[begins[number] : number]
        if item[number] not in had:
            asked.append(Histories(item[before], weight[before], np.array([0, number - before.start], dtype=np.int64)))
            right.append([int(item[number])])
            owners.append(int(owner[number]))
    return Histories.joined(asked), RelevantItems.of(right), np.array(owners, dtype=np.uint64)


def row_validation_of(
    model: RowModel, later: Examples, *, is_probability: bool = False, is_sampled: bool = False
) -> Mapping[str, float | None]:
    """Return metrics of a ranker on rows later than its training data: ranking, discrimination, calibration.

    ``NDCG@10`` is the mean over the requests with a row of worth above 0, with the worth as gain. ``served.NDCG@10`` is
    that of the served order, where it is known, and for candidates of a replay ``blend.NDCG@10`` that of the sources'
    blend, without a model. Rows of equal scores have no order: the value is the mean over all of theirs. ``AUC`` is the
    probability that a row worth more than 0 scores above one that is not, over all rows. ``log_loss`` and ``ECE``, the
    mean distance of predicted and observed over ten bins of equal width, measure calibration, each row by its weight.

    Args:
        model: Fitted on earlier rows.
        later: Rows of the validation.
        is_probability: Whether scores are probabilities; else ``log_loss`` and ``ECE`` are None.
        is_sampled: Whether the rows are some of the candidates: ``sampled.NDCG@10`` and so on, since figures over all
            candidates are lower and may order models in another way.

    Returns:
        Metric to value, ``requests`` and ``rows`` among them; None = undefined.
    """
    score = model.score(later.values) if len(later) else np.empty(0, dtype=np.float32)
    is_known = bool((later.position >= 0).all()) and len(later) > 0
    is_good = later.label > 0
    tells_apart = auc(is_good, score, later.weight)
    shown = "blend" if is_sampled else "served"
    found = {
        "requests": float(len(later.request_sizes)),
        "rows": float(len(later)),
        f"NDCG@{ROW_K}": _ndcg(later, score),
        f"{shown}.NDCG@{ROW_K}": _ndcg(later, -later.position.astype(np.float32)) if is_known else None,
        "AUC": None if tells_apart != tells_apart else tells_apart,  # noqa: PLR0124  NaN
        **(_calibration(is_good, score, later.weight) if is_probability else {"log_loss": None, "ECE": None}),
    }
    prefix = "sampled." if is_sampled else ""
    return {name if name in {"requests", "rows"} else prefix + name: value for name, value in found.items()}


def _ndcg(rows: Examples, score: NDArray[np.float32]) -> float | None:
    """Return the mean NDCG of the requests that have anything of worth."""
    values = ndcg_values(rows, score)
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if len(known) else None


def ndcg_values(rows: Examples, score: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the NDCG@10 of each request, the mean over all orders of equal scores; NaN without a row of worth.

    In such an order each row of a tie is as likely at each of its positions, so each position gains the mean of the
    tie.

    Reference: F. McSherry, M. Najork, "Computing information retrieval performance measures efficiently in the presence
    of tied scores", ECIR 2008.
    """
    discount = 1.0 / np.log2(np.arange(ROW_K) + 2.0)
    found = np.full(len(rows.start) - 1, np.nan)
    for number, (begin, end) in enumerate(pairwise(rows.start.tolist())):
        gain = np.maximum(rows.label[begin:end].astype(np.float64), 0.0)
        if not gain.any():
            continue
        _, tie, sizes = np.unique(-score[begin:end], return_inverse=True, return_counts=True)
        expected = np.repeat(np.bincount(tie, gain) / sizes, sizes)[:ROW_K]
        best = np.sort(gain)[::-1][:ROW_K]
        found[number] = float(expected @ discount[: len(expected)]) / float(best @ discount[: len(best)])
    return found


def _calibration(
    is_good: NDArray[np.bool_], probability: NDArray[np.float32], weight: NDArray[np.float32]
) -> Mapping[str, float | None]:
    """Return how true probabilities are; nothing of no rows."""
    if not len(is_good):
        return {"log_loss": None, "ECE": None}
    losses = float(np.average(log_losses(is_good, probability), weights=weight))
    return {"log_loss": losses, "ECE": calibration_error(reliability(is_good, probability, weight=weight))}
