"""Feature attribution: the terms of each item's score, where the scorer is a sum of terms.

The blend is a sum over the sources, objectives are a sum over their models, and a model is attributed by
``models.rows.contributions``. The input is the pipeline's result, so no state is needed, and another thread may do it.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from midstream.core.answers.explanations import ScoreParts
from midstream.core.protocols import Scorer
from midstream.core.types import Failure, FeatureFrame, Score, Served
from midstream.models.model import is_row_model
from midstream.models.rows.contributions import contributions
from midstream.ranking.boundary import Account, boundary
from midstream.ranking.frame import ranks_of
from midstream.ranking.plan import Plan
from midstream.ranking.scorers.blend import Blend
from midstream.ranking.scorers.model_scorer import ModelScorer, column_order
from midstream.ranking.scorers.objectives import Objectives


def frame_of(served: Served) -> FeatureFrame:
    """Return the columns that the scorers read of the candidates: those of the sources, then those of the features."""
    candidates = served.candidates
    names = tuple(f"{kind}.{name}" for kind in ("score", "rank") for name in candidates.source_names)
    values: list[Score] = [candidates.source_score, ranks_of(candidates).T]
    if served.features is not None:
        names += served.features.names
        values.append(served.features.values)
    return FeatureFrame(names, np.concatenate(values, axis=1))


def score_parts(
    served: Served, plan: Plan, rows: NDArray[np.intp]
) -> tuple[tuple[ScoreParts, ...], tuple[Failure, ...]]:
    """Return the terms of some candidates' scores, and the failure of a scorer: it has no parts then.

    Args:
        served: Result of the pipeline.
        plan: Plan of the answer, with its models.
        rows: Of the candidates, (n,). Cost of trees: 0.1 s for 20 rows of 300 trees.
    """
    account = Account()
    with boundary(served.scorer, account):
        return _taken_apart(served, plan, rows), ()
    return tuple(ScoreParts(served.scorer) for _ in rows), tuple(account.failures)


def _taken_apart(served: Served, plan: Plan, rows: NDArray[np.intp]) -> tuple[ScoreParts, ...]:
    """Return the terms of some candidates' scores; none where the scorer has no attribution."""
    scorer = next((each for each in plan.scorers if each.name == served.scorer), None)
    frame = frame_of(served)
    if served.learned is not None:
        plan = replace(plan, models=served.learned)
    if isinstance(scorer, Blend):
        return _of_blend(scorer, served, rows)
    if isinstance(scorer, ModelScorer) and scorer.name in plan.models.by_name:
        return _of_model(scorer, plan, frame.names, frame.values[rows])
    if isinstance(scorer, Objectives):
        return _of_objectives(scorer, plan, FeatureFrame(frame.names, frame.values[rows]))
    return tuple(ScoreParts(served.scorer) for _ in rows)


def _of_objectives(scorer: Objectives, plan: Plan, frame: FeatureFrame) -> tuple[ScoreParts, ...]:
    """Return the term of each objective, under the names of their models."""
    terms = scorer.terms(frame, plan.models).T.tolist()
    return tuple(ScoreParts(scorer.name, 0.0, _largest(scorer.model_names, each)) for each in terms)


def _of_blend(blend: Blend, served: Served, rows: NDArray[np.intp]) -> tuple[ScoreParts, ...]:
    names = served.candidates.source_names
    rank = served.candidates.source_rank[rows].T.astype(np.float32)
    rank[rank < 0] = np.nan
    terms = blend.terms_of(names, rank).T
    return tuple(ScoreParts(blend.name, 0.0, _largest(names, each)) for each in terms.tolist())


def _of_model(scorer: Scorer, plan: Plan, names: tuple[str, ...], values: Score) -> tuple[ScoreParts, ...]:
    model = plan.models.by_name[scorer.name]
    nothing = tuple(ScoreParts(scorer.name) for _ in values)
    if not is_row_model(model):
        return nothing
    order = column_order(model.inputs, names)
    read = values[:, np.maximum(order, 0)]
    read[:, order < 0] = np.nan
    told = contributions(model, read)
    if told is None:
        return nothing
    return tuple(
        ScoreParts(scorer.name, told.base, _largest(told.names, each), told.link, told.scale)
        for each in told.values.tolist()
    )


def _largest(names: Sequence[str], values: Sequence[float]) -> dict[str, float | None]:
    """Return the non-zero terms, the largest first; values that are no number come last, as None."""
    told: dict[str, float] = {}
    for name, value in zip(names, values, strict=True):
        told[name] = told.get(name, 0.0) + value
    numbers = [(name, value) for name, value in told.items() if value != 0.0 and math.isfinite(value)]
    unknown = {name: None for name, value in told.items() if not math.isfinite(value)}
    return dict(sorted(numbers, key=lambda each: -abs(each[1]))) | unknown
