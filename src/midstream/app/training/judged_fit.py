"""Judged fit as gates see it: its figures, those beside the champion, and those of the version that is published."""

from collections.abc import Mapping

import numpy as np
from msgspec.structs import replace

from midstream.app.training.champion_comparison import ChampionComparison
from midstream.evaluation.metrics.list_metrics import ACCURACY, hits_of
from midstream.models.kernels.top_n import top_n
from midstream.models.model import ItemModel, RowModel
from midstream.models.rows.examples import Examples
from midstream.training.datasets import Acts
from midstream.training.gates.evidence import JudgedActs, PairedGap, not_finite
from midstream.training.gates.judging import columns_for, told_apart
from midstream.training.validation import ROW_K, K, ndcg_values, next_items, questions


def judged_items_fit(
    metrics: Mapping[str, float | None], beside: ChampionComparison, published: float | None
) -> JudgedActs:
    """Return what gates judge an item model by; ``published`` is of the version that would serve."""
    name = f"NDCG@{K}"
    count = int(metrics.get("questions") or 0)
    return _with(beside, JudgedActs(
        metric=name,
        figure=metrics.get(name),
        questions=count,
        baseline=metrics.get(f"popular.{name}"),
        published=published,
    ))  # fmt: skip


def judged_rows_fit(
    metrics: Mapping[str, float | None], beside: ChampionComparison, later: Examples, published: RowModel
) -> JudgedActs:
    """Return what gates judge a ranker by; ``later`` are the rows that judged it, ``published`` is what would serve."""
    prefix = "" if metrics.get(f"NDCG@{ROW_K}") is not None else "sampled."
    column, column_auc = told_apart(later)
    values = ndcg_values(later, published.score(columns_for(published, later)))
    known = values[~np.isnan(values)]
    return _with(beside, JudgedActs(
        metric=f"{prefix}NDCG@{ROW_K}",
        figure=metrics.get(f"{prefix}NDCG@{ROW_K}"),
        questions=len(known),
        published=float(np.mean(known)) if len(known) else None,
        auc=metrics.get(f"{prefix}AUC"),
        column=column,
        column_auc=column_auc,
    ))  # fmt: skip


def published_figure(
    fitted: ItemModel, acts: Acts, first: int, history_acts_max: int, *, by_session: bool
) -> float | None:
    """Return the NDCG of what would serve on the questions that judged the other fit; None = there was none."""
    asked, wanted, _ = (next_items if by_session else questions)(acts, first, history_acts_max)
    if not len(asked):
        return None
    return float(np.mean(ACCURACY["NDCG"](hits_of(top_n(fitted, asked, K, asked), wanted), wanted.counts, K)))


def _with(beside: ChampionComparison, judged: JudgedActs) -> JudgedActs:
    """Return figures with those beside the champion; of figures that are no numbers their names alone."""
    if beside.mean is None or beside.low is None or beside.high is None:
        found = replace(judged, why_not=beside.why_not)
    else:
        gap = PairedGap(beside.questions, beside.mean, beside.low, beside.high)
        found = replace(judged, difference=gap, champion=beside.theirs)
    wrong = not_finite(found, "judged")
    return JudgedActs(metric=found.metric, questions=found.questions, faults=wrong) if wrong else found
