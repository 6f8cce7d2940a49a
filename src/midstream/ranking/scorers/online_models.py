"""Models that go on learning, on the request path: their sums as of an answer, and the bins of its items."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from midstream.core.protocols import Scorer
from midstream.core.types import FeatureFrame, Models, Moment
from midstream.models.rows.ftrl import Ftrl
from midstream.models.rows.online_sums import packed_bins
from midstream.ranking.scorers.model_scorer import ModelScorer, columns_of
from midstream.ranking.scorers.objectives import Objectives
from midstream.state.online.online_models import OnlineModels


def models_at(moment: Moment, models: Models) -> Models:
    """Return models of a plan with what those that go on learning have learned; themselves where none does.

    A state that leaves the table out, as one for features alone, has models as they were published.
    """
    table = moment.tables.get(OnlineModels)
    return table.serving(models) if isinstance(table, OnlineModels) and table.is_declared else models


def bins_read(
    scorer: Scorer, models: Models, features: FeatureFrame, rows: NDArray[np.intp], first_position: int
) -> tuple[bytes, ...]:
    """Return what a served record keeps of some rows for each model of a scorer that goes on learning.

    Args:
        scorer: That gave the scores.
        models: Of ``models_at``.
        features: That it read, of all candidates.
        rows: Of the slate.
        first_position: Position of the first row.
    """
    if not isinstance(scorer, ModelScorer | Objectives) or not len(rows):
        return ()
    found: list[bytes] = []
    for name in dict.fromkeys(scorer.model_names):
        model = models.by_name.get(name)
        if isinstance(model, Ftrl) and model.is_online:
            values = FeatureFrame(features.names, features.values[rows])
            found.append(packed_bins(model, columns_of(model.inputs, values), first_position))
    return tuple(dict.fromkeys(found))


def named(scorers: Sequence[Scorer], name: str) -> Scorer:
    """Return the scorer of a name."""
    return next(each for each in scorers if each.name == name)
